/** The proxy's own repositories: pull, push, discovery and management as the distribution specification has them. */
import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { busyboxImage, pushImage } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startProxy, type TestProxy } from './support/proxy.ts';
import { sha256 } from './support/standIn.ts';

let proxy: TestProxy;
const image = await busyboxImage();
const manifestType = 'application/vnd.oci.image.manifest.v1+json';

beforeAll(async () => {
  proxy = await startProxy();
});
afterAll(() => proxy.stop());

const url = (path: string): string => `${proxy.url}/v2/${path}`;
const octets = { 'content-type': 'application/octet-stream' };

async function code(answer: Response): Promise<[number, string | undefined]> {
  const body = (await answer.json()) as { errors: { code: string }[] };
  return [answer.status, body.errors[0]?.code];
}

async function putBlob(name: string, bytes: Buffer): Promise<string> {
  const put = await fetch(url(`${name}/blobs/uploads/?digest=${sha256(bytes)}`), {
    method: 'POST',
    headers: octets,
    body: new Uint8Array(bytes),
  });
  expect(put.status).toBe(201);
  return sha256(bytes);
}

async function putManifest(name: string, reference: string, document: object): Promise<Response> {
  return fetch(url(`${name}/manifests/${reference}`), {
    method: 'PUT',
    headers: { 'content-type': manifestType },
    body: JSON.stringify(document),
  });
}

const empty = Buffer.from('{}');
const manifestOf = (config: Buffer, more: object = {}): object => ({
  schemaVersion: 2,
  mediaType: manifestType,
  config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: sha256(config), size: config.length },
  layers: [],
  ...more,
});

describe('pushing and pulling', () => {
  it('gives back an image as it was pushed, also after a restart', async () => {
    await pushImage(image, { address: new URL(proxy.url).host, repository: 'lab/busybox', tag: '1' });
    await proxy.stop('keep');
    proxy = await startProxy({ root: proxy.root });
    for (const reference of ['1', image.manifestDescriptor.digest]) {
      const answer = await fetch(url(`lab/busybox/manifests/${reference}`));
      expect(answer.headers.get('content-type')).toBe(image.manifestDescriptor.mediaType);
      expect(Buffer.from(await answer.arrayBuffer())).toEqual(image.manifest);
    }
    for (const [digest, bytes] of image.blobs) {
      if (digest === image.manifestDescriptor.digest) continue;
      expect(Buffer.from(await (await fetch(url(`lab/busybox/blobs/${digest}`))).arrayBuffer())).toEqual(bytes);
    }
    const part = await fetch(url(`lab/busybox/blobs/${image.id}`), { headers: { range: 'bytes=1-3' } });
    expect([part.status, await part.text()]).toEqual([206, image.config.subarray(1, 4).toString()]);
  });

  it('takes chunks in order, refuses others, and tells how far it came', async () => {
    const bytes = randomBytes(200_000);
    const begun = await fetch(url('lab/chunks/blobs/uploads/'), { method: 'POST' });
    expect([begun.status, begun.headers.get('range')]).toEqual([202, '0-0']);
    let location = begun.headers.get('location') ?? '';
    const patch = (start: number, end: number): Promise<Response> =>
      fetch(`${proxy.url}${location}`, {
        method: 'PATCH',
        headers: { ...octets, 'content-range': `${start}-${end - 1}` },
        body: bytes.subarray(start, end),
      });
    const first = await patch(0, 80_000);
    expect([first.status, first.headers.get('range')]).toEqual([202, '0-79999']);
    location = first.headers.get('location') ?? '';
    expect((await patch(100_000, 200_000)).status).toBe(416);
    expect((await fetch(`${proxy.url}${location}`)).headers.get('range')).toBe('0-79999');
    expect((await patch(80_000, 150_000)).status).toBe(202);
    const put = await fetch(`${proxy.url}${location}?digest=${sha256(bytes)}`, {
      method: 'PUT',
      headers: { ...octets, 'content-range': '150000-199999' },
      body: bytes.subarray(150_000),
    });
    expect([put.status, put.headers.get('location')]).toEqual([201, `/v2/lab/chunks/blobs/${sha256(bytes)}`]);
    expect(sha256(new Uint8Array(await (await fetch(url(`lab/chunks/blobs/${sha256(bytes)}`))).arrayBuffer()))).toBe(sha256(bytes));
    expect((await fetch(`${proxy.url}${location}`)).status).toBe(404);
  });

  it('keeps nothing of what does not match its digest', async () => {
    const begun = await fetch(url('lab/wrong/blobs/uploads/'), { method: 'POST' });
    const location = begun.headers.get('location') ?? '';
    const put = await fetch(`${proxy.url}${location}?digest=${sha256(Buffer.from('other'))}`, {
      method: 'PUT',
      headers: octets,
      body: 'x',
    });
    expect(await code(put)).toEqual([400, 'DIGEST_INVALID']);
    expect((await fetch(`${proxy.url}${location}`)).status).toBe(404);
    expect(readdirSync(join(proxy.root, 'own/uploads'))).toEqual([]);
  });

  it('mounts a blob of another repository, or begins an upload when there is none', async () => {
    const digest = await putBlob('lab/from', randomBytes(1000));
    const mounted = await fetch(url(`lab/to/blobs/uploads/?mount=${digest}&from=lab/from`), { method: 'POST' });
    expect([mounted.status, mounted.headers.get('location')]).toEqual([201, `/v2/lab/to/blobs/${digest}`]);
    expect((await fetch(url(`lab/to/blobs/${digest}`), { method: 'HEAD' })).headers.get('content-length')).toBe('1000');
    const other = await fetch(url(`lab/to/blobs/uploads/?mount=${sha256(Buffer.from('none'))}&from=lab/from`), { method: 'POST' });
    expect(other.status).toBe(202);
    expect((await fetch(`${proxy.url}${other.headers.get('location')}`, { method: 'DELETE' })).status).toBe(204);
  });

  it('refuses a manifest that points at what is not there, is not JSON, or is another than its digest', async () => {
    expect(await code(await putManifest('lab/refused', '1', manifestOf(Buffer.from('absent'))))).toEqual([404, 'MANIFEST_BLOB_UNKNOWN']);
    const text = { method: 'PUT', headers: { 'content-type': manifestType }, body: 'no json' };
    expect(await code(await fetch(url('lab/refused/manifests/1'), text))).toEqual([400, 'MANIFEST_INVALID']);
    await putBlob('lab/refused', empty);
    const other = await putManifest('lab/refused', sha256(Buffer.from('x')), manifestOf(empty));
    expect(await code(other)).toEqual([400, 'DIGEST_INVALID']);
    expect((await fetch(url('lab/refused/manifests/1'))).status).toBe(404);
  });

  it('does not show a blob of one repository to another', async () => {
    const digest = await putBlob('lab/one', randomBytes(100));
    expect(await code(await fetch(url(`lab/two/blobs/${digest}`)))).toEqual([404, 'BLOB_UNKNOWN']);
  });
});

