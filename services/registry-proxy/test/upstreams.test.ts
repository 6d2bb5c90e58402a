/** What registries ask for and do to us: tokens, passwords, redirects, rate limits, errors, mirrors; and who may see what is cached. */
import { randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { registryAuth, startProxy, type TestProxy } from './support/proxy.ts';
import { denied, StandIn, sendDocument, sha256, unauthorized } from './support/standIn.ts';

let upstream: StandIn;
let proxy: TestProxy;

beforeEach(async () => {
  upstream = await StandIn.start();
  proxy = await startProxy();
});
afterEach(async () => {
  await proxy.stop();
  await upstream.stop();
});

const url = (path: string): string => `${proxy.url}/v2/${upstream.host}/${path}`;
const basic = (user: string, password: string): string => `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;

interface Refusal {
  readonly status: number;
  readonly code: string;
  readonly message: string;
}
async function refusal(answer: Promise<Response>): Promise<Refusal> {
  const response = await answer;
  const { errors } = (await response.json()) as { errors: { code: string; message: string }[] };
  return { status: response.status, code: errors[0]?.code ?? '', message: errors[0]?.message ?? '' };
}

/** A token server at /token of the stand-in: which users have which password, and what each may read. */
function useTokens(
  options: { users?: Record<string, string>; mayRead?: (user: string, repository: string) => boolean; lifetime?: number } = {},
) {
  const users = options.users ?? {};
  const mayRead = options.mayRead ?? (() => true);
  const asked: URL[] = [];
  const posted: string[] = [];
  const tokens = new Map<string, { user: string; scopes: string[] }>();
  let serial = 0;
  const issue = (user: string, scopes: string[]): string => {
    const token = `token-${++serial}`;
    tokens.set(token, { user, scopes });
    return token;
  };
  upstream.mishap = async (request, response, path) => {
    if (!path.startsWith('/token')) return false;
    const address = new URL(path, 'http://x');
    asked.push(address);
    if (request.method === 'POST') {
      const form = new URLSearchParams(await text(request));
      posted.push(form.toString());
      if (form.get('refresh_token') !== 'identity') sendDocument(response, 401, { details: 'invalid refresh token' });
      else sendDocument(response, 200, { access_token: issue('identity', (form.get('scope') ?? '').split(' ')), expires_in: 300 });
      return true;
    }
    const given = /^Basic (.+)$/.exec(request.headers.authorization ?? '')?.[1];
    const [user = '', password = ''] = Buffer.from(given ?? '', 'base64')
      .toString()
      .split(':');
    if (given !== undefined && users[user] !== password) {
      sendDocument(response, 401, { details: 'incorrect username or password' });
      return true;
    }
    const refresh = address.searchParams.get('offline_token') === 'true' ? { refresh_token: 'identity' } : {};
    sendDocument(response, 200, {
      token: issue(user, address.searchParams.getAll('scope')),
      expires_in: options.lifetime ?? 300,
      ...refresh,
    });
    return true;
  };
  upstream.guard = (authorization, path) => {
    const repository = /^\/v2\/(.+)\/(?:manifests|blobs|tags)\//.exec(path)?.[1] ?? '';
    const challenge = `Bearer realm="http://${upstream.host}/token",service="stand-in",scope="repository:${repository}:pull"`;
    const token = tokens.get(/^Bearer (.+)$/.exec(authorization ?? '')?.[1] ?? '');
    if (token === undefined) return { challenge, status: 401, body: unauthorized };
    const scoped = repository === '' || token.scopes.some((scope) => scope.startsWith(`repository:${repository}:`));
    if (!scoped || (repository !== '' && !mayRead(token.user, repository))) return { challenge, status: 401, body: denied };
    return true;
  };
  return { asked, posted };
}

async function text(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

describe('bearer tokens', () => {
  it('gets one for the repository, and keeps it', async () => {
    const { asked } = useTokens();
    upstream.addManifest('a/app', 'latest', { config: {} });
    const digest = upstream.addBlob('a/app', randomBytes(1000));
    expect((await fetch(url('a/app/manifests/latest'))).status).toBe(200);
    expect((await fetch(url(`a/app/blobs/${digest}`))).status).toBe(200);
    expect((await fetch(url('a/app/manifests/latest'))).status).toBe(200);
    expect(asked).toHaveLength(1);
    expect(asked[0]?.searchParams.get('service')).toBe('stand-in');
    expect(asked[0]?.searchParams.getAll('scope')).toEqual(['repository:a/app:pull']);
  });

  it('sends the password to the token server alone', async () => {
    const { asked } = useTokens({ users: { jane: 'secret' } });
    upstream.addManifest('a/app', 'latest', {});
    expect((await fetch(url('a/app/manifests/latest'), { headers: registryAuth('jane', 'secret') })).status).toBe(200);
    expect(asked[0]?.searchParams.get('account')).toBe('jane');
    const sent = upstream.requests.filter((each) => each.authorization?.startsWith('Basic'));
    expect(sent.map((each) => each.path.split('?')[0])).toEqual(['/token']);
    expect(upstream.requests.every((each) => each.registryAuth === undefined)).toBe(true);
  });

  it('passes on the token server’s words', async () => {
    useTokens({ users: { jane: 'secret' } });
    upstream.addManifest('a/app', 'latest', {});
    expect(await refusal(fetch(url('a/app/manifests/latest'), { headers: registryAuth('jane', 'wrong') }))).toEqual({
      status: 401,
      code: 'UNAUTHORIZED',
      message: 'incorrect username or password',
    });
  });

  it('gets a token by an identity token', async () => {
    const { posted } = useTokens();
    upstream.addManifest('a/app', 'latest', {});
    const header = Buffer.from(JSON.stringify({ identitytoken: 'identity' })).toString('base64url');
    expect((await fetch(url('a/app/manifests/latest'), { headers: { 'x-registry-auth': header } })).status).toBe(200);
    expect(posted[0]).toContain('grant_type=refresh_token');
    expect(posted[0]).toContain('scope=repository%3Aa%2Fapp%3Apull');
  });

  it('gets another when one is no longer taken', async () => {
    const { asked } = useTokens();
    upstream.addManifest('a/app', 'latest', {});
    await fetch(url('a/app/manifests/latest'));
    const guard = upstream.guard;
    let once = true;
    upstream.guard = (authorization, path) => {
      if (once) {
        once = false;
        return guard?.(undefined, path) ?? true;
      }
      return guard?.(authorization, path) ?? true;
    };
    expect((await fetch(url('a/app/manifests/latest'))).status).toBe(200);
    expect(asked).toHaveLength(2);
  });

  it('chooses the challenge it can meet', async () => {
    upstream.addManifest('a/app', 'latest', {});
    upstream.guard = (authorization) =>
      authorization === basic('jane', 'secret') || {
        challenge: 'Negotiate, NTLM abc=, Basic realm="a, b"',
        status: 401,
        body: unauthorized,
      };
    expect((await fetch(url('a/app/manifests/latest'), { headers: registryAuth('jane', 'secret') })).status).toBe(200);
  });
});

describe('basic', () => {
  beforeEach(() => {
    upstream.addManifest('a/app', 'latest', {});
    upstream.guard = (authorization) =>
      authorization === basic('jane', 'secret') || { challenge: 'Basic realm="stand-in"', status: 401, body: unauthorized };
  });

  it('is answered with the password of the request', async () => {
    expect((await fetch(url('a/app/manifests/latest'), { headers: registryAuth('jane', 'secret') })).status).toBe(200);
    expect((await fetch(url('a/app/manifests/latest'), { headers: { authorization: basic('jane', 'secret') } })).status).toBe(200);
  });

  it('is refused without one, in docker’s words', async () => {
    expect(await refusal(fetch(url('a/app/manifests/latest')))).toMatchObject({
      status: 401,
      message: `Get "http://${upstream.host}/v2/a/app/manifests/latest": no basic auth credentials`,
    });
  });
});

describe('a registry with repositories for everybody and others by Basic', () => {
  it('lets nobody’s credentials be asked for where none are wanted', async () => {
    upstream.addManifest('a/open', 'latest', {});
    upstream.addManifest('a/closed', 'latest', {});
    upstream.guard = (authorization, path) =>
      path.includes('a/open') || authorization === basic('jane', 'secret')
        ? true
        : { status: 401, body: unauthorized, challenge: 'Basic realm="x"' };
    const refused = await refusal(fetch(url('a/closed/manifests/latest')));
    expect([refused.status, refused.message]).toEqual([401, expect.stringContaining('no basic auth credentials')]);
    expect((await fetch(url('a/open/manifests/latest'))).status).toBe(200);
    expect((await fetch(url('a/closed/manifests/latest'), { headers: registryAuth('jane', 'secret') })).status).toBe(200);
  });
});

describe('redirects', () => {
  it('are followed without the authorization', async () => {
    const store = await StandIn.start();
    try {
      const bytes = randomBytes(300_000);
      const digest = sha256(bytes);
      store.addBlob('stored', bytes, digest);
      upstream.guard = (authorization) =>
        authorization === basic('jane', 'secret') || { challenge: 'Basic realm="x"', status: 401, body: unauthorized };
      upstream.mishap = (request, response, path) => {
        if (!path.includes('/blobs/') || request.headers.authorization === undefined) return false;
        response.writeHead(307, { location: `http://${store.host}/v2/stored/blobs/${digest}?signature=x` }).end();
        return true;
      };
      store.mishap = async (request, response) => {
        await store.sendBlob(request, response, `stored/${digest}`);
        return true;
      };
      const answer = await fetch(url(`a/app/blobs/${digest}`), { headers: registryAuth('jane', 'secret') });
      expect(sha256(new Uint8Array(await answer.arrayBuffer()))).toBe(digest);
      expect(store.requests).toHaveLength(1);
      expect(store.requests[0]).toMatchObject({ authorization: undefined, registryAuth: undefined });
    } finally {
      await store.stop();
    }
  });

  it('end when they go round', async () => {
    upstream.mishap = (_request, response, path) => {
      response.writeHead(302, { location: path }).end();
      return true;
    };
    expect(await refusal(fetch(url('a/app/manifests/latest')))).toMatchObject({ status: 502 });
    expect(upstream.requests.length).toBeLessThan(20);
  });
});

