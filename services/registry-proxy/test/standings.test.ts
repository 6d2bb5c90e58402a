/** Upstreams that lie are left out for a time and told of; those that ask to be left alone are; what their rate limit leaves is shown. */
import { randomBytes } from 'node:crypto';
import { waitFor } from '@flotilla/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { registryAuth, startProxy, type TestProxy } from './support/proxy.ts';
import { StandIn, sendDocument, sha256 } from './support/standIn.ts';

let upstream: StandIn;
let mirror: StandIn;
let proxy: TestProxy;

beforeEach(async () => {
  upstream = await StandIn.start();
  mirror = await StandIn.start();
  proxy = await startProxy({
    engine: { registryMirrors: [`http://${mirror.host}`] },
    env: { FLOTILLA_REGISTRY_UPSTREAMS: `docker.io=http://${upstream.host}`, FLOTILLA_REGISTRY_QUARANTINE_MS: '1500' },
  });
});
afterEach(async () => {
  await proxy.stop();
  await mirror.stop();
  await upstream.stop();
});

const get = (path: string, headers: Record<string, string> = {}): Promise<Response> => fetch(`${proxy.url}/v2/app/${path}`, { headers });
const metrics = async (): Promise<string> => (await fetch(`${proxy.url}/metrics`)).text();
const status = async (): Promise<{ upstreams: { url: string; [key: string]: unknown }[] }> =>
  (await (await fetch(`${proxy.url}/flotilla/v1/status`)).json()) as { upstreams: { url: string }[] };
const code = async (answer: Response): Promise<[number, string | undefined]> => [
  answer.status,
  ((await answer.json()) as { errors: { code: string }[] }).errors[0]?.code,
];

describe('a mirror that lies', () => {
  it.each(['of small blobs', 'of large blobs'])('%s is left out, and the next is asked for the same blob at once', async (size) => {
    const bytes = randomBytes(size.includes('small') ? 1000 : 800_000);
    const digest = upstream.addBlob('library/app', bytes);
    mirror.addBlob('library/app', randomBytes(bytes.length), digest);
    const other = upstream.addBlob('library/app', Buffer.from('other'));
    const answer = await get(`blobs/${digest}`)
      .then(async (response) => sha256(await response.bytes()))
      .catch(() => 'cut');
    // Bytes of the lie may have been sent on already: that answer is cut, the next is right.
    if (size.includes('small')) expect(answer).toBe(digest);
    await waitFor(async () => sha256(await (await get(`blobs/${digest}`)).bytes()) === digest, { what: 'the blob' });
    await (await get(`blobs/${other}`)).bytes();
    expect(mirror.requests.filter(({ method }) => method === 'GET')).toHaveLength(1);
    expect(await metrics()).toContain(`flotilla_registry_lies_total{host="${mirror.host}"} 1`);
    expect(await metrics()).toContain('flotilla_registry_quarantined 1');
    expect((await status()).upstreams).toMatchObject([
      { url: `http://${mirror.host}`, quarantine: [{ repository: 'library/app', reason: expect.stringContaining(digest) }] },
    ]);
  });

  it('about a manifest is passed over in the same way, and asked again when its time is over', async () => {
    const digest = upstream.addManifest('library/app', 'latest', { right: true });
    mirror.addManifest('library/app', 'latest', { right: false }, { digest });
    expect(sha256(await (await get('manifests/latest')).bytes())).toBe(digest);
    const before = mirror.requests.length;
    expect((await get('manifests/absent')).status).toBe(404);
    expect(mirror.requests).toHaveLength(before);
    await waitFor(async () => (await metrics()).includes('flotilla_registry_quarantined 0'), { what: 'the end of the quarantine' });
    await get('manifests/absent');
    expect(mirror.requests.length).toBeGreaterThan(before);
  });
});

describe('a registry that lies', () => {
  it('is not asked for that repository for a time, with a clear answer; for others it is', async () => {
    const digest = sha256(Buffer.from('right'));
    upstream.addBlob('library/app', Buffer.from('wrong'), digest);
    upstream.addManifest('library/app', 'latest', {});
    upstream.addManifest('library/other', 'latest', {});
    expect(await code(await get(`blobs/${digest}`))).toEqual([502, 'DIGEST_INVALID']);
    const before = upstream.requests.length;
    const refused = await get('manifests/latest');
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await refused.text()).toContain('is in quarantine until');
    expect(upstream.requests).toHaveLength(before);
    expect((await fetch(`${proxy.url}/v2/other/manifests/latest`)).status).toBe(200);
    await waitFor(async () => (await get('manifests/latest')).status === 200, { what: 'the end of the quarantine' });
  });
});

describe('a registry with a rate limit', () => {
  it('is asked for nothing until its Retry-After is over, by those it meant; what is held is served', async () => {
    const digest = upstream.addManifest('library/app', 'latest', {});
    await get('manifests/latest');
    upstream.mishap = (request, response) => {
      if (request.headers.authorization !== undefined) return false;
      sendDocument(response, 429, { errors: [{ code: 'TOOMANYREQUESTS', message: 'slow down' }] }, { 'retry-after': '3600' });
      return true;
    };
    expect(await code(await get('manifests/new'))).toEqual([429, 'TOOMANYREQUESTS']);
    const before = upstream.requests.length;
    const again = await get('manifests/newer');
    expect(again.status).toBe(429);
    expect(Number(again.headers.get('retry-after'))).toBeGreaterThan(3500);
    expect(await again.text()).toContain('slow down');
    const held = await get('manifests/latest');
    expect([held.status, held.headers.get('docker-content-digest')]).toEqual([200, digest]);
    expect(held.headers.get('warning')).toMatch(/^110 /);
    expect(await metrics()).toMatch(/flotilla_registry_stale_total [1-9]/);
    expect(upstream.requests).toHaveLength(before);
    expect((await status()).upstreams).toMatchObject([{ url: `http://${upstream.host}`, heldOffUntil: expect.stringContaining('T') }]);
    // Another user's limit is another.
    await get('manifests/new', registryAuth('jane', 'secret'));
    expect(upstream.requests.length).toBeGreaterThan(before);
  });

  it('shows what is left of it', async () => {
    upstream.mishap = (_request, response) => {
      response.setHeader('ratelimit-limit', '100;w=21600').setHeader('ratelimit-remaining', '76;w=21600');
      return false;
    };
    upstream.addManifest('library/app', 'latest', {});
    await get('manifests/latest');
    expect((await status()).upstreams).toEqual([
      { url: `http://${upstream.host}`, rateLimit: { limit: 100, remaining: 76, windowSeconds: 21600 } },
    ]);
    expect(await metrics()).toContain(`flotilla_registry_upstream_rate_remaining{host="${upstream.host}"} 76`);
    expect(await metrics()).toContain(`flotilla_registry_upstream_rate_limit{host="${upstream.host}"} 100`);
  });
});
