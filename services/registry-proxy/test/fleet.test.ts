/** Replicas that keep their files apart and share a Redis: together they ask an upstream once, and one goes on where another died. */
import { randomBytes } from 'node:crypto';
import { existsSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startRedis, startRegistry, type TestRedis, waitFor } from '@flotilla/testkit';
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

const at = (index: number): StandaloneProcess => replicas[index % replicas.length] as StandaloneProcess;
const octets = { 'content-type': 'application/octet-stream' };
const manifestType = 'application/vnd.oci.image.manifest.v1+json';
const ask = (
  index: number,
  method: string,
  path: string,
  body?: string | Buffer,
  headers: Record<string, string> = {},
): Promise<Response> =>
  fetch(`${at(index).url}${path}`, {
    method,
    headers,
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : new Uint8Array(body) }),
  });

/** Each request of an upload meets the next replica, as behind a name with several addresses. */
async function pushInTurns(repository: string, bytes: Buffer): Promise<string> {
  const begun = await ask(0, 'POST', `/v2/${repository}/blobs/uploads/`);
  const [first, second] = [bytes.subarray(0, bytes.length / 2), bytes.subarray(bytes.length / 2)];
  const sent = await ask(1, 'PATCH', begun.headers.get('location') ?? '', first, octets);
  expect([begun.status, sent.status]).toEqual([202, 202]);
  const place = sent.headers.get('location') ?? '';
  const ended = await ask(2, 'PUT', `${place}${place.includes('?') ? '&' : '?'}digest=${sha256(bytes)}`, second, octets);
  expect([ended.status, ended.headers.get('docker-content-digest')]).toEqual([201, sha256(bytes)]);
  return sha256(bytes);
}

/** An image of one blob, pushed through the replicas in turn. @returns the manifest's digest. */
async function pushImage(repository: string, tag: string, content: Buffer): Promise<string> {
  const digest = await pushInTurns(repository, content);
  const config = { mediaType: 'application/vnd.oci.empty.v1+json', digest, size: content.length };
  const manifest = JSON.stringify({ schemaVersion: 2, mediaType: manifestType, config, layers: [] });
  const put = await ask(1, 'PUT', `/v2/${repository}/manifests/${tag}`, manifest, { 'content-type': manifestType });
  expect(put.status).toBe(201);
  return put.headers.get('docker-content-digest') ?? '';
}

const everywhere = (path: string, method = 'GET'): Promise<Response[]> => Promise.all(replicas.map((_, index) => ask(index, method, path)));
const keeper = (): number => replicas.findIndex(({ root }) => existsSync(join(root, 'own', 'repositories')));

it('have the same own repositories, whichever of them is asked: content, tags, lists and deletions', async () => {
  const [one, two] = [randomBytes(400_000), randomBytes(400_000)];
  const first = await pushImage('lab/app', '1', one);
  for (const answer of await everywhere('/v2/lab/app/manifests/1')) expect(answer.headers.get('docker-content-digest')).toBe(first);
  for (const answer of await everywhere(`/v2/lab/app/blobs/${sha256(one)}`)) {
    expect(sha256(Buffer.from(await answer.arrayBuffer()))).toBe(sha256(one));
  }
  const second = await pushImage('lab/app', '1', two);
  await pushImage('lab/other', '2', one);
  for (const answer of await everywhere('/v2/docker.io/lab/app/manifests/1')) {
    expect(answer.headers.get('docker-content-digest')).toBe(second);
  }
  for (const answer of await everywhere('/v2/_catalog')) expect(await answer.json()).toEqual({ repositories: ['lab/app', 'lab/other'] });
  for (const answer of await everywhere('/v2/lab/app/tags/list?n=5')) expect(await answer.json()).toEqual({ name: 'lab/app', tags: ['1'] });
  for (const method of ['GET', 'HEAD']) {
    expect((await everywhere(`/v2/lab/app/manifests/${second}`, method)).map(({ status }) => status)).toEqual([200, 200, 200]);
  }
  expect((await ask(0, 'DELETE', `/v2/lab/app/manifests/${second}`)).status).toBe(202);
  expect((await ask(1, 'DELETE', `/v2/lab/app/blobs/${sha256(one)}`)).status).toBe(202);
  for (const gone of [`manifests/${second}`, 'manifests/1', `blobs/${sha256(one)}`]) {
    for (const method of ['GET', 'HEAD']) {
      expect(
        (await everywhere(`/v2/lab/app/${gone}`, method)).map(({ status }) => status),
        `${method} ${gone}`,
      ).toEqual([404, 404, 404]);
    }
  }
  const missing = (await everywhere('/v2/lab/app/manifests/1'))[2];
  expect(await missing?.json()).toMatchObject({ errors: [{ code: 'MANIFEST_UNKNOWN' }] });
  for (const answer of await everywhere('/flotilla/v1/collect', 'POST')) expect(await answer.json()).toEqual({ blobs: 0, bytes: 0 });
  for (const answer of await everywhere('/v2/lab/app/manifests/1', 'PATCH')) {
    expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'GET, HEAD, PUT, DELETE']);
  }
  // They are kept once.
  expect(replicas.filter(({ root }) => existsSync(join(root, 'own', 'blobs')))).toHaveLength(1);
});

