/** The proxy in front of a real docker-registry. */
import { createHash, randomBytes } from 'node:crypto';
import { request as httpRequest } from 'node:http';
import { buildImage, busyboxImage, pushImage, startRegistry, type TestRegistry } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startProxy, type TestProxy } from './support/proxy.ts';

let registry: TestRegistry;
let proxy: TestProxy;
const image = await busyboxImage();

beforeAll(async () => {
  registry = await startRegistry();
  proxy = await startProxy();
  await pushImage(image, { address: registry.address, repository: 'lab/busybox', tag: '1' });
});
afterAll(async () => {
  await proxy.stop();
  await registry.stop();
});

const at = (path: string): string => `${proxy.url}/v2/${registry.address}/${path}`;
const sha256 = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
const layer = (): string =>
  [...image.blobs.keys()].find((digest) => digest !== image.manifestDescriptor.digest && digest !== image.id) ?? '';

describe('pulling', () => {
  it('says that it speaks the API', async () => {
    const answer = await fetch(`${proxy.url}/v2/`);
    expect(answer.status).toBe(200);
    expect(answer.headers.get('docker-distribution-api-version')).toBe('registry/2.0');
  });

  it('gives a manifest by tag and by digest, byte for byte', async () => {
    for (const reference of ['1', image.manifestDescriptor.digest]) {
      const answer = await fetch(at(`lab/busybox/manifests/${reference}`));
      expect(answer.status).toBe(200);
      expect(answer.headers.get('content-type')).toBe(image.manifestDescriptor.mediaType);
      expect(answer.headers.get('docker-content-digest')).toBe(image.manifestDescriptor.digest);
      expect(Buffer.from(await answer.arrayBuffer())).toEqual(image.manifest);
    }
  });

  it('answers HEAD of a manifest with its size and digest', async () => {
    const answer = await fetch(at('lab/busybox/manifests/1'), { method: 'HEAD' });
    expect(answer.headers.get('docker-content-digest')).toBe(image.manifestDescriptor.digest);
    expect(Number(answer.headers.get('content-length'))).toBe(image.manifest.length);
  });

  it('sees at once that a tag has moved', async () => {
    const other = await buildImage({ layers: [[{ path: 'moved', content: 'x' }]] });
    await pushImage(image, { address: registry.address, repository: 'lab/moving', tag: 'latest' });
    await fetch(at('lab/moving/manifests/latest'));
    await pushImage(other, { address: registry.address, repository: 'lab/moving', tag: 'latest' });
    const answer = await fetch(at('lab/moving/manifests/latest'));
    expect(answer.headers.get('docker-content-digest')).toBe(other.manifestDescriptor.digest);
  });

  it('gives a blob whole and in parts, and asks the upstream for it once', async () => {
    const bytes = image.blobs.get(layer()) ?? Buffer.alloc(0);
    const url = at(`lab/busybox/blobs/${layer()}`);
    const whole = await fetch(url);
    expect(whole.headers.get('content-length')).toBe(String(bytes.length));
    expect(sha256(new Uint8Array(await whole.arrayBuffer()))).toBe(layer());
    const part = await fetch(url, { headers: { range: 'bytes=10-19' } });
    expect(part.status).toBe(206);
    expect(part.headers.get('content-range')).toBe(`bytes 10-19/${bytes.length}`);
    expect(Buffer.from(await part.arrayBuffer())).toEqual(bytes.subarray(10, 20));
    const end = await fetch(url, { headers: { range: 'bytes=-5' } });
    expect(Buffer.from(await end.arrayBuffer())).toEqual(bytes.subarray(-5));
    for (const range of ['bytes=99999999999-', 'bytes=x', 'bytes=5-2', 'lines=1-2']) {
      expect((await fetch(url, { headers: { range } })).status).toBe(416);
    }
    const gets = registry.requests().filter((each) => each.method === 'GET' && each.path === `/v2/lab/busybox/blobs/${layer()}`);
    expect(gets).toHaveLength(1);
  });

  it('passes on what the registry says is missing, with the code of the specification', async () => {
    const cases: [path: string, code: string][] = [
      ['lab/busybox/manifests/nope', 'MANIFEST_UNKNOWN'],
      [`lab/busybox/manifests/sha256:${'0'.repeat(64)}`, 'MANIFEST_UNKNOWN'],
      [`lab/busybox/blobs/sha256:${'0'.repeat(64)}`, 'BLOB_UNKNOWN'],
      ['lab/nothing/tags/list', 'NAME_UNKNOWN'],
    ];
    for (const [path, code] of cases) {
      const answer = await fetch(at(path));
      expect(answer.status, path).toBe(404);
      expect(((await answer.json()) as { errors: { code: string }[] }).errors[0]?.code, path).toBe(code);
    }
    const manifest = await fetch(at('lab/busybox/manifests/nope'));
    expect(((await manifest.json()) as { errors: { message: string }[] }).errors[0]?.message).toBe('manifest unknown');
  });

  it('lists tags', async () => {
    await pushImage(image, { address: registry.address, repository: 'lab/busybox', tag: '2' });
    const list = (await (await fetch(at('lab/busybox/tags/list'))).json()) as { name: string; tags: string[] };
    expect({ ...list, tags: list.tags.sort() }).toEqual({ name: 'lab/busybox', tags: ['1', '2'] });
  });

  it('takes the registry from ?ns=, as containerd says it', async () => {
    const answer = await fetch(`${proxy.url}/v2/lab/busybox/manifests/1?ns=${registry.address}`);
    expect(answer.headers.get('docker-content-digest')).toBe(image.manifestDescriptor.digest);
  });

  it('says in Go words why a registry cannot be reached', async () => {
    const answer = await fetch(`${proxy.url}/v2/localhost:1/app/manifests/latest`);
    expect(answer.status).toBe(502);
    expect(((await answer.json()) as { errors: { message: string }[] }).errors[0]?.message).toBe(
      'Get "http://localhost:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
    );
  });
});