describe('discovery and management', () => {
  it('lists tags and repositories in pages', async () => {
    await putBlob('lab/listed', empty);
    for (const tag of ['c', 'a', 'b']) expect((await putManifest('lab/listed', tag, manifestOf(empty))).status).toBe(201);
    const first = await fetch(url('lab/listed/tags/list?n=2'));
    expect(await first.json()).toEqual({ name: 'lab/listed', tags: ['a', 'b'] });
    const next = /^<([^>]+)>; rel="next"$/.exec(first.headers.get('link') ?? '')?.[1] ?? '';
    const second = await fetch(`${proxy.url}${next}`);
    expect([await second.json(), second.headers.get('link')]).toEqual([{ name: 'lab/listed', tags: ['c'] }, null]);
    expect(await (await fetch(url('lab/listed/tags/list?n=0'))).json()).toEqual({ name: 'lab/listed', tags: [] });
    expect(await code(await fetch(url('lab/listed/tags/list?n=x')))).toEqual([400, 'PAGINATION_NUMBER_INVALID']);
    expect(await code(await fetch(url('lab/nothing/tags/list')))).toEqual([404, 'NAME_UNKNOWN']);
    const { repositories } = (await (await fetch(url('_catalog'))).json()) as { repositories: string[] };
    expect(repositories).toContain('lab/listed');
    expect(repositories).toEqual([...repositories].sort());
  });

  it('tells what refers to a manifest, also to one that is not there', async () => {
    await putBlob('lab/signed', empty);
    const subject = sha256(Buffer.from('somewhere'));
    const signature = manifestOf(empty, {
      artifactType: 'application/x-signature',
      subject: { mediaType: manifestType, digest: subject, size: 1 },
      annotations: { by: 'jane' },
    });
    const put = await putManifest('lab/signed', sha256(Buffer.from(JSON.stringify(signature))), signature);
    expect([put.status, put.headers.get('oci-subject')]).toEqual([201, subject]);
    const all = await fetch(url(`lab/signed/referrers/${subject}`));
    expect(all.headers.get('content-type')).toBe('application/vnd.oci.image.index.v1+json');
    expect(((await all.json()) as { manifests: object[] }).manifests).toMatchObject([
      { artifactType: 'application/x-signature', annotations: { by: 'jane' }, mediaType: manifestType },
    ]);
    const none = await fetch(url(`lab/signed/referrers/${subject}?artifactType=application/x-other`));
    expect([none.headers.get('oci-filters-applied'), ((await none.json()) as { manifests: object[] }).manifests]).toEqual([
      'artifactType',
      [],
    ]);
    expect(((await (await fetch(url(`lab/signed/referrers/${sha256(empty)}`))).json()) as { manifests: object[] }).manifests).toEqual([]);
  });

  it('deletes a tag, a manifest with its tags, and a blob', async () => {
    const digest = await putBlob('lab/gone', empty);
    for (const tag of ['a', 'b', 'c']) await putManifest('lab/gone', tag, manifestOf(empty));
    const manifest = sha256(Buffer.from(JSON.stringify(manifestOf(empty))));
    const remove = async (path: string): Promise<number> => (await fetch(url(`lab/gone/${path}`), { method: 'DELETE' })).status;
    expect(await remove('manifests/a')).toBe(202);
    expect((await fetch(url('lab/gone/manifests/a'))).status).toBe(404);
    expect((await fetch(url(`lab/gone/manifests/${manifest}`))).status).toBe(200);
    expect([await remove(`manifests/${manifest}`), await remove(`manifests/${manifest}`)]).toEqual([202, 404]);
    expect((await fetch(url('lab/gone/manifests/b'))).status).toBe(404);
    expect([await remove(`blobs/${digest}`), await remove(`blobs/${digest}`)]).toEqual([202, 404]);
    expect((await fetch(url(`lab/gone/blobs/${digest}`), { method: 'HEAD' })).status).toBe(404);
  });

  it.each(['lab/_tags', 'lab/a/_blobs', 'lab/A', 'lab'])('has no repository named %s', async (name) => {
    const { status } = await fetch(url(`${name}/manifests/1`));
    expect([400, 404]).toContain(status);
  });
});
