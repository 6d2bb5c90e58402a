/** One upstream request for everybody, whatever the upstream, the network and the clients do. */
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { get as httpGet, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { waitFor } from '@flotilla/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startProxy, type TestProxy } from './support/proxy.ts';
import { StandIn, sendDocument, sha256 } from './support/standIn.ts';

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

const MiB = 1024 * 1024;
const blobUrl = (digest: string, repository = 'app'): string => `${proxy.url}/v2/${upstream.host}/${repository}/blobs/${digest}`;
const blobPath = (digest: string): string => `/v2/app/blobs/${digest}`;
const isBlobGet = (request: IncomingMessage, path: string): boolean => request.method === 'GET' && path.startsWith('/v2/app/blobs/');

interface Download {
  readonly bytes: Buffer;
  readonly firstByteAt: number;
  readonly status: number;
}

function download(url: string, headers: Record<string, string> = {}): Promise<Download> {
  return new Promise((resolve, reject) => {
    const request = httpGet(url, { headers, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      let firstByteAt = 0;
      response.on('data', (chunk: Buffer) => {
        if (firstByteAt === 0) firstByteAt = performance.now();
        chunks.push(chunk);
      });
      response.on('end', () => resolve({ bytes: Buffer.concat(chunks), firstByteAt, status: response.statusCode ?? 0 }));
      response.on('error', reject);
    });
    request.on('error', reject);
  });
}

const errorCode = (bytes: Buffer): string => (JSON.parse(bytes.toString()) as { errors: { code: string }[] }).errors[0]?.code ?? '';

/** Files below the cache that hold content. */
function kept(): string[] {
  const files = (folder: string): string[] =>
    existsSync(folder)
      ? readdirSync(folder, { recursive: true, withFileTypes: true }).flatMap((each) => (each.isFile() ? [each.name] : []))
      : [];
  return [...files(join(proxy.root, 'blobs')), ...files(join(proxy.root, 'partial'))];
}

describe('single flight', () => {
  it('asks the upstream once for twenty clients, and gives each its first byte long before the last has arrived', async () => {
    const digest = upstream.addBlob('app', randomBytes(2 * MiB));
    upstream.mishap = async (request, response, path) => {
      if (!isBlobGet(request, path)) return false;
      await upstream.sendBlob(request, response, `app/${digest}`, { chunkBytes: 128 * 1024, pauseMs: 40 });
      return true;
    };
    const downloads = await Promise.all(Array.from({ length: 20 }, () => download(blobUrl(digest))));
    const endedAt = performance.now();
    for (const each of downloads) {
      expect(sha256(each.bytes)).toBe(digest);
      expect(each.firstByteAt).toBeLessThan(endedAt - 300);
    }
    expect(upstream.requests.map((each) => `${each.method} ${each.path}`)).toEqual([`GET ${blobPath(digest)}`]);
    expect(sha256((await download(blobUrl(digest))).bytes)).toBe(digest);
    expect(upstream.count('GET', blobPath(digest))).toBe(1);
    const metrics = await (await fetch(`${proxy.url}/metrics`)).text();
    const from = (origin: string): number => Number(new RegExp(`blobs_total{origin="${origin}"} (\\d+)`).exec(metrics)?.[1] ?? 0);
    expect([from('fill'), from('join') + from('cache')]).toEqual([1, 20]);
    expect(metrics).toContain(`flotilla_registry_upstream_requests_total{host="${upstream.host}",method="GET",status="200"} 1`);
  });

  it('goes on when the client that began it leaves, and is not held up by one that reads nothing', async () => {
    const digest = upstream.addBlob('app', randomBytes(24 * MiB));
    upstream.mishap = async (request, response, path) => {
      if (!isBlobGet(request, path)) return false;
      await upstream.sendBlob(request, response, `app/${digest}`, { chunkBytes: 512 * 1024, pauseMs: 5 });
      return true;
    };
    const first = httpGet(blobUrl(digest), { agent: false });
    await new Promise<void>((resolve) => first.on('response', (response) => response.once('data', () => resolve())));
    first.destroy();
    const stalled = httpGet(blobUrl(digest), { agent: false });
    stalled.on('response', (response) => response.pause());
    stalled.on('error', () => undefined);
    const other = await download(blobUrl(digest));
    expect(sha256(other.bytes)).toBe(digest);
    stalled.destroy();
    expect(upstream.count('GET', blobPath(digest))).toBe(1);
  });

  it('gives a later part of a growing blob when it has come that far', async () => {
    const bytes = randomBytes(2 * MiB);
    const digest = upstream.addBlob('app', bytes);
    upstream.mishap = async (request, response, path) => {
      if (!isBlobGet(request, path)) return false;
      await upstream.sendBlob(request, response, `app/${digest}`, { chunkBytes: 256 * 1024, pauseMs: 20 });
      return true;
    };
    const whole = download(blobUrl(digest));
    const part = await download(blobUrl(digest), { range: 'bytes=1500000-1500099' });
    expect(part.status).toBe(206);
    expect(part.bytes).toEqual(bytes.subarray(1_500_000, 1_500_100));
    await whole;
    expect(upstream.count('GET', blobPath(digest))).toBe(1);
  });

  it('takes a blob whose size the upstream does not say', async () => {
    const digest = upstream.addBlob('app', randomBytes(MiB));
    upstream.mishap = async (request, response, path) => {
      if (!isBlobGet(request, path)) return false;
      await upstream.sendBlob(request, response, `app/${digest}`, { unsized: true });
      return true;
    };
    expect(sha256((await download(blobUrl(digest))).bytes)).toBe(digest);
  });

  it('serves an empty blob', async () => {
    const digest = upstream.addBlob('app', Buffer.alloc(0));
    expect((await download(blobUrl(digest))).bytes).toHaveLength(0);
    expect((await download(blobUrl(digest))).status).toBe(200);
  });
});

describe('cut connections', () => {
  it('goes on by Range where it was cut; no byte is fetched twice', async () => {
    const bytes = randomBytes(4 * MiB);
    const digest = upstream.addBlob('app', bytes);
    let sent = 0;
    let cuts = 0;
    upstream.mishap = async (request, response, path) => {
      if (!isBlobGet(request, path)) return false;
      const cutAfter = cuts++ < 3 ? MiB : undefined;
      const before = response.writableLength;
      await upstream.sendBlob(request, response, `app/${digest}`, cutAfter === undefined ? {} : { cutAfter, pauseMs: 2 });
      sent += before;
      return true;
    };
    const got = await download(blobUrl(digest));
    expect(sha256(got.bytes)).toBe(digest);
    const ranges = upstream.requests.map((each) => Number(/^bytes=(\d+)-$/.exec(each.range ?? 'bytes=0-')?.[1]));
    expect(ranges).toHaveLength(4);
    expect(ranges[0]).toBe(0);
    for (const [index, from] of ranges.slice(1).entries()) expect(from).toBeGreaterThan(ranges[index] ?? 0);
    expect(sent).toBe(0);
  });

  it('copes with an upstream that ignores the range', async () => {
    const digest = upstream.addBlob('app', randomBytes(2 * MiB));
    let times = 0;
    upstream.mishap = async (request, response, path) => {
      if (!isBlobGet(request, path)) return false;
      await upstream.sendBlob(request, response, `app/${digest}`, times++ === 0 ? { cutAfter: MiB, pauseMs: 2 } : { ignoreRange: true });
      return true;
    };
    expect(sha256((await download(blobUrl(digest))).bytes)).toBe(digest);
    expect(times).toBe(2);
  });

  it('survives errors and a refused connection in the middle', async () => {
    const digest = upstream.addBlob('app', randomBytes(2 * MiB));
    let times = 0;
    upstream.mishap = async (request, response, path) => {
      if (!isBlobGet(request, path)) return false;
      times++;
      if (times === 1) await upstream.sendBlob(request, response, `app/${digest}`, { cutAfter: MiB, pauseMs: 2 });
      else if (times < 4) sendDocument(response, 503, { errors: [{ code: 'UNAVAILABLE', message: 'not now' }] });
      else return false;
      return true;
    };
    expect(sha256((await download(blobUrl(digest))).bytes)).toBe(digest);
  });

  it('goes on after a restart of the proxy, from what is on the disk', async () => {
    const digest = upstream.addBlob('app', randomBytes(3 * MiB));
    upstream.mishap = async (request, response, path) => {
      if (!isBlobGet(request, path) || request.headers.range !== undefined) return false;
      await upstream.sendBlob(request, response, `app/${digest}`, { chunkBytes: 64 * 1024, pauseMs: 30 });
      return true;
    };
    const lost = download(blobUrl(digest)).catch(() => undefined);
    const partial = join(proxy.root, 'partial', digest.replace(':', '-'));
    await waitFor(() => existsSync(partial) && kept().length > 0 && upstream.requests.length > 0, { what: 'a partial blob' });
    await new Promise((resolve) => setTimeout(resolve, 300));
    await proxy.stop('keep');
    await lost;
    proxy = await startProxy({ root: proxy.root });
    expect(sha256((await download(blobUrl(digest))).bytes)).toBe(digest);
    expect(Number(/^bytes=(\d+)-$/.exec(upstream.requests.at(-1)?.range ?? '')?.[1])).toBeGreaterThan(0);
  });
});

describe('an upstream that lies', () => {
  it('keeps nothing and says DIGEST_INVALID', async () => {
    const digest = sha256(Buffer.from('what it should be'));
    upstream.addBlob('app', Buffer.from('what it is, of some other length'), digest);
    const answer = await download(blobUrl(digest));
    expect(answer.status).toBe(502);
    expect(errorCode(answer.bytes)).toBe('DIGEST_INVALID');
    await waitFor(() => kept().length === 0, { what: 'an empty cache' });
  });

  it('cuts the connection when bytes have been sent already', async () => {
    const digest = sha256(Buffer.from('small'));
    upstream.addBlob('app', randomBytes(2 * MiB), digest);
    await expect(download(blobUrl(digest))).rejects.toThrow();
    await waitFor(() => kept().length === 0, { what: 'an empty cache' });
  });

  it('takes no more than was announced, and no fewer', async () => {
    const bytes = randomBytes(MiB);
    const digest = upstream.addBlob('app', bytes);
    upstream.mishap = async (request, response, path) => {
      if (!isBlobGet(request, path) || request.headers.range !== undefined) return false;
      response.writeHead(200, { 'content-length': bytes.length / 2 });
      response.end(bytes.subarray(0, bytes.length / 2));
      return true;
    };
    await expect(download(blobUrl(digest))).rejects.toThrow();
    await waitFor(() => kept().length === 0, { what: 'an empty cache' });
  });

  it('notices a partial blob that was damaged, and starts over', async () => {
    const digest = upstream.addBlob('app', randomBytes(MiB));
    const { writeFileSync } = await import('node:fs');
    writeFileSync(join(proxy.root, 'partial', digest.replace(':', '-')), randomBytes(MiB / 2));
    const answer = await download(blobUrl(digest)).catch(() => undefined);
    // The first reader may have been handed damaged bytes and was cut; the blob is good for the next.
    if (answer !== undefined) expect(sha256(answer.bytes)).toBe(digest);
    await waitFor(() => kept().includes(digest.slice(7)), { what: 'the blob' });
    expect(sha256((await download(blobUrl(digest))).bytes)).toBe(digest);
  });

  it('takes a partial blob that was complete already', async () => {
    const bytes = randomBytes(MiB);
    const digest = upstream.addBlob('app', bytes);
    const { writeFileSync } = await import('node:fs');
    writeFileSync(join(proxy.root, 'partial', digest.replace(':', '-')), bytes);
    expect(sha256((await download(blobUrl(digest))).bytes)).toBe(digest);
    expect(upstream.requests.map((each) => each.range)).toEqual([`bytes=${bytes.length}-`]);
  });
});

describe('the bound of the cache', () => {
  it('removes what was used longest ago, and not what is being read', async () => {
    await proxy.stop();
    proxy = await startProxy({ env: { FLOTILLA_REGISTRY_CACHE_BYTES: String(50 * MiB) } });
    const [first = '', second = '', third = ''] = Array.from({ length: 3 }, () => upstream.addBlob('app', randomBytes(20 * MiB)));
    const isKept = (digest: string): boolean => kept().includes(digest.slice(7));
    const fill = async (digest: string): Promise<void> => {
      await download(blobUrl(digest));
      await waitFor(() => isKept(digest), { what: 'the blob' });
    };
    await fill(first);
    await fill(second);
    // The one used longest ago is held open, and is more than what buffers between here and there can hold.
    const reading = httpGet(blobUrl(first), { agent: false });
    const response = await new Promise<IncomingMessage>((resolve) => reading.on('response', resolve));
    response.pause();
    await fetch(blobUrl(second), { headers: { range: 'bytes=0-0' } });
    await download(blobUrl(third));
    await waitFor(() => isKept(third) && !isKept(second), { what: 'the eviction' });
    expect(isKept(first)).toBe(true);
    let size = 0;
    response.on('data', (chunk: Buffer) => {
      size += chunk.length;
    });
    response.resume();
    await new Promise((resolve) => response.on('end', resolve));
    expect(size).toBe(20 * MiB);
    expect(sha256((await download(blobUrl(second))).bytes)).toBe(second);
    expect(upstream.count('GET', blobPath(second))).toBe(2);
  });
});
