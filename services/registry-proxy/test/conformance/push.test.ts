/** What the distribution specification asks of a registry: push. @see OCI distribution-spec v1.1 and its conformance cases */
import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import {
  ask,
  begin,
  bytesOf,
  bytesOfDocument,
  chunk,
  type Descriptor,
  digest,
  emptyType,
  image,
  imageType,
  indexType,
  location,
  octets,
  putBlob,
  putManifest,
  refusal,
  useOwnRepositories,
  withDigest,
} from './client.ts';

useOwnRepositories();

const chunkBytes = 1000;

describe.each(['sha256', 'sha512'])('push, by %s', (algorithm) => {
  const name = `lab/conform/push-${algorithm}`;
  const other = `${name}-other`;

  /** The place an upload ended at gives back the bytes, and so does the path of the specification. */
  async function created(answer: Response, bytes: Buffer): Promise<void> {
    const value = digest(bytes, algorithm);
    expect([answer.status, answer.headers.get('docker-content-digest')]).toEqual([201, value]);
    expect(await bytesOf(await ask('GET', location(answer)))).toEqual(bytes);
    expect(await bytesOf(await ask('GET', `${name}/blobs/${value}`))).toEqual(bytes);
  }

  it.each([
    ['some bytes', randomBytes(512)],
    ['an empty blob', Buffer.alloc(0)],
    ['an empty JSON', Buffer.from('{}')],
  ])('takes %s in one POST, by POST and PUT, and as a stream', async (_what, bytes) => {
    const value = digest(bytes, algorithm);
    await created(await ask('POST', `${name}/blobs/uploads/?digest=${value}`, bytes, octets), bytes);
    await created(await ask('PUT', withDigest(await begin(name), value), bytes, octets), bytes);
    const streamed = await ask('PATCH', await begin(name), bytes, octets);
    expect(streamed.status).toBe(202);
    await created(await ask('PUT', withDigest(location(streamed), value), Buffer.alloc(0), octets), bytes);
  });

  it('takes chunks, the last of them with the PATCHes or with the PUT', async () => {
    for (const last of ['PATCH', 'PUT']) {
      const bytes = randomBytes(3 * chunkBytes - 5);
      let place = await begin(name);
      for (let start = 0; start < bytes.length; start += chunkBytes) {
        const end = Math.min(start + chunkBytes, bytes.length);
        if (last === 'PUT' && end === bytes.length) break;
        const answer = await ask('PATCH', place, bytes.subarray(start, end), chunk(start, end));
        expect([answer.status, answer.headers.get('range')]).toEqual([202, `0-${end - 1}`]);
        place = location(answer);
      }
      const rest = last === 'PUT' ? bytes.subarray(2 * chunkBytes) : Buffer.alloc(0);
      const headers = last === 'PUT' ? chunk(2 * chunkBytes, bytes.length) : octets;
      await created(await ask('PUT', withDigest(place, digest(bytes, algorithm)), rest, headers), bytes);
    }
  });

  it('refuses chunks out of order, says how far it came, and goes on from there', async () => {
    const bytes = randomBytes(3 * chunkBytes - 5);
    let place = await begin(name);
    for (let start = 0; start < bytes.length; start += chunkBytes) {
      const end = Math.min(start + chunkBytes, bytes.length);
      const wrong = end === bytes.length ? 0 : end;
      const refused = await ask(
        'PATCH',
        place,
        bytes.subarray(wrong, wrong + chunkBytes),
        chunk(wrong, Math.min(wrong + chunkBytes, bytes.length)),
      );
      await refusal(refused, 416, 'RANGE_INVALID');
      const state = await ask('GET', place);
      expect([state.status, state.headers.get('range')]).toEqual([204, `0-${Math.max(0, start - 1)}`]);
      const taken = await ask('PATCH', location(state), bytes.subarray(start, end), chunk(start, end));
      expect(taken.status).toBe(202);
      place = location(taken);
    }
    const early = await ask('PUT', withDigest(place, digest(bytes, algorithm)), bytes.subarray(0, chunkBytes), chunk(0, chunkBytes));
    expect(early.status).toBe(416);
    await created(await ask('PUT', withDigest(place, digest(bytes, algorithm)), Buffer.alloc(0), octets), bytes);
  });

  it('gives an upload up', async () => {
    const place = await begin(name);
    expect((await ask('DELETE', place)).status).toBe(204);
    await refusal(await ask('GET', place), 404, 'BLOB_UPLOAD_UNKNOWN');
    await refusal(await ask('PATCH', place, randomBytes(10), octets), 404, 'BLOB_UPLOAD_UNKNOWN');
  });

  it('mounts, and begins an upload where there is nothing to mount or no repository is named', async () => {
    const bytes = randomBytes(512);
    const value = await putBlob(other, bytes, algorithm);
    await created(await ask('POST', `${name}/blobs/uploads/?mount=${value}&from=${other}`), bytes);
    const absent = digest(Buffer.from('absent'), algorithm);
    for (const query of [`mount=${absent}&from=${other}`, `mount=${absent}&from=lab/conform/nothing`, `mount=${absent}`]) {
      const begun = await ask('POST', `${name}/blobs/uploads/?${query}`);
      expect(begun.status, query).toBe(202);
      expect((await ask('DELETE', location(begun))).status).toBe(204);
    }
  });

  it('refuses bytes that do not match their digest, whichever way they come', async () => {
    const bytes = randomBytes(512);
    const value = digest(Buffer.from('other bytes'), algorithm);
    await refusal(await ask('POST', `${name}/blobs/uploads/?digest=${value}`, bytes, octets), 400, 'DIGEST_INVALID');
    await refusal(await ask('PUT', withDigest(await begin(name), value), bytes, octets), 400, 'DIGEST_INVALID');
    const patched = await ask('PATCH', await begin(name), bytes, chunk(0, bytes.length));
    await refusal(await ask('PUT', withDigest(location(patched), value), Buffer.alloc(0), octets), 400, 'DIGEST_INVALID');
    await refusal(await ask('PUT', await begin(name), bytes, octets), 400, 'DIGEST_INVALID');
    await refusal(await ask('PUT', withDigest(await begin(name), `${algorithm}:beef`), bytes, octets), 400, 'DIGEST_INVALID');
    expect((await ask('HEAD', `${name}/blobs/${value}`)).status).toBe(404);
  });

  it('refuses a manifest that is not what its digest says', async () => {
    const document = await image(name);
    const wrong = digest(Buffer.from('other'), algorithm);
    await refusal(await putManifest(name, wrong, document), 400, 'DIGEST_INVALID');
    await refusal(await putManifest(name, `${algorithm}:totallywrong`, document), 400, 'DIGEST_INVALID');
    expect((await ask('HEAD', `${name}/manifests/${wrong}`)).status).toBe(404);
  });
});

