import { gunzipSync } from 'node:zlib';
import { extract } from 'tar-stream';
import { describe, expect, it } from 'vitest';
import { dockerArchive, ociArchive } from './imageArchives.ts';
import { buildImage, buildIndex } from './images.ts';
import { buildLayer, opaque, randomBytesOf, sha256, whiteout } from './layers.ts';

const small = { layers: [[{ path: 'hello', content: 'hi' }], [whiteout('hello')]] };

async function names(tar: Buffer): Promise<string[]> {
  const found: string[] = [];
  const reader = extract();
  reader.end(tar);
  for await (const entry of reader) {
    found.push(entry.header.name);
    entry.resume();
  }
  return found;
}

describe('test images', () => {
  it('are the same every time', async () => {
    expect((await buildImage(small)).manifestDescriptor.digest).toBe((await buildImage(small)).manifestDescriptor.digest);
  });

  it('name their layers by both digests', async () => {
    const image = await buildImage(small);
    for (const layer of image.layers) {
      expect(sha256(layer.bytes)).toBe(layer.digest);
      expect(sha256(gunzipSync(layer.bytes))).toBe(layer.diffId);
    }
    expect(image.id).toBe(sha256(image.config));
  });

  it('may be of any compression, with the same diffID', async () => {
    const entries = [{ path: 'data', content: randomBytesOf(1000) }];
    const layers = await Promise.all([buildLayer(entries, 'gzip'), buildLayer(entries, 'zstd'), buildLayer(entries, 'none')]);
    expect(new Set(layers.map((layer) => layer.diffId)).size).toBe(1);
    expect(new Set(layers.map((layer) => layer.digest)).size).toBe(3);
  });

  it('may carry whiteouts', async () => {
    expect(whiteout('a/b').path).toBe('a/.wh.b');
    expect(opaque('a').path).toBe('a/.wh..wh..opq');
  });

  it('become archives', async () => {
    const image = await buildImage({ ...small, format: 'oci' });
    expect(await names(await dockerArchive([{ image, tags: ['a:b'] }]))).toContain('manifest.json');
    expect(await names(await ociArchive([{ image, tags: ['a:b'] }]))).toEqual(expect.arrayContaining(['oci-layout', 'index.json']));
  });

  it('become an index of several platforms', async () => {
    const index = buildIndex([await buildImage(small), await buildImage({ ...small, architecture: 's390x' })]);
    expect(JSON.parse(index.index.toString()).manifests).toHaveLength(2);
  });
});