describe('pushing', () => {
  it('pushes an image through, monolithic', async () => {
    const target = { address: new URL(proxy.url).host, repository: `${registry.address}/pushed/app`, tag: 'v1' };
    await pushImage(image, target);
    const direct = await fetch(`http://${registry.address}/v2/pushed/app/manifests/v1`, {
      headers: { accept: image.manifestDescriptor.mediaType },
    });
    expect(Buffer.from(await direct.arrayBuffer())).toEqual(image.manifest);
  });

  it('uploads in chunks, tells how far it came, and mounts', async () => {
    const bytes = randomBytes(300_000);
    const begun = await fetch(at('pushed/chunks/blobs/uploads/'), { method: 'POST' });
    expect(begun.status).toBe(202);
    let location = begun.headers.get('location') ?? '';
    for (const [start, end] of [
      [0, 100_000],
      [100_000, 300_000],
    ] as const) {
      const patched = await fetch(`${proxy.url}${location}`, {
        method: 'PATCH',
        headers: { 'content-type': 'application/octet-stream', 'content-range': `${start}-${end - 1}` },
        body: bytes.subarray(start, end),
      });
      expect(patched.status).toBe(202);
      expect(patched.headers.get('range')).toBe(`0-${end - 1}`);
      location = patched.headers.get('location') ?? '';
    }
    const state = await fetch(`${proxy.url}${location}`);
    expect([state.status, state.headers.get('range')]).toEqual([204, '0-299999']);
    const put = await fetch(`${proxy.url}${location}?digest=${sha256(bytes)}`, { method: 'PUT' });
    expect(put.status).toBe(201);
    expect(put.headers.get('location')).toBe(`/v2/${registry.address}/pushed/chunks/blobs/${sha256(bytes)}`);
    expect((await fetch(at(`pushed/chunks/blobs/${sha256(bytes)}`), { method: 'HEAD' })).headers.get('content-length')).toBe('300000');
    const mounted = await fetch(at(`pushed/other/blobs/uploads/?mount=${sha256(bytes)}&from=${registry.address}/pushed/chunks`), {
      method: 'POST',
    });
    expect(mounted.status).toBe(201);
    expect((await fetch(`http://${registry.address}/v2/pushed/other/blobs/${sha256(bytes)}`, { method: 'HEAD' })).status).toBe(200);
  });

  it('passes on that a digest did not match', async () => {
    const begun = await fetch(at('pushed/wrong/blobs/uploads/'), { method: 'POST' });
    const put = await fetch(`${proxy.url}${begun.headers.get('location')}?digest=sha256:${'1'.repeat(64)}`, { method: 'PUT', body: 'x' });
    expect(put.status).toBe(400);
    expect(((await put.json()) as { errors: { code: string }[] }).errors[0]?.code).toBe('DIGEST_INVALID');
  });

  it('takes no upload id that it did not give, or that is another repository’s', async () => {
    const begun = await fetch(at('pushed/ids/blobs/uploads/'), { method: 'POST' });
    const location = begun.headers.get('location') ?? '';
    const forged = location.replace(/.$/, (last) => (last === 'A' ? 'B' : 'A'));
    expect((await fetch(`${proxy.url}${forged}`, { method: 'PATCH', body: 'x' })).status).toBe(404);
    const moved = location.replace('pushed/ids', 'pushed/elsewhere');
    expect((await fetch(`${proxy.url}${moved}`, { method: 'PATCH', body: 'x' })).status).toBe(404);
    expect((await fetch(at('pushed/ids/blobs/uploads/nonsense'), { method: 'PUT', body: 'x' })).status).toBe(404);
    expect((await fetch(`${proxy.url}${location}`, { method: 'DELETE' })).status).toBe(204);
  });

  it('deletes a manifest', async () => {
    await pushImage(image, { address: registry.address, repository: 'pushed/gone', tag: '1' });
    expect((await fetch(at('pushed/gone/manifests/1'))).status).toBe(200);
    const gone = await fetch(at(`pushed/gone/manifests/${image.manifestDescriptor.digest}`), { method: 'DELETE' });
    expect(gone.status).toBe(202);
    expect((await fetch(at('pushed/gone/manifests/1'))).status).toBe(404);
  });
});

