import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startNats, startNatsCluster, waitFor } from '@flotilla/testkit';
import { nkeys } from 'nats';
import { afterEach, describe, expect, it } from 'vitest';
import { Bus, type BusOptions, createLogger, ensureEventStream, eventStream } from '../src/index.ts';

const logger = createLogger({ service: 'test', instance: 'i', level: 'silent' });
const toStop: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const stop of toStop.splice(0).reverse()) await stop();
});

async function enter(options: Pick<BusOptions, 'url' | 'user' | 'password' | 'credentials' | 'tls'>): Promise<Bus> {
  const bus = await Bus.connect({ engineId: 'e', name: 'test', logger, ...options });
  toStop.push(() => bus.close());
  return bus;
}

/** What one says the other hears. */
async function talk(a: Bus, b: Bus): Promise<void> {
  const heard: string[] = [];
  const end = b.subscribe(b.subject('talk'), (payload) => heard.push(Buffer.from(payload).toString()));
  await b.connection.flush();
  await waitFor(() => {
    // The servers of a cluster tell each other of subscriptions in their own time.
    a.publish(a.subject('talk'), Buffer.from('hello'));
    return heard.includes('hello');
  });
  end();
}

describe('an outside NATS', () => {
  it('that is a cluster: events are kept by three servers, and the death of one is a pause', async () => {
    const cluster = await startNatsCluster();
    toStop.push(() => cluster.stop());
    const [a, b] = [await enter({ url: cluster.url }), await enter({ url: cluster.url })];
    const made = await waitFor(() => ensureEventStream(a), { what: 'the stream', timeoutMs: 20_000 });
    const manager = await a.connection.jetstreamManager();
    expect((await manager.streams.info(eventStream)).config.num_replicas).toBe(3);
    // Made when there was one server only: it is kept by three as soon as a service looks.
    await manager.streams.update(eventStream, { num_replicas: 1 });
    expect(await ensureEventStream(b)).toBe(made);
    expect((await manager.streams.info(eventStream)).config.num_replicas).toBe(3);
    const publish = (bus: Bus): Promise<unknown> =>
      waitFor(() => bus.connection.jetstream().publish(bus.subject('events', 'container'), Buffer.from('x'), { timeout: 2_000 }), {
        what: 'an event to be taken',
        timeoutMs: 30_000,
      });
    await publish(a);
    const ofA = a.connection.getServer();
    await cluster.servers.find(({ port }) => ofA.endsWith(`:${port}`))?.process.crash();
    await publish(a);
    expect(await waitFor(() => ensureEventStream(a), { timeoutMs: 20_000 })).toBe(made);
    expect((await (await b.connection.jetstreamManager()).streams.info(eventStream)).state.messages).toBeGreaterThanOrEqual(2);
    await talk(a, b);
  }, 120_000);

  it('with a token, with an nkey, over TLS by a certificate of its own: only who has them gets in', async () => {
    const withToken = await startNats({ token: 'a-token' });
    toStop.push(() => withToken.stop());
    await talk(await enter({ url: withToken.url, user: 'a-token' }), await enter({ url: withToken.url, user: 'a-token' }));

    const directory = mkdtempSync(join(tmpdir(), 'outside-nats-'));
    toStop.push(async () => rmSync(directory, { recursive: true }));
    const [cert, key] = [join(directory, 'cert'), join(directory, 'key')];
    const subject = ['-nodes', '-days', '1', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
    execFileSync(
      'openssl',
      ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-keyout', key, '-out', cert, ...subject],
      {
        stdio: 'pipe',
      },
    );
    const user = nkeys.createUser();
    const cluster = await startNatsCluster([
      `tls { cert_file: ${JSON.stringify(cert)}, key_file: ${JSON.stringify(key)} }`,
      `authorization { users: [{ nkey: ${user.getPublicKey()} }] }`,
    ]);
    toStop.push(() => cluster.stop());
    const url = cluster.url.replaceAll('nats://', 'tls://');
    const ours = { url, tls: { ca: readFileSync(cert, 'utf8') }, credentials: `${Buffer.from(user.getSeed()).toString()}\n` };
    await talk(await enter(ours), await enter(ours));
    const other = Buffer.from(nkeys.createUser().getSeed()).toString();
    for (const wrong of [
      { ...ours, credentials: other },
      { ...ours, tls: {} },
    ]) {
      await expect(Bus.connectAtOnce({ engineId: 'e', name: 'test', logger, ...wrong })).rejects.toThrow();
    }
  }, 120_000);
});
