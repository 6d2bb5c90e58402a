/** What the distribution specification asks of a registry: content discovery and content management. @see OCI distribution-spec v1.1 and its conformance cases */
import { describe, expect, it } from 'vitest';
import {
  ask,
  bytesOfDocument,
  type Descriptor,
  digest,
  emptyType,
  image,
  imageType,
  indexType,
  putBlob,
  putManifest,
  refusal,
  useOwnRepositories,
} from './client.ts';

useOwnRepositories();

describe('content discovery', () => {
  const name = 'lab/conform/discovery';
  const tags = ['test0', 'test1', 'test2', 'test3'];
  const list = async (query: string): Promise<{ tags: string[]; link: string | null }> => {
    const answer = await ask('GET', `${name}/tags/list${query}`);
    expect(answer.status).toBe(200);
    return { tags: ((await answer.json()) as { tags: string[] }).tags, link: answer.headers.get('link') };
  };

  it('lists tags in order, from one on, a few at a time, each page leading to the next', async () => {
    await refusal(await ask('GET', `${name}/tags/list`), 404, 'NAME_UNKNOWN');
    const document = await image(name);
    expect(await list('')).toEqual({ tags: [], link: null });
    for (const tag of [...tags].reverse()) expect((await putManifest(name, tag, document)).status).toBe(201);
    expect(await list('')).toEqual({ tags, link: null });
    expect((await list('?n=2')).tags).toEqual(tags.slice(0, 2));
    expect((await list('?last=test1')).tags).toEqual(tags.slice(2));
    expect((await list('?n=2&last=test0')).tags).toEqual(tags.slice(1, 3));
    expect((await list('?last=test3')).tags).toEqual([]);
    const seen: string[] = [];
    for (let place: string | undefined = `/v2/${name}/tags/list?n=1`; place !== undefined; ) {
      const page = await ask('GET', place);
      seen.push(...((await page.json()) as { tags: string[] }).tags);
      place = /^<([^>]+)>; rel="next"$/.exec(page.headers.get('link') ?? '')?.[1];
    }
    expect(seen).toEqual(tags);
  });

  it('lists what refers to a manifest, pushed before or after it, of every kind, and filters by artifact type', async () => {
    const subjectDocument = await image(name);
    const subjectBytes = bytesOfDocument(subjectDocument);
    const subject = { mediaType: imageType, digest: digest(subjectBytes), size: subjectBytes.length };
    const referrers = async (of: string, query = ''): Promise<{ manifests: object[]; filters: string | null }> => {
      const answer = await ask('GET', `${name}/referrers/${of}${query}`);
      expect([answer.status, answer.headers.get('content-type')]).toEqual([200, indexType]);
      const index = (await answer.json()) as { schemaVersion: number; mediaType: string; manifests: object[] };
      expect([index.schemaVersion, index.mediaType]).toEqual([2, indexType]);
      return { manifests: index.manifests, filters: answer.headers.get('oci-filters-applied') };
    };
    expect((await referrers(subject.digest)).manifests).toEqual([]);
    const annotations = { 'org.example': 'here' };
    const empty = { mediaType: emptyType, digest: await putBlob(name, Buffer.from('{}')), size: 2 };
    const referring = [
      // Its artifact type is that of its config.
      {
        document: await image(name, { subject, annotations, config: { ...empty, mediaType: 'application/x-config' } }),
        type: imageType,
        artifactType: 'application/x-config',
      },
      {
        document: await image(name, { subject, annotations, artifactType: 'application/x-a', config: empty }),
        type: imageType,
        artifactType: 'application/x-a',
      },
      {
        document: { schemaVersion: 2, mediaType: indexType, manifests: [], artifactType: 'application/x-a', subject, annotations },
        type: indexType,
        artifactType: 'application/x-a',
      },
    ];
    const expected: object[] = [];
    for (const [index, { document, type, artifactType }] of referring.entries()) {
      if (index === 1) expect((await putManifest(name, 'subject', subjectDocument)).status).toBe(201);
      const bytes = bytesOfDocument(document);
      const put = await putManifest(name, digest(bytes), document, type);
      expect([put.status, put.headers.get('oci-subject')]).toEqual([201, subject.digest]);
      expected.push({ mediaType: type, digest: digest(bytes), size: bytes.length, artifactType, annotations });
    }
    const all = await referrers(subject.digest);
    expect(all.manifests).toHaveLength(3);
    expect(all.manifests).toEqual(expect.arrayContaining(expected));
    const filtered = await referrers(subject.digest, '?artifactType=application/x-a');
    expect(filtered.filters).toBe('artifactType');
    expect(filtered.manifests).toHaveLength(2);
    expect(filtered.manifests).toEqual(expect.arrayContaining(expected.slice(1)));
    await ask('DELETE', `${name}/manifests/${(expected[1] as Descriptor).digest}`);
    expect((await referrers(subject.digest)).manifests).toHaveLength(2);
    await refusal(await ask('GET', `${name}/referrers/sha256:wrong`), 400, 'DIGEST_INVALID');
  });
});

describe('content management', () => {
  const name = 'lab/conform/management';

  it('deletes a tag, a manifest, a blob, at once', async () => {
    const document = (await image(name)) as { layers: Descriptor[] };
    const value = digest(bytesOfDocument(document));
    for (const tag of ['a', 'b']) await putManifest(name, tag, document);
    const gone = async (path: string, code: string): Promise<void> => {
      expect((await ask('DELETE', `${name}/${path}`)).status).toBe(202);
      expect((await ask('HEAD', `${name}/${path}`)).status).toBe(404);
      await refusal(await ask('DELETE', `${name}/${path}`), 404, code);
    };
    await gone('manifests/a', 'MANIFEST_UNKNOWN');
    expect((await ask('HEAD', `${name}/manifests/${value}`)).status).toBe(200);
    expect(((await (await ask('GET', `${name}/tags/list`)).json()) as { tags: string[] }).tags).toEqual(['b']);
    await gone(`manifests/${value}`, 'MANIFEST_UNKNOWN');
    expect((await ask('HEAD', `${name}/manifests/b`)).status).toBe(404);
    await gone(`blobs/${document.layers[0]?.digest}`, 'BLOB_UNKNOWN');
  });

  it.each([
    ['PATCH', 'manifests/a'],
    ['POST', `blobs/sha256:${'0'.repeat(64)}`],
    ['PUT', 'tags/list'],
    ['DELETE', `referrers/sha256:${'0'.repeat(64)}`],
  ])('says 405 to %s %s', async (method, path) => {
    const answer = await ask(method, `${name}/${path}`);
    expect(answer.headers.get('allow')).not.toBeNull();
    await refusal(answer, 405, 'UNSUPPORTED');
  });
});
