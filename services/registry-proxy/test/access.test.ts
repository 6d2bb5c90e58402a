/** Who may use the proxy: names and passwords, client certificates, and what only some may do. */
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PeerCertificate, TLSSocket } from 'node:tls';
import { waitFor } from '@flotilla/testkit';
import { hashSync } from 'bcryptjs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Authority, type Pair } from './support/certificates.ts';
import { registryAuth, startProxy, type TestProxy } from './support/proxy.ts';
import { StandIn, unauthorized } from './support/standIn.ts';

let directory: string;
let htpasswd: string;
let proxy: TestProxy;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'flotilla-access-'));
  htpasswd = join(directory, 'htpasswd');
});
afterEach(async () => {
  await proxy?.stop();
  rmSync(directory, { recursive: true, force: true });
});

/** As `htpasswd -nB` writes it. */
const line = (name: string, password: string): string => `${name}:${hashSync(password, 4).replace('$2b$', '$2y$')}\n`;
const basic = (name: string, password: string): Record<string, string> => ({
  authorization: `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}`,
});
const [jane, john] = [basic('jane', 'secret'), basic('john', 'word')];

describe('names and passwords', () => {
  beforeEach(async () => {
    writeFileSync(htpasswd, `# who may\n${line('jane', 'secret')}${line('john', 'word')}`);
    proxy = await startProxy({ env: { FLOTILLA_REGISTRY_HTPASSWD: htpasswd, FLOTILLA_REGISTRY_PUSH_USERS: 'jane' } });
  });

  it('are asked for as docker-registry does, and docker login finds the right ones right', async () => {
    const answer = await fetch(`${proxy.url}/v2/`);
    expect([answer.status, answer.headers.get('www-authenticate'), answer.headers.get('docker-distribution-api-version')]).toEqual([
      401,
      'Basic realm="registry-proxy"',
      'registry/2.0',
    ]);
    expect(await answer.json()).toEqual({ errors: [{ code: 'UNAUTHORIZED', message: 'authentication required', detail: null }] });
    for (const headers of [jane, john]) expect((await fetch(`${proxy.url}/v2/`, { headers })).status).toBe(200);
    for (const headers of [
      basic('jane', 'word'),
      basic('jane', ''),
      basic('', 'secret'),
      basic('nobody', 'secret'),
      { authorization: 'Bearer x' },
    ]) {
      expect((await fetch(`${proxy.url}/v2/`, { headers })).status).toBe(401);
    }
    // Another engine's docker login.
    const serveraddress = proxy.url.replace('http://', '');
    const login = async (password: string): Promise<Response> => {
      const engine = await startProxy();
      try {
        return await fetch(`${engine.url}/flotilla/v1/login`, {
          method: 'POST',
          body: JSON.stringify({ username: 'jane', password, serveraddress }),
        });
      } finally {
        await engine.stop();
      }
    };
    expect(await (await login('secret')).json()).toMatchObject({ status: 'Login Succeeded' });
    expect((await login('wrong')).status).not.toBe(200);
  });

  it('nothing but its health is told to strangers', async () => {
    for (const path of [
      '/v2/_catalog',
      '/v2/lab/app/tags/list',
      '/metrics',
      '/flotilla/v1/info',
      '/flotilla/v1/pins',
      '/v2/x/blobs/uploads/',
    ]) {
      expect((await fetch(proxy.url + path)).status, path).toBe(401);
    }
    for (const path of ['/healthz', '/readyz']) expect((await fetch(proxy.url + path)).status, path).toBe(200);
  });

  it('pushing, deleting, prefetching and collecting is for those who are named', async () => {
    const attempts = [
      ['POST', '/v2/lab/app/blobs/uploads/'],
      ['DELETE', '/v2/lab/app/manifests/1'],
      ['PUT', '/v2/lab/app/manifests/1'],
      ['POST', '/flotilla/v1/prefetch'],
      ['POST', '/flotilla/v1/collect'],
      ['POST', '/Flotilla/V1/Collect/'],
    ] as const;
    for (const [method, path] of attempts) {
      const answer = await fetch(proxy.url + path, { method, headers: john });
      expect([answer.status, ((await answer.json()) as { errors: { code: string }[] }).errors[0]?.code], path).toEqual([403, 'DENIED']);
      expect([401, 403], path).not.toContain((await fetch(proxy.url + path, { method, headers: jane })).status);
    }
    expect((await fetch(`${proxy.url}/v2/_catalog`, { headers: john })).status).toBe(200);
  });

  it('go no further: an upstream sees its own credentials, or none', async () => {
    const upstream = await StandIn.start();
    try {
      upstream.addManifest('app', 'latest', {});
      upstream.guard = (authorization) =>
        authorization === undefined ? { status: 401, body: unauthorized, challenge: 'Basic realm="x"' } : true;
      const url = `${proxy.url}/v2/${upstream.host}/app/manifests/latest`;
      expect((await fetch(url, { headers: jane })).status).toBe(401);
      expect((await fetch(url, { headers: { ...jane, ...registryAuth('far', 'away') } })).status).toBe(200);
      const seen = new Set(upstream.requests.map(({ authorization }) => authorization));
      expect(seen).toEqual(new Set([undefined, basic('far', 'away').authorization]));
    } finally {
      await upstream.stop();
    }
  });

  it('are read again when the file changes; a wrong one leaves what was in force', async () => {
    const status = async (headers: Record<string, string>): Promise<number> => (await fetch(`${proxy.url}/v2/`, { headers })).status;
    expect(await status(jane)).toBe(200);
    writeFileSync(htpasswd, line('john', 'other'));
    await waitFor(async () => (await status(jane)) === 401, { what: 'the new passwords' });
    expect([await status(john), await status(basic('john', 'other'))]).toEqual([401, 200]);
    writeFileSync(htpasswd, 'john:{SHA}plain\n');
    await new Promise((resolve) => setTimeout(resolve, 400));
    expect(await status(basic('john', 'other'))).toBe(200);
  });
});

