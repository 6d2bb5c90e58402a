/** The service as it is run: a process without rights, on unix sockets, killed in the middle of its work. */
import { randomBytes } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { RegistriesService } from '@flotilla/contracts/flotilla/registry/v1/registries';
import { startRegistry, waitFor } from '@flotilla/testkit';
import { Client, credentials, type ServiceError } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ProxyProcess } from './support/process.ts';
import { StandIn, sendDocument, sha256, unauthorized } from './support/standIn.ts';

let proxy: ProxyProcess;
let upstream: StandIn;

beforeAll(async () => {
  proxy = await ProxyProcess.start();
});
afterAll(() => proxy.stop());
beforeEach(async () => {
  upstream = await StandIn.start();
});
afterEach(() => upstream.stop());

describe('killed in the middle of a blob', () => {
  it('goes on where it was when it is back', async () => {
    const size = 8 * 1024 * 1024;
    const digest = upstream.addBlob('app', randomBytes(size));
    upstream.mishap = async (request, response, path) => {
      if (!path.includes('/blobs/') || request.headers.range !== undefined) return false;
      await upstream.sendBlob(request, response, `app/${digest}`, { chunkBytes: 256 * 1024, pauseMs: 20 });
      return true;
    };
    const path = `/v2/${upstream.host}/app/blobs/${digest}`;
    const lost = proxy.get(path).then(
      () => 'whole',
      () => 'cut',
    );
    const partial = join(proxy.dataRoot, 'partial', digest.replace(':', '-'));
    await waitFor(() => existsSync(partial) && statSync(partial).size > size / 4, { what: 'a quarter of the blob' });
    await proxy.end('SIGKILL');
    expect(await lost).toBe('cut');
    const kept = statSync(partial).size;
    await proxy.run();
    const answer = await proxy.get(path);
    expect(sha256(answer.bytes)).toBe(digest);
    expect(upstream.requests.map((each) => each.range)).toEqual([undefined, `bytes=${kept}-`]);
  });
});

describe('its process', () => {
  it('holds its socket for its group, and its secret for itself', () => {
    expect(statSync(proxy.socket).mode & 0o777).toBe(0o660);
    expect(statSync(join(proxy.dataRoot, 'secret')).mode & 0o777).toBe(0o600);
  });

  it('stops cleanly', async () => {
    expect(await proxy.end('SIGTERM')).toBe(0);
    expect(existsSync(proxy.socket)).toBe(false);
    await proxy.run();
    expect((await proxy.get('/v2/')).status).toBe(200);
    expect((await proxy.get('/readyz')).status).toBe(200);
  });
});

/** A unary call by the generated definition. */
function call<K extends keyof typeof RegistriesService>(
  name: K,
  request: Parameters<(typeof RegistriesService)[K]['requestSerialize']>[0],
): Promise<ReturnType<(typeof RegistriesService)[K]['responseDeserialize']>> {
  const method = RegistriesService[name];
  const client = new Client(proxy.grpcAddress, credentials.createInsecure());
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      method.path,
      method.requestSerialize as (value: unknown) => Buffer,
      method.responseDeserialize as (bytes: Buffer) => ReturnType<(typeof RegistriesService)[K]['responseDeserialize']>,
      request,
      { deadline: Date.now() + 10_000 },
      (error: ServiceError | null, response) => {
        client.close();
        if (error !== null || response === undefined) reject(error ?? new Error('no response'));
        else resolve(response);
      },
    );
  });
}

describe('log-in', () => {
  const logIn = (config: object) => call('checkAuth', { authJson: Buffer.from(JSON.stringify(config)) });

  it('succeeds and fails as docker login does, by Basic', async () => {
    // bcrypt of `secret`
    const registry = await startRegistry({ htpasswd: 'jane:$2y$05$kQMAw9q3wgZ5Z0zX1lUZXOhhFV4yUc5WsE6bzKkKRWZkV4UOYhmZ6\n' });
    try {
      await expect(logIn({ username: 'jane', password: 'wrong', serveraddress: registry.address })).rejects.toMatchObject({
        details: `login attempt to http://${registry.address}/v2/ failed with status: 401 Unauthorized`,
      });
    } finally {
      await registry.stop();
    }
    upstream.guard = (authorization) =>
      authorization === `Basic ${Buffer.from('jane:secret').toString('base64')}` || {
        challenge: 'Basic realm="x"',
        status: 401,
        body: unauthorized,
      };
    expect(await logIn({ username: 'jane', password: 'secret', serveraddress: upstream.host })).toEqual({
      status: 'Login Succeeded',
      identityToken: '',
    });
  });

  it('gives an identity token, and the token server’s words when there is none', async () => {
    upstream.guard = (authorization) =>
      authorization === 'Bearer good' || {
        challenge: `Bearer realm="http://${upstream.host}/token",service="x"`,
        status: 401,
        body: unauthorized,
      };
    upstream.mishap = (request, response, path) => {
      if (!path.startsWith('/token')) return false;
      if (request.headers.authorization === `Basic ${Buffer.from('jane:secret').toString('base64')}`) {
        sendDocument(response, 200, { token: 'good', refresh_token: 'identity' });
      } else sendDocument(response, 401, { details: 'incorrect username or password' });
      return true;
    };
    expect(await logIn({ username: 'jane', password: 'secret', serveraddress: `http://${upstream.host}` })).toEqual({
      status: 'Login Succeeded',
      identityToken: 'identity',
    });
    await expect(logIn({ username: 'jane', password: 'x', serveraddress: upstream.host })).rejects.toMatchObject({
      code: 16,
      details: `Get "http://${upstream.host}/v2/": unauthorized: incorrect username or password`,
    });
  });

  it('says why a registry cannot be reached', async () => {
    await expect(logIn({ username: 'a', password: 'b', serveraddress: 'localhost:1' })).rejects.toMatchObject({
      details: 'Get "http://localhost:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
    });
  });
});

describe('search and info', () => {
  it('searches the index of the host a term begins with, and filters', async () => {
    const results = [
      { name: 'lab/busybox', description: 'tools', star_count: 5, is_official: true },
      { name: 'lab/box', description: '', star_count: 1, is_official: false },
    ];
    upstream.mishap = (_request, response, path) => {
      if (!path.startsWith('/v1/search?')) return false;
      sendDocument(response, 200, { num_results: 2, results });
      return true;
    };
    const found = await call('search', { term: `${upstream.host}/box`, limit: 10, filters: { stars: '3' }, registryAuth: '' });
    expect(JSON.parse(Buffer.from(found.resultsJson).toString())).toEqual([
      { name: 'lab/busybox', description: 'tools', star_count: 5, is_official: true, is_automated: false },
    ]);
    expect(upstream.requests.at(-1)?.path).toBe('/v1/search?q=box&n=10');
    await expect(call('search', { term: 'x', limit: 101, filters: {}, registryAuth: '' })).rejects.toMatchObject({
      details: 'limit 101 is outside the range of [1, 100]',
    });
  });

  it('tells what docker info shows', async () => {
    const { registryConfigJson } = await call('info', {});
    expect(JSON.parse(Buffer.from(registryConfigJson).toString())).toMatchObject({
      InsecureRegistryCIDRs: ['::1/128', '127.0.0.0/8'],
      IndexConfigs: { 'docker.io': { Name: 'docker.io', Mirrors: [], Secure: true, Official: true } },
      Mirrors: [],
    });
  });
});
