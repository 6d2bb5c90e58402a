/** Replicas that keep their files apart and share a Redis: together they ask an upstream once, and one goes on where another died. */
import { randomBytes } from 'node:crypto';
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startRedis, type TestRedis, waitFor } from '@flotilla/testkit';
import { hashSync } from 'bcryptjs';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Authority } from './support/certificates.ts';
import { registryAuth } from './support/proxy.ts';
import { StandaloneProcess } from './support/standalone.ts';
import { denied, StandIn, sha256, unauthorized } from './support/standIn.ts';

const size = 4 * 1024 * 1024;
let redis: TestRedis;
let upstream: StandIn;
const replicas: StandaloneProcess[] = [];

beforeAll(async () => {
  redis = await startRedis();
  upstream = await StandIn.start();
  const env = { FLOTILLA_REDIS_URL: redis.url };
  for (let count = 0; count < 3; count++) replicas.push(await StandaloneProcess.start(env));
  await allKnown();
}, 120_000);
afterAll(async () => {
  await Promise.all(replicas.map((replica) => replica.stop()));
  await upstream?.stop();
  await redis?.stop();
});
afterEach(() => {
  upstream.requests.length = 0;
  upstream.guard = undefined;
  upstream.mishap = undefined;
});

/** Each of the living has seen all of them. */
const allKnown = async (count = 3, living = replicas): Promise<void> => {
  for (const replica of living) {
    const known = async (): Promise<boolean> =>
      (await replica.get('/metrics')).bytes.toString().includes(`flotilla_registry_replicas ${count}\n`);
    await waitFor(known, { what: `${count} replicas`, timeoutMs: 20_000 });
  }
};

const gets = (): (string | undefined)[] =>
  upstream.requests.filter(({ method, path }) => method === 'GET' && path.includes('/blobs/')).map(({ range }) => range);
const slowly = (digest: string): void => {
  upstream.mishap = async (request, response, path) => {
    if (request.method !== 'GET' || !path.includes(digest)) return false;
    await upstream.sendBlob(request, response, `app/${digest}`, { chunkBytes: 128 * 1024, pauseMs: 25 });
    return true;
  };
};
const held = (replica: StandaloneProcess, digest: string): number => {
  const partial = join(replica.root, 'partial', digest.replace(':', '-'));
  return existsSync(partial) ? statSync(partial).size : 0;
};

it('ask an upstream once for a blob and once for a manifest, however many clients and replicas', async () => {
  for (let round = 0; round < 4; round++) {
    const digest = upstream.addBlob('app', randomBytes(size / 4));
    slowly(digest);
    const path = `/v2/${upstream.host}/app/blobs/${digest}`;
    const answers = await Promise.all([...replicas, ...replicas, ...replicas].map((replica) => replica.get(path)));
    for (const { bytes } of answers) expect(sha256(bytes)).toBe(digest);
    expect(gets()).toHaveLength(round + 1);
  }
  upstream.addManifest('app', 'latest', { a: 1 });
  const manifest = `/v2/${upstream.host}/app/manifests/latest`;
  const answers = await Promise.all([...replicas, ...replicas].map((replica) => replica.get(manifest)));
  for (const { status } of answers) expect(status).toBe(200);
  expect(upstream.count('GET', '/v2/app/manifests/latest')).toBe(1);
});

it('go on where the one that fetched was killed', async () => {
  const content = randomBytes(size);
  const digest = upstream.addBlob('app', content);
  const killed = Promise.withResolvers<void>();
  // Half of it, and no more before the end of the one who asked.
  upstream.mishap = async (request, response, asked) => {
    if (request.method !== 'GET' || request.headers.range !== undefined || !asked.includes(digest)) return false;
    response.writeHead(200, { 'content-length': size }).write(content.subarray(0, size / 2));
    await killed.promise;
    response.destroy();
    return true;
  };
  const path = `/v2/${upstream.host}/app/blobs/${digest}`;
  const answers = replicas.map((replica) => replica.get(path).catch(() => undefined));
  await waitFor(() => replicas.every((replica) => held(replica, digest) > size / 4), { what: 'a part of the blob on each' });
  expect(gets()).toEqual([undefined]);
  // It is the one that Redis names.
  const client = redis.client();
  const holder = await client.get(`flotilla:{registry:registry-proxy}:fill:blobs/${digest}`);
  const roll = (await client.zrange('flotilla:{registry:registry-proxy}:replicas', '0', '-1')).map((text) => JSON.parse(text));
  client.disconnect();
  const { url } = roll.find(({ id }) => id === holder);
  const filler = replicas.findIndex(({ address }) => url === `http://${address}`);
  await replicas[filler]?.end('SIGKILL');
  killed.resolve();
  for (const [index, answer] of answers.entries()) {
    if (index !== filler) expect(sha256((await answer)?.bytes ?? Buffer.alloc(0))).toBe(digest);
  }
  const [first, ...more] = gets();
  expect(first).toBeUndefined();
  expect(more).toHaveLength(1);
  expect(Number(/^bytes=(\d+)-$/.exec(more[0] ?? '')?.[1])).toBeGreaterThanOrEqual(size / 4);
  await replicas[filler]?.run();
  await allKnown();
});

