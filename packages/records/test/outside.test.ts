import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { createLogger } from '@flotilla/service-kit';
import { freePort, type RedisFleet, ServerProcess, startCluster, startSentinels, waitFor } from '@flotilla/testkit';
import { afterEach, describe, expect, it } from 'vitest';
import { RecordStore } from '../src/index.ts';
import { openRedis } from '../src/redisClient.ts';
import type { StoreOptions } from '../src/store.ts';

interface Thing {
  readonly n: number;
}

const logger = createLogger({ service: 'test', instance: 'i', level: 'silent' });
const toStop: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const stop of toStop.splice(0).reverse()) await stop();
});

async function open(options: Pick<StoreOptions, 'url' | 'user' | 'password' | 'tls'>, service = 'test'): Promise<RecordStore> {
  const store = await RecordStore.open({ engineId: 'outside', service, logger, alone: () => false, ...options });
  toStop.push(() => store.close());
  return store;
}

const things = (store: RecordStore) => store.collection<Thing>('thing');

/** One instance writes and one follows while the master dies. Every commit is answered in bounded time, and what was answered is there for all. */
async function failOver(fleet: RedisFleet, harm: 'SIGKILL' | 'SIGSTOP'): Promise<void> {
  const { url, password } = fleet;
  const [a, b] = [await open({ url, password }), await open({ url, password })];
  const made = new Set<string>();
  let refused = 0;
  let longestMs = 0;
  let isOver = false;
  const work = async (store: RecordStore): Promise<void> => {
    for (let n = 0; !isOver; n++) {
      const id = `a${n}`;
      const began = Date.now();
      try {
        await store.commit({ puts: [things(store).put(id, { n }, { create: true })] });
        made.add(id);
      } catch (error) {
        expect(error).toMatchObject({ kind: 'Unavailable' });
        refused++;
      }
      longestMs = Math.max(longestMs, Date.now() - began);
      await pause(2);
    }
  };
  const working = work(a);
  await waitFor(() => made.size > 50, { what: 'work' });
  const master = await fleet.master('flotilla:{outside:test}:records');
  const before = made.size;
  process.kill(master.process.pid, harm);
  // A sentinel without a turn for two seconds stands by for thirty (TILT).
  await waitFor(() => made.size > before + 50, { what: 'work to go on', timeoutMs: 150_000 });
  isOver = true;
  await working;
  expect(longestMs).toBeLessThan(20_000);
  await a.withLease('x', async (lease) => {
    await a.commit({ puts: [things(a).put('last', { n: refused })], lease });
  });
  await waitFor(() => things(b).has('last'), { what: 'the follower to see it', timeoutMs: 20_000 });
  const fresh = await open({ url, password });
  for (const store of [a, b, fresh]) expect([...made].filter((id) => !things(store).has(id))).toEqual([]);
}

describe('an outside Redis', () => {
  it.each(['SIGKILL', 'SIGSTOP'] as const)(
    'watched by sentinels: what was answered outlives a master that gets a %s',
    async (harm) => {
      const fleet = await startSentinels();
      toStop.push(() => fleet.stop());
      await failOver(fleet, harm);
    },
    240_000,
  );

  it('watched by sentinels: a client that was closed stays closed', async () => {
    const fleet = await startSentinels();
    toStop.push(() => fleet.stop());
    for (const end of ['disconnect', 'quit'] as const) {
      const redis = openRedis(fleet, {});
      await redis.ping();
      await redis[end]();
      await pause(500);
      expect(redis.status).toBe('end');
    }
  }, 60_000);

  it('that is a cluster: each service’s keys are in one slot, and what was answered outlives the master', async () => {
    const fleet = await startCluster();
    toStop.push(() => fleet.stop());
    // Enough services that they are on different nodes.
    for (const service of ['one', 'two', 'three', 'four']) {
      const store = await open({ url: fleet.url, password: fleet.password }, service);
      await store.commit({ puts: [things(store).put('a', { n: 1 })], events: [] });
      await store.withLease('a', async (lease) => store.commit({ puts: [things(store).put('a', { n: 2 })], lease }));
      const second = await open({ url: fleet.url, password: fleet.password }, service);
      expect(things(second).get('a')).toEqual({ n: 2 });
      await second.commit({ puts: [things(second).put('b', { n: 3 })] });
      await store.fresh();
      expect(things(store).get('b')).toEqual({ n: 3 });
    }
    const masters = new Set<number>();
    for (const service of ['one', 'two', 'three', 'four']) masters.add((await fleet.master(`flotilla:{outside:${service}}:records`)).port);
    expect(masters.size).toBeGreaterThan(1);
    await failOver(fleet, 'SIGKILL');
  }, 240_000);

  it('over TLS with a user of its own: only who trusts its authority and knows the password gets in', async () => {
    const port = await freePort();
    const server = ServerProcess.start('redis-tls', undefined, (directory) => {
      const file = (name: string): string => join(directory, name);
      const openssl = (...args: string[]): void => void execFileSync('openssl', args, { stdio: 'pipe' });
      const subject = ['-nodes', '-days', '1', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
      openssl(
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:P-256',
        '-keyout',
        file('key'),
        '-out',
        file('cert'),
        ...subject,
      );
      const tls = [
        '--tls-port',
        String(port),
        '--tls-cert-file',
        file('cert'),
        '--tls-key-file',
        file('key'),
        '--tls-ca-cert-file',
        file('cert'),
      ];
      const user = ['--user', 'me', 'on', '>secret', '~flotilla:{outside:test}:*', '&*', '+@all', '--user', 'default', 'off'];
      return ['redis-server', '--port', '0', '--bind', '127.0.0.1', '--dir', directory, '--tls-auth-clients', 'no', ...tls, ...user];
    });
    toStop.push(() => server.stop());
    await waitFor(() => server.output.includes('eady to accept connections'), { what: 'redis-server' });
    const ca = readFileSync(join(server.directory, 'cert'), 'utf8');
    const account = { url: `rediss://127.0.0.1:${port}`, user: 'me', password: 'secret' };
    const store = await open({ ...account, tls: { ca } });
    await store.commit({ puts: [things(store).put('a', { n: 1 })] });
    for (const wrong of [account, { ...account, tls: { ca }, password: 'wrong' }]) {
      const redis = openRedis(wrong, { retryStrategy: () => null, maxRetriesPerRequest: 0 });
      await expect(redis.ping()).rejects.toThrow();
      redis.disconnect();
    }
  }, 60_000);
});
