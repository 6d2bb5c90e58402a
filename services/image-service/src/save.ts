/**
 * Saving: images as one tar that `docker load` reads, which is at once an OCI layout. Blobs go out as they came in, so that digests stay what
 * they were and nothing is compressed anew.
 */
import { createReadStream } from 'node:fs';
import { InvalidParameter } from '@flotilla/errors';
import {
  type Digest,
  digestHex,
  familiarString,
  mediaTypes,
  parseAnyReference,
  type Reference,
  referenceString,
  withDefaultTag,
} from '@flotilla/oci';
import { imageEvent } from './events.ts';
import { type BlobReference, createdSeconds, type Image } from './image.ts';
import type { ImageStore } from './imageStore.ts';
import { imagePlatform } from './inspect.ts';
import { type LocalManifest, localManifest } from './localManifest.ts';
import { sameRepository } from './names.ts';
import { encodeHeader, padding, plainEntry, trailer } from './tar/writer.ts';

/** An image to save, the tags that were asked for, and the manifest it goes out by. */
export interface SavedImage {
  readonly image: Image;
  readonly tags: readonly Reference[];
  readonly manifest: LocalManifest;
}

const readBytes = 512 * 1024;

/** Images and tags that names stand for. @throws NotFound; LayerContentError when one is not here whole. */
export async function selectImages(store: ImageStore, names: readonly string[]): Promise<SavedImage[]> {
  if (names.length === 0) throw new InvalidParameter('no image is named');
  const selected = new Map<Digest, { image: Image; tags: Map<string, Reference> }>();
  const add = (image: Image, tag?: Reference): void => {
    const saved = selected.get(image.id) ?? { image, tags: new Map<string, Reference>() };
    selected.set(image.id, saved);
    if (tag?.tag !== undefined) saved.tags.set(referenceString(tag), tag);
  };
  for (const name of names) {
    const parsed = parseAnyReference(name);
    if ('reference' in parsed && parsed.reference.tag === undefined && parsed.reference.digest === undefined) {
      // A bare name means every tag of its repository.
      let found = false;
      for (const image of store.visible()) {
        for (const tag of store.visibleReferences(image.id)) {
          if (tag.digest !== undefined || !sameRepository(tag, parsed.reference)) continue;
          add(image, tag);
          found = true;
        }
      }
      if (!found) add(store.find(name));
      continue;
    }
    const image = store.find(name);
    const isName = 'reference' in parsed && store.resolve(parsed.reference) !== undefined && parsed.reference.digest === undefined;
    add(image, isName ? withDefaultTag(parsed.reference) : undefined);
  }
  return Promise.all(
    [...selected.values()].map(async ({ image, tags }) => ({
      image,
      tags: [...tags.values()],
      manifest: await localManifest(store, image),
    })),
  );
}

/** Writes the bytes of an archive, and waits until more can be taken. */
type Write = (bytes: Buffer) => Promise<void>;

/** Writes the archive. @throws LayerContentError when a blob is missing; what `write` fails with. */
export async function saveImages(store: ImageStore, selected: readonly SavedImage[], write: Write, signal: AbortSignal): Promise<void> {
  const release = store.holds.hold(
    selected.flatMap(({ manifest }) => [manifest.config.digest, ...manifest.layers.map((layer) => layer.digest)]),
  );
  try {
    const mtimeNs = 0n;
    const written = new Set<Digest>();
    await write(encodeHeader(plainEntry({ name: 'blobs/', type: 'directory', mtimeNs })));
    await write(encodeHeader(plainEntry({ name: 'blobs/sha256/', type: 'directory', mtimeNs })));
    for (const { image, manifest } of selected) {
      for (const blob of [manifest.config, ...manifest.layers]) {
        if (written.has(blob.digest)) continue;
        written.add(blob.digest);
        await writeBlob(store, blob, image.config.created, write, signal);
      }
      if (!written.has(manifest.digest)) await writeFile(write, blobName(manifest.digest), manifest.bytes);
      written.add(manifest.digest);
    }
    await writeFile(write, 'index.json', JSON.stringify(layoutIndex(selected)));
    await writeFile(write, 'manifest.json', JSON.stringify(dockerManifest(selected)));
    await writeFile(write, 'oci-layout', '{"imageLayoutVersion":"1.0.0"}');
    await writeFile(write, 'repositories', JSON.stringify(repositories(selected)));
    await write(trailer);
    await store.announce(selected.map(({ image }) => imageEvent('save', image.id, image.id, image)));
  } finally {
    await release();
  }
}

/** @param created - of the image: the time of its files, as in dockerd's archives. */
async function writeBlob(
  store: ImageStore,
  blob: BlobReference,
  created: string | undefined,
  write: Write,
  signal: AbortSignal,
): Promise<void> {
  const mtimeNs = BigInt(Math.max(createdSeconds(created), 0)) * 1_000_000_000n;
  await write(encodeHeader(plainEntry({ name: blobName(blob.digest), type: 'file', sizeBytes: blob.sizeBytes, mtimeNs })));
  for await (const chunk of createReadStream(store.content.blobPath(blob.digest), { highWaterMark: readBytes }) as AsyncIterable<Buffer>) {
    signal.throwIfAborted();
    await write(chunk);
  }
  await write(padding(blob.sizeBytes));
}

async function writeFile(write: Write, name: string, content: string | Buffer): Promise<void> {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  await write(Buffer.concat([encodeHeader(plainEntry({ name, type: 'file', sizeBytes: bytes.length })), bytes, padding(bytes.length)]));
}

function blobName(digest: Digest): string {
  return `blobs/${digest.slice(0, digest.indexOf(':'))}/${digestHex(digest)}`;
}

function dockerManifest(selected: readonly SavedImage[]): object[] {
  return selected.map(({ tags, manifest }) => ({
    Config: blobName(manifest.config.digest),
    RepoTags: tags.length === 0 ? null : tags.map(familiarString),
    Layers: manifest.layers.map((layer) => blobName(layer.digest)),
  }));
}

function layoutIndex(selected: readonly SavedImage[]): object {
  const entries = selected.flatMap(({ image, tags, manifest }): object[] => {
    const descriptor = {
      mediaType: manifest.mediaType,
      digest: manifest.digest,
      size: manifest.bytes.length,
      platform: imagePlatform(image),
    };
    if (tags.length === 0) return [descriptor];
    return tags.map((tag) => ({
      ...descriptor,
      annotations: { 'io.containerd.image.name': referenceString(tag), 'org.opencontainers.image.ref.name': tag.tag ?? '' },
    }));
  });
  return { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: entries };
}

/** The file of docker's oldest format, which some readers still ask for. */
function repositories(selected: readonly SavedImage[]): Record<string, Record<string, string>> {
  const names: Record<string, Record<string, string>> = {};
  for (const { image, tags } of selected) {
    for (const tag of tags) {
      const full = familiarString(tag);
      const name = full.slice(0, full.lastIndexOf(':'));
      names[name] = { ...names[name], [tag.tag ?? '']: digestHex(image.layers.at(-1) ?? image.id) };
    }
  }
  return names;
}