describe('an upstream that is busy or ill', () => {
  it('is asked again after a short Retry-After', async () => {
    upstream.addManifest('a/app', 'latest', {});
    let times = 0;
    upstream.mishap = (_request, response) => {
      if (times++ > 0) return false;
      sendDocument(response, 429, { errors: [{ code: 'TOOMANYREQUESTS', message: 'slow down' }] }, { 'retry-after': '1' });
      return true;
    };
    const startedAt = performance.now();
    expect((await fetch(url('a/app/manifests/latest'))).status).toBe(200);
    expect(performance.now() - startedAt).toBeGreaterThan(700);
  });

  it('passes on a long Retry-After', async () => {
    upstream.mishap = (_request, response) => {
      sendDocument(
        response,
        429,
        { errors: [{ code: 'TOOMANYREQUESTS', message: 'You have reached your pull rate limit.' }] },
        { 'retry-after': '3600' },
      );
      return true;
    };
    const answer = await fetch(url('a/app/manifests/latest'));
    expect([answer.status, answer.headers.get('retry-after')]).toEqual([429, '3600']);
    expect(await answer.json()).toMatchObject({ errors: [{ code: 'TOOMANYREQUESTS', message: 'You have reached your pull rate limit.' }] });
    expect(upstream.requests).toHaveLength(1);
  });

  it('is asked again after a 5xx, a few times', async () => {
    upstream.addManifest('a/app', 'latest', {});
    let times = 0;
    upstream.mishap = (_request, response) => {
      if (times++ > 1) return false;
      sendDocument(response, 503, 'x');
      return true;
    };
    expect((await fetch(url('a/app/manifests/latest'))).status).toBe(200);
    times = -100;
    expect((await fetch(url('a/other/manifests/latest'))).status).toBe(503);
    expect(upstream.count('GET', '/v2/a/other/manifests/latest')).toBe(4);
  });

  it.each([429, 500, 503])('what is cached stands in for a %i, with a warning', async (status) => {
    const digest = upstream.addManifest('a/app', 'latest', { status });
    const blob = upstream.addBlob('a/app', randomBytes(1000));
    await fetch(url('a/app/manifests/latest'));
    await (await fetch(url(`a/app/blobs/${blob}`))).arrayBuffer();
    upstream.mishap = (_request, response) => {
      sendDocument(response, status, {}, { 'retry-after': '3600' });
      return true;
    };
    for (const method of ['GET', 'HEAD']) {
      const answer = await fetch(url('a/app/manifests/latest'), { method });
      expect([answer.status, answer.headers.get('docker-content-digest')]).toEqual([200, digest]);
      expect(answer.headers.get('warning')).toMatch(/^110 .*111 /);
    }
    expect((await fetch(url(`a/app/blobs/${blob}`))).status).toBe(200);
  });

  it('what is cached stands in when the network is gone, also after a restart', async () => {
    upstream.addManifest('a/app', 'latest', {});
    const blob = upstream.addBlob('a/app', randomBytes(1000));
    await fetch(url('a/app/manifests/latest'));
    await (await fetch(url(`a/app/blobs/${blob}`))).arrayBuffer();
    const { port } = upstream;
    const before = (path: string): string => `/v2/127.0.0.1:${port}/${path}`;
    await upstream.stop();
    await proxy.stop('keep');
    proxy = await startProxy({ root: proxy.root });
    const manifest = await fetch(proxy.url + before('a/app/manifests/latest'));
    expect([manifest.status, manifest.headers.get('warning') === null]).toEqual([200, false]);
    expect((await fetch(proxy.url + before(`a/app/blobs/${blob}`))).status).toBe(200);
    expect(await refusal(fetch(proxy.url + before('a/app/manifests/other')))).toEqual({
      status: 502,
      code: 'UNAVAILABLE',
      message: `Get "http://127.0.0.1:${port}/v2/": dial tcp 127.0.0.1:${port}: connect: connection refused`,
    });
  });

  it('an answer that never begins is given up', async () => {
    await proxy.stop();
    proxy = await startProxy({ env: { FLOTILLA_REGISTRY_HEADERS_TIMEOUT_MS: '200' } });
    upstream.mishap = () => true;
    expect(await refusal(fetch(url('a/app/manifests/latest')))).toMatchObject({ status: 504, code: 'UNAVAILABLE' });
  });

  it('a body that stalls is gone on with', async () => {
    await proxy.stop();
    proxy = await startProxy({ env: { FLOTILLA_REGISTRY_BODY_TIMEOUT_MS: '200' } });
    const bytes = randomBytes(600_000);
    const digest = upstream.addBlob('a/app', bytes);
    upstream.mishap = (request, response, path) => {
      if (!path.includes('/blobs/') || request.headers.range !== undefined) return false;
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, 300_000));
      return true;
    };
    const answer = await fetch(url(`a/app/blobs/${digest}`));
    expect(sha256(new Uint8Array(await answer.arrayBuffer()))).toBe(digest);
  });

  it('a tag is not asked for again within its time to live, unless the client insists', async () => {
    await proxy.stop();
    proxy = await startProxy({ env: { FLOTILLA_REGISTRY_TAG_TTL_MS: '60000' } });
    upstream.addManifest('a/app', 'latest', { version: 1 });
    await fetch(url('a/app/manifests/latest'));
    const digest = upstream.addManifest('a/app', 'latest', { version: 2 });
    expect((await fetch(url('a/app/manifests/latest'))).headers.get('docker-content-digest')).not.toBe(digest);
    const fresh = await fetch(url('a/app/manifests/latest'), { headers: { 'cache-control': 'no-cache' } });
    expect(fresh.headers.get('docker-content-digest')).toBe(digest);
  });

  it('a manifest that is not what its digest says is not served and not kept', async () => {
    upstream.addManifest('a/app', 'latest', { version: 1 }, { digest: sha256(Buffer.from('other')) });
    for (const reference of ['latest', sha256(Buffer.from('other'))]) {
      expect(await refusal(fetch(url(`a/app/manifests/${reference}`)))).toMatchObject({ status: 502, code: 'DIGEST_INVALID' });
    }
  });

  it('pages of a list lead back to the proxy', async () => {
    upstream.mishap = (_request, response, path) => {
      if (!path.includes('/tags/list')) return false;
      const last = new URL(path, 'http://x').searchParams.get('last');
      const link: Record<string, string> = last === null ? { link: `</v2/a/app/tags/list?last=b&n=2>; rel="next"` } : {};
      sendDocument(response, 200, { name: 'a/app', tags: last === null ? ['a', 'b'] : ['c'] }, link);
      return true;
    };
    const first = await fetch(url('a/app/tags/list?n=2'));
    expect(first.headers.get('link')).toBe(`</v2/${upstream.host}/a/app/tags/list?last=b&n=2>; rel="next"`);
    expect(await (await fetch(url('a/app/tags/list?last=b&n=2'))).json()).toMatchObject({ tags: ['c'] });
  });
});