describe('hostile requests', () => {
  const raw = (path: string, method = 'GET', headers: Record<string, string> = {}): Promise<number> =>
    new Promise((resolve, reject) => {
      const { hostname, port } = new URL(proxy.url);
      const request = httpRequest({ hostname, port, path, method, headers }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      });
      request.on('error', reject);
      request.end();
    });

  it.each([
    '/v2/../../etc/passwd',
    '/v2/localhost:5000/../../x/manifests/latest',
    '/v2/localhost:5000/%2e%2e/%2e%2e/x/manifests/latest',
    '/v2/localhost:5000/x/blobs/sha256:../../../../etc/passwd',
    '/v2/localhost:5000/x/blobs/sha256%3A..%2F..%2Fetc',
    `/v2/localhost:5000/x/blobs/sha256:${'a'.repeat(63)}`,
    `/v2/localhost:5000/x/blobs/md5:${'a'.repeat(32)}`,
    '/v2/localhost:99999/x/manifests/latest',
    '/v2/localhost:5000@evil.example/x/manifests/latest',
    '/v2/localhost:5000/UPPER/case/manifests/latest',
    '/v2/a%00b/manifests/latest',
    '/v2/%ff%fe/manifests/latest',
    '/v2/x/manifests/latest?ns=../etc',
    '/v2/x/manifests/latest?ns=foo',
    '/v2/x/manifests/.hidden',
    '/v2/manifests/latest',
    '/v2/x/y',
    '/etc/passwd',
  ])('refuses %s', async (path) => {
    const status = await raw(path);
    expect(status).toBeGreaterThanOrEqual(400);
    expect(status).toBeLessThan(500);
  });

  it('refuses a path that is too long', async () => {
    expect(await raw(`/v2/${'a/'.repeat(3000)}manifests/latest`)).toBe(400);
  });

  it('takes broken credentials for nobody’s', async () => {
    expect(await raw(at('lab/busybox/manifests/1').slice(proxy.url.length), 'GET', { 'x-registry-auth': '{}' })).toBe(200);
  });

  it('refuses methods, and bodies that are no manifest', async () => {
    expect(await raw(at('lab/busybox/manifests/1').slice(proxy.url.length), 'POST')).toBe(405);
    expect(await raw(at('lab/busybox/manifests/1').slice(proxy.url.length), 'PUT')).toBe(400);
    const large = await fetch(at('lab/busybox/manifests/1'), {
      method: 'PUT',
      headers: { 'content-type': image.manifestDescriptor.mediaType },
      body: Buffer.alloc(5 * 1024 * 1024, 32),
    });
    expect(large.status).toBe(413);
  });
});