it('carry an upload to an upstream on, whichever of them it meets', async () => {
  const registry = await startRegistry();
  try {
    const content = randomBytes(200_000);
    await pushInTurns(`${registry.address}/pushed`, content);
    expect(sha256((await at(0).get(`/v2/${registry.address}/pushed/blobs/${sha256(content)}`)).bytes)).toBe(sha256(content));
  } finally {
    await registry.stop();
  }
});

it('go on serving own images they have seen while the one that keeps them is away, and say so of the rest', async () => {
  await pushImage('lab/away', '1', randomBytes(1000));
  const path = '/v2/lab/away/manifests/1';
  await everywhere(path);
  const kept = keeper();
  await at(kept).end('SIGKILL');
  const answer = await ask(kept + 1, 'GET', path);
  expect([answer.status, answer.headers.get('warning')]).toEqual([200, expect.stringContaining('Stale')]);
  const refused = await ask(kept + 1, 'POST', '/v2/lab/away/blobs/uploads/');
  expect(refused.status).toBe(503);
  expect(await refused.json()).toMatchObject({
    errors: [{ code: 'UNAVAILABLE', message: 'the replica that keeps the repositories of this proxy cannot be reached' }],
  });
  // All but `own/` may be deleted while it is down.
  rmSync(join(at(kept).root, 'secret'));
  await at(kept).run();
  await allKnown();
  await waitFor(async () => (await ask(kept + 1, 'POST', '/v2/lab/away/blobs/uploads/')).status === 202, { what: 'pushes again' });
});

it('know who keeps the own repositories when Redis has lost everything, and let no other data root bring its own', async () => {
  await pushImage('lab/kept', '1', randomBytes(1000));
  const client = redis.client();
  const key = 'flotilla:{registry:registry-proxy}:own-home';
  const before = await client.get(key);
  await client.flushall();
  await client.set(key, 'another');
  await waitFor(async () => (await client.get(key)) === before, { what: 'the keeper to be known again' });
  client.disconnect();
  await allKnown();
  await waitFor(async () => (await everywhere('/v2/lab/kept/manifests/1')).every(({ status }) => status === 200), { what: 'the image' });
  const alone = await StandaloneProcess.start({});
  try {
    const blob = await fetch(`${alone.url}/v2/lab/mine/blobs/uploads/?digest=${sha256(Buffer.from('x'))}`, { method: 'POST', body: 'x' });
    expect(blob.status).toBe(201);
    await alone.end('SIGTERM');
    await expect(alone.run({ FLOTILLA_REDIS_URL: redis.url })).rejects.toThrow('this data root has repositories of its own');
  } finally {
    await alone.stop();
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