describe('client certificates', () => {
  let authority: Authority;
  let server: Pair;
  let teacher: Pair;
  let pupil: Pair;
  let stranger: Pair;
  beforeAll(() => {
    authority = new Authority();
    server = authority.issue('server');
    [teacher, pupil] = [authority.issue('teacher'), authority.issue('pupil')];
    const others = new Authority('others');
    stranger = others.issue('teacher');
    others.remove();
  });
  afterAll(() => authority.remove());
  beforeEach(async () => {
    writeFileSync(join(directory, 'server.crt'), server.certificate);
    writeFileSync(join(directory, 'server.key'), server.key);
    proxy = await startProxy({
      env: {
        FLOTILLA_REGISTRY_TLS_CERTIFICATE: join(directory, 'server.crt'),
        FLOTILLA_REGISTRY_TLS_KEY: join(directory, 'server.key'),
        FLOTILLA_REGISTRY_TLS_CLIENT_CA: authority.file,
        FLOTILLA_REGISTRY_PUSH_USERS: 'teacher',
      },
    });
  });

  const ask = (method: string, path: string, pair?: Pair): Promise<{ status: number | undefined; peer: PeerCertificate }> =>
    new Promise((resolve, reject) => {
      const tls = { ca: authority.ca, ...(pair === undefined ? {} : { cert: pair.certificate, key: pair.key }) };
      const agent = new Agent({ ...tls, maxCachedSessions: 0 });
      const outgoing = request(`${proxy.url}${path}`, { method, agent }, (response) => {
        const peer = (response.socket as TLSSocket).getPeerCertificate();
        response.resume();
        response.on('end', () => resolve({ status: response.statusCode, peer }));
      });
      outgoing.on('error', reject).end();
    });

  it('let in whom the authority has signed, and tell who may push', async () => {
    expect((await ask('GET', '/v2/', teacher)).status).toBe(200);
    expect((await ask('GET', '/v2/', pupil)).status).toBe(200);
    expect((await ask('POST', '/v2/lab/app/blobs/uploads/', teacher)).status).toBe(202);
    expect((await ask('POST', '/v2/lab/app/blobs/uploads/', pupil)).status).toBe(403);
    for (const pair of [undefined, stranger]) expect((await ask('GET', '/v2/', pair)).status).toBe(401);
    expect((await ask('GET', '/readyz')).status).toBe(200);
  });

  it('the listener’s own is read again when it changes', async () => {
    const before = (await ask('GET', '/v2/', teacher)).peer.serialNumber;
    authority.issue('renewed');
    copyFileSync(authority.path('renewed.key'), join(directory, 'server.key'));
    copyFileSync(authority.path('renewed.crt'), join(directory, 'server.crt'));
    await waitFor(async () => (await ask('GET', '/v2/', teacher)).peer.subject.CN === 'renewed', { what: 'the new certificate' });
    expect((await ask('GET', '/v2/', teacher)).peer.serialNumber).not.toBe(before);
  });
});

describe('settings that cannot be meant', () => {
  it.each<[string, Record<string, string>]>([
    ['belong together', { FLOTILLA_REGISTRY_TLS_KEY: '/x' }],
    ['need a listener with a certificate', { FLOTILLA_REGISTRY_TLS_CLIENT_CA: '/x' }],
    ['need passwords or client certificates', { FLOTILLA_REGISTRY_PUSH_USERS: 'jane' }],
    ['no such file', { FLOTILLA_REGISTRY_HTPASSWD: '/absent' }],
    ['certificates of the listener', { FLOTILLA_REGISTRY_TLS_CERTIFICATE: '/absent', FLOTILLA_REGISTRY_TLS_KEY: '/absent' }],
  ])('refuse the start: %s', async (words, env) => {
    await expect(startProxy({ env })).rejects.toThrow(words);
  });
});
