/** Test images as files: the tar of `docker save` (docker-archive), the OCI layout, and the OCI layout as a tar. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { mediaTypes, type TestImage, type TestIndex } from './images.ts';
import { buildTar, type Layer, type LayerEntry } from './layers.ts';

export interface TaggedImage {
  readonly image: TestImage;
  readonly tags: readonly string[];
}

/** The tar that `docker load` reads, layers plain as `docker save` writes them. */
export function dockerArchive(images: readonly TaggedImage[]): Promise<Buffer> {
  const entries = new Map<string, LayerEntry>();
  const manifest = images.map(({ image, tags }) => {
    const config = `${image.id.slice('sha256:'.length)}.json`;
    entries.set(config, { path: config, content: image.config });
    const layers = image.layers.map((layer) => {
      const path = `${layer.diffId.slice('sha256:'.length)}/layer.tar`;
      entries.set(path, { path, content: plainTar(layer) });
      return path;
    });
    return { Config: config, RepoTags: tags.length > 0 ? tags : null, Layers: layers };
  });
  return buildTar([...entries.values(), { path: 'manifest.json', content: JSON.stringify(manifest) }]);
}

/** The OCI layout as entries; images must be of OCI format to be valid ones. */
function layoutEntries(images: readonly TaggedImage[]): LayerEntry[] {
  const blobs = new Map(images.flatMap(({ image }) => [...image.blobs]));
  const manifests = images.flatMap(({ image, tags }) =>
    (tags.length > 0 ? tags : [undefined]).map((tag) => ({
      ...image.manifestDescriptor,
      ...(tag !== undefined && {
        annotations: { 'io.containerd.image.name': tag, 'org.opencontainers.image.ref.name': tag.slice(tag.lastIndexOf(':') + 1) },
      }),
    })),
  );
  return [
    { path: 'oci-layout', content: JSON.stringify({ imageLayoutVersion: '1.0.0' }) },
    { path: 'index.json', content: JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.oci.index, manifests }) },
    ...[...blobs].map(([digest, content]) => ({ path: blobPath(digest), content })),
  ];
}

/** The OCI layout as a tar, which newer `docker load` reads. */
export function ociArchive(images: readonly TaggedImage[]): Promise<Buffer> {
  return buildTar(layoutEntries(images));
}

/** Writes an OCI layout into a directory. */
export function writeOciLayout(directory: string, images: readonly TaggedImage[]): void {
  for (const entry of layoutEntries(images)) {
    const path = join(directory, entry.path);
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, entry.content ?? '');
  }
}

/** Writes the blobs of an image or an index below `directory/blobs/sha256`. */
export function writeBlobs(directory: string, content: TestImage | TestIndex): void {
  mkdirSync(join(directory, 'blobs/sha256'), { recursive: true });
  const blobs =
    'index' in content
      ? new Map([...content.images.flatMap((image) => [...image.blobs]), [content.descriptor.digest, content.index]])
      : content.blobs;
  for (const [digest, bytes] of blobs) writeFileSync(join(directory, blobPath(digest)), bytes);
}

export function blobPath(digest: string): string {
  return `blobs/${digest.replace(':', '/')}`;
}

function plainTar(layer: Layer): Buffer {
  switch (layer.compression) {
    case 'none':
      return layer.bytes;
    case 'gzip':
      return gunzipSync(layer.bytes);
    case 'zstd':
      return zstdDecompressSync(layer.bytes);
  }
}