describe('private content in the cache', () => {
  const mayRead = (user: string, repository: string): boolean => (repository === 'a/private' ? user === 'jane' : true);
  let blob: string;

  beforeEach(async () => {
    useTokens({ users: { jane: 'secret', john: 'word' }, mayRead });
    upstream.addManifest('a/private', 'latest', { config: 'private' });
    upstream.addManifest('a/public', 'latest', { config: 'public' });
    blob = upstream.addBlob('a/private', randomBytes(5000));
    const jane = registryAuth('jane', 'secret');
    expect((await fetch(url('a/private/manifests/latest'), { headers: jane })).status).toBe(200);
    expect(await (await fetch(url(`a/private/blobs/${blob}`), { headers: jane })).bytes()).toHaveLength(5000);
  });

  it.each([
    ['nobody', {}],
    ['another user', registryAuth('john', 'word')],
    ['a wrong password', registryAuth('jane', 'wrong')],
  ])('is not served to %s', async (_who, headers) => {
    for (const path of ['a/private/manifests/latest', `a/private/blobs/${blob}`]) {
      expect((await fetch(url(path), { headers })).status, path).toBe(401);
      expect((await fetch(url(path), { headers, method: 'HEAD' })).status, path).toBe(401);
    }
  });

  it('is not served by its digest through another repository', async () => {
    await fetch(url('a/public/manifests/latest'));
    expect((await fetch(url(`a/public/blobs/${blob}`))).status).toBe(404);
    expect((await fetch(url(`a/public/blobs/${blob}`), { headers: registryAuth('jane', 'secret') })).status).toBe(404);
  });

  it('is served to its user without fetching it again', async () => {
    expect((await fetch(url(`a/private/blobs/${blob}`), { headers: registryAuth('jane', 'secret') })).status).toBe(200);
    expect(upstream.requests.filter((each) => each.method === 'GET' && each.path.includes(blob)).length).toBeLessThanOrEqual(2);
  });

  it('is not served to strangers while the upstream is away either', async () => {
    upstream.mishap = (_request, response) => {
      sendDocument(response, 500, {});
      return true;
    };
    expect((await fetch(url('a/private/manifests/latest'))).status).toBe(500);
    expect((await fetch(url(`a/private/blobs/${blob}`))).status).toBe(500);
    expect((await fetch(url(`a/private/blobs/${blob}`), { headers: registryAuth('jane', 'secret') })).status).toBe(200);
  });

  it('leaves no secret on the disk', async () => {
    const { readdirSync, readFileSync } = await import('node:fs');
    await proxy.stop('keep');
    const files = readdirSync(proxy.root, { recursive: true, withFileTypes: true }).filter((each) => each.isFile());
    expect(files.length).toBeGreaterThan(4);
    for (const file of files) {
      const content = readFileSync(`${file.parentPath}/${file.name}`, 'latin1');
      for (const secret of ['secret', Buffer.from('jane:secret').toString('base64'), 'token-']) expect(content).not.toContain(secret);
    }
    proxy = await startProxy({ root: proxy.root });
  });
});

describe('mirrors of docker.io', () => {
  it('are asked in order, without anybody’s credentials, and a plain mirror request finds docker.io', async () => {
    const second = await StandIn.start();
    try {
      await proxy.stop();
      proxy = await startProxy({ engine: { registryMirrors: [`http://${upstream.host}`, `http://${second.host}`] } });
      const digest = second.addManifest('library/busybox', 'latest', {});
      for (const path of ['/v2/docker.io/library/busybox', '/v2/docker.io/busybox', '/v2/library/busybox', '/v2/busybox']) {
        const answer = await fetch(`${proxy.url}${path}/manifests/latest`, { headers: registryAuth('jane', 'secret') });
        expect(answer.headers.get('docker-content-digest'), path).toBe(digest);
      }
      expect((await fetch(`${proxy.url}/v2/library/busybox/manifests/latest?ns=docker.io`)).status).toBe(200);
      expect(upstream.requests.length).toBeGreaterThan(0);
      for (const each of [...upstream.requests, ...second.requests]) expect(each.authorization).toBeUndefined();
    } finally {
      await second.stop();
    }
  });
});