/** Kinds of content that a registry stores without knowing what they are for. */
const contents: readonly [string, () => Promise<{ document: object; type: string }>][] = [
  ['an image', async () => ({ document: await image('lab/conform/kinds'), type: imageType })],
  ['one without layers', async () => ({ document: await image('lab/conform/kinds', {}, 0), type: imageType })],
  [
    'a manifest of nearly 4 MB',
    async () => {
      const annotations = Object.fromEntries(Array.from({ length: 390 }, (_, index) => [`large-${index}`, 'A'.repeat(10_000)]));
      return { document: await image('lab/conform/kinds', { annotations }), type: imageType };
    },
  ],
  [
    'an artifact',
    async () => {
      const config = { mediaType: emptyType, digest: await putBlob('lab/conform/kinds', Buffer.from('{}')), size: 2, data: 'e30=' };
      return { document: await image('lab/conform/kinds', { artifactType: 'application/x-thing', config }), type: imageType };
    },
  ],
  [
    'fields that nobody knows',
    async () => ({ document: await image('lab/conform/kinds', { 'x-custom': { deep: [1] } }), type: imageType }),
  ],
  [
    'layers that are elsewhere',
    async () => {
      const foreign = {
        mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar',
        digest: digest(randomBytes(9)),
        size: 9,
        urls: ['https://store.example.com/a'],
      };
      return { document: await image('lab/conform/kinds', { layers: [foreign] }), type: imageType };
    },
  ],
  ['an empty index', async () => ({ document: { schemaVersion: 2, mediaType: indexType, manifests: [] }, type: indexType })],
  ['an index of indexes', nestedIndex],
];

async function nestedIndex(): Promise<{ document: object; type: string }> {
  const put = async (document: object, mediaType: string): Promise<Descriptor> => {
    const bytes = bytesOfDocument(document);
    expect((await putManifest('lab/conform/kinds', digest(bytes), document, mediaType)).status).toBe(201);
    return { mediaType, digest: digest(bytes), size: bytes.length };
  };
  const inner = { schemaVersion: 2, mediaType: indexType, manifests: [await put(await image('lab/conform/kinds'), imageType)] };
  return { document: { schemaVersion: 2, mediaType: indexType, manifests: [await put(inner, indexType)] }, type: indexType };
}

describe('kinds of content', () => {
  it.each(contents)('takes %s and gives it back as it was', async (_what, make) => {
    const { document, type } = await make();
    const bytes = bytesOfDocument(document);
    for (const reference of ['kind', digest(bytes)]) {
      const put = await putManifest('lab/conform/kinds', reference, document, type);
      expect([put.status, put.headers.get('docker-content-digest')]).toEqual([201, digest(bytes)]);
      for (const place of [location(put), `lab/conform/kinds/manifests/${reference}`]) {
        const answer = await ask('GET', place);
        expect([answer.status, answer.headers.get('content-type')]).toEqual([200, type]);
        expect((await bytesOf(answer)).equals(bytes)).toBe(true);
      }
    }
  });

  it('names a manifest by several tags in the request that puts it', async () => {
    const document = await image('lab/conform/kinds');
    const bytes = bytesOfDocument(document);
    for (const algorithm of ['sha256', 'sha512']) {
      const value = digest(bytes, algorithm);
      const tags = [`by-${algorithm}`, `also-by-${algorithm}`];
      const put = await putManifest('lab/conform/kinds', `${value}?${tags.map((tag) => `tag=${tag}`).join('&')}`, document);
      expect([put.status, put.headers.get('oci-tag')]).toEqual([201, tags.join(', ')]);
      for (const tag of tags)
        expect((await ask('HEAD', `lab/conform/kinds/manifests/${tag}`)).headers.get('docker-content-digest')).toBe(value);
    }
    const bad = await putManifest('lab/conform/kinds', `${digest(bytes)}?tag=fine&tag=.bad`, document);
    expect(bad.status).toBe(400);
    expect((await ask('HEAD', 'lab/conform/kinds/manifests/fine')).status).toBe(404);
  });
});
