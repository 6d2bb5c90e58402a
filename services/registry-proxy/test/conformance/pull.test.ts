/** What the distribution specification asks of a registry: pull. @see OCI distribution-spec v1.1 and its conformance cases */
import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { ask, bytesOf, bytesOfDocument, digest, image, imageType, putBlob, refusal, useOwnRepositories } from './client.ts';

useOwnRepositories();

describe('the API', () => {
  it('says that it is there', async () => {
    expect((await ask('GET', '')).status).toBe(200);
  });
});

describe.each(['sha256', 'sha512'])('pull, by %s', (algorithm) => {
  const name = `lab/conform/pull-${algorithm}`;
  const bytes = randomBytes(2048);
  let blob: string;
  let manifest: Buffer;
  let manifestDigest: string;
  beforeAll(async () => {
    blob = await putBlob(name, bytes, algorithm);
    manifest = bytesOfDocument(await image(name));
    manifestDigest = digest(manifest, algorithm);
    expect((await ask('PUT', `${name}/manifests/${manifestDigest}`, manifest, { 'content-type': imageType })).status).toBe(201);
  });

  it('gives a blob, and its size and digest to HEAD', async () => {
    for (const method of ['HEAD', 'GET']) {
      const answer = await ask(method, `${name}/blobs/${blob}`);
      expect([answer.status, answer.headers.get('content-length'), answer.headers.get('docker-content-digest')]).toEqual([
        200,
        '2048',
        blob,
      ]);
      expect(await bytesOf(answer)).toEqual(method === 'HEAD' ? Buffer.alloc(0) : bytes);
    }
  });

  it.each([
    ['bytes=500-1499', 206, 500, 1500],
    ['bytes=500-', 206, 500, 2048],
    ['bytes=-500', 206, 1548, 2048],
    ['bytes=2000-5000', 206, 2000, 2048],
    ['bytes=0-0', 206, 0, 1],
    ['bytes=500-0', 416, 0, 0],
    ['bytes=5000-10000', 416, 0, 0],
  ] as const)('gives the range %s', async (range, status, start, end) => {
    const answer = await ask('GET', `${name}/blobs/${blob}`, undefined, { range });
    expect(answer.status).toBe(status);
    if (status === 416) return expect(answer.headers.get('content-range')).toBe('bytes */2048');
    expect([answer.headers.get('content-range'), answer.headers.get('content-length')]).toEqual([
      `bytes ${start}-${end - 1}/2048`,
      String(end - start),
    ]);
    expect(await bytesOf(answer)).toEqual(bytes.subarray(start, end));
  });

  it('gives a manifest byte for byte with its media type', async () => {
    for (const method of ['HEAD', 'GET']) {
      const answer = await ask(method, `${name}/manifests/${manifestDigest}`, undefined, { accept: imageType });
      expect([answer.status, answer.headers.get('content-type'), answer.headers.get('docker-content-digest')]).toEqual([
        200,
        imageType,
        manifestDigest,
      ]);
      expect(answer.headers.get('content-length')).toBe(String(manifest.length));
      expect(await bytesOf(answer)).toEqual(method === 'HEAD' ? Buffer.alloc(0) : manifest);
    }
  });

  it('says 404 for what is not there', async () => {
    const absent = digest(Buffer.from('absent'), algorithm);
    await refusal(await ask('GET', `${name}/blobs/${absent}`), 404, 'BLOB_UNKNOWN');
    await refusal(await ask('GET', `${name}/manifests/${absent}`), 404, 'MANIFEST_UNKNOWN');
    await refusal(await ask('GET', `${name}/manifests/absent`), 404, 'MANIFEST_UNKNOWN');
    await refusal(await ask('GET', `${name}/manifests/.INVALID_MANIFEST_NAME`), 404, 'MANIFEST_UNKNOWN');
    for (const path of [`blobs/${absent}`, `manifests/${absent}`, 'manifests/absent']) {
      expect((await ask('HEAD', `${name}/${path}`)).status).toBe(404);
    }
  });
});