it('let nobody in whom the upstream refuses, and carry each client’s own credentials', async () => {
  const digest = upstream.addBlob('private', randomBytes(1000));
  const jane = registryAuth('jane', 'secret');
  upstream.guard = (authorization) => {
    if (authorization === undefined) return { status: 401, body: unauthorized, challenge: 'Basic realm="x"' };
    return Buffer.from(authorization.slice(6), 'base64').toString() === 'jane:secret' ? true : { status: 403, body: denied };
  };
  const path = `/v2/${upstream.host}/private/blobs/${digest}`;
  for (const replica of replicas) {
    expect((await replica.get(path, jane)).status).toBe(200);
    expect((await replica.get(path, registryAuth('john', 'word'))).status).toBe(403);
    expect((await replica.get(path)).status).toBe(401);
    expect((await replica.get(path, { 'x-flotilla-replica': 'guessed' })).status).toBe(401);
  }
  expect(gets().length).toBeGreaterThan(0);
  expect(replicas.some(({ output }) => output.includes('secret'))).toBe(false);
});

it('trust each other by what Redis tells, where clients must show a password and each replica has a certificate of its own', async () => {
  const authorities = [new Authority('one'), new Authority('two')];
  const secure: StandaloneProcess[] = [];
  try {
    for (const authority of authorities) {
      authority.issue('server');
      writeFileSync(authority.path('htpasswd'), `jane:${hashSync('secret', 4)}\n`);
      secure.push(
        await StandaloneProcess.start({
          FLOTILLA_REDIS_URL: redis.url,
          FLOTILLA_ENGINE_ID: 'secure',
          FLOTILLA_REGISTRY_HTPASSWD: authority.path('htpasswd'),
          FLOTILLA_REGISTRY_TLS_CERTIFICATE: authority.path('server.crt'),
          FLOTILLA_REGISTRY_TLS_KEY: authority.path('server.key'),
        }),
      );
    }
    const jane = { authorization: `Basic ${Buffer.from('jane:secret').toString('base64')}` };
    const ask = (path: string): Promise<{ status: number; bytes: Buffer }[]> =>
      Promise.all(secure.map((replica, index) => replica.get(path, jane, authorities[index]?.ca)));
    const both = async (): Promise<boolean> =>
      (await ask('/metrics')).every(({ bytes }) => bytes.toString().includes('flotilla_registry_replicas 2\n'));
    await waitFor(both, { what: 'both replicas', timeoutMs: 20_000 });
    for (let round = 1; round <= 4; round++) {
      const digest = upstream.addBlob('app', randomBytes(100_000));
      for (const { bytes } of await ask(`/v2/${upstream.host}/app/blobs/${digest}`)) expect(sha256(bytes)).toBe(digest);
      expect(gets()).toHaveLength(round);
    }
  } finally {
    await Promise.all(secure.map((replica) => replica.stop()));
    for (const authority of authorities) authority.remove();
  }
}, 120_000);

it('serve each for itself while Redis is away', async () => {
  await redis.process.stop('SIGKILL');
  const digest = upstream.addBlob('app', randomBytes(1000));
  for (const replica of replicas) {
    const { status, bytes } = await replica.get(`/v2/${upstream.host}/app/blobs/${digest}`);
    expect([status, sha256(bytes)], status === 200 ? '' : bytes.toString()).toEqual([200, digest]);
  }
});
