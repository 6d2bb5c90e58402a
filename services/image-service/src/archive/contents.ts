/** What images an archive holds: `docker save`'s manifest.json, or an OCI layout's index.json, or both. */
import { InvalidParameter } from '@flotilla/errors';
import {
  chooseManifest,
  contentDigest,
  type Descriptor,
  type Digest,
  type ImageConfig,
  InvalidContent,
  InvalidName,
  isImageConfigType,
  isIndexType,
  isManifestType,
  maxConfigBytes,
  maxManifestBytes,
  mediaTypes,
  type Platform,
  parseImageConfig,
  parseIndex,
  parseManifest,
  parseReference,
  type Reference,
} from '@flotilla/oci';
import type { BlobReference, ManifestRecord } from '../image.ts';
import { readSpooled, type SpooledArchive, type SpooledFile } from './spool.ts';

export interface ArchivedLayer {
  readonly diffId: Digest;
  /** Absent for a layer that the archive leaves out: it may be here already. */
  readonly file: SpooledFile | undefined;
}

export interface ArchivedImage {
  readonly id: Digest;
  readonly configBytes: Buffer;
  readonly config: ImageConfig;
  readonly tags: readonly Reference[];
  readonly layers: readonly ArchivedLayer[];
  /** Manifests that lead to it, with their bytes. */
  readonly manifests: readonly { readonly record: ManifestRecord; readonly bytes: Buffer }[];
}

const maxImages = 1000;
const nameAnnotation = 'io.containerd.image.name';
const refNameAnnotation = 'org.opencontainers.image.ref.name';

/** @throws InvalidParameter for an archive that is none, or does not fit together. */
export async function readContents(archive: SpooledArchive, platform: Platform): Promise<ArchivedImage[]> {
  try {
    const hasIndex = archive.find('index.json') !== undefined;
    if (archive.find('manifest.json') !== undefined) {
      const images = await readDockerManifest(archive);
      return hasIndex ? await withManifests(archive, images) : images;
    }
    if (hasIndex) return await readLayout(archive, platform);
  } catch (error) {
    if (error instanceof InvalidContent) throw new InvalidParameter(`invalid archive: ${error.message}`, { cause: error });
    throw error;
  }
  throw new InvalidParameter('invalid archive: it holds neither manifest.json nor index.json');
}

async function readDockerManifest(archive: SpooledArchive): Promise<ArchivedImage[]> {
  const items = parseJson(await archive.bytes('manifest.json', maxManifestBytes), 'manifest.json');
  if (!Array.isArray(items) || items.length > maxImages)
    throw new InvalidParameter('invalid archive: manifest.json is not a list of images');
  const images: ArchivedImage[] = [];
  for (const item of items as unknown[]) {
    const {
      Config: configName,
      RepoTags: tags,
      Layers: layerNames,
    } = (item ?? {}) as { Config?: unknown; RepoTags?: unknown; Layers?: unknown };
    if (typeof configName !== 'string') throw new InvalidParameter('invalid archive: an image of manifest.json has no Config');
    const names = strings(layerNames, 'Layers');
    const file = archive.find(configName);
    if (file === undefined) throw new InvalidParameter(`invalid archive: ${configName} is missing`);
    const configBytes = await readSpooled(file, maxConfigBytes, configName);
    const config = parseImageConfig(configBytes);
    const diffIds = config.rootfs.diff_ids;
    if (names.length !== diffIds.length) {
      throw new InvalidParameter(`invalid manifest, layers length mismatch: expected ${names.length}, got ${diffIds.length}`);
    }
    images.push({
      id: file.digest,
      configBytes,
      config,
      tags: strings(tags, 'RepoTags').map(parseTag),
      layers: diffIds.map((diffId, i) => ({ diffId, file: archive.find(names[i] ?? '') })),
      manifests: [],
    });
  }
  return images;
}

/** Adds the manifests that the archive's OCI layout has for its images: with them a push keeps their digests. */
async function withManifests(archive: SpooledArchive, images: readonly ArchivedImage[]): Promise<ArchivedImage[]> {
  const found = new Map<Digest, ArchivedImage['manifests'][number][]>();
  const index = parseIndex(await archive.bytes('index.json', maxManifestBytes), mediaTypes.ociIndex);
  for (const descriptor of index.manifests) {
    const manifest = isManifestType(descriptor.mediaType) ? await readManifest(archive, descriptor) : undefined;
    if (manifest === undefined) continue;
    const known = found.get(manifest.record.imageId) ?? [];
    known.push(manifest);
    found.set(manifest.record.imageId, known);
  }
  return images.map((image) => ({ ...image, manifests: found.get(image.id) ?? [] }));
}

async function readManifest(archive: SpooledArchive, descriptor: Descriptor): Promise<ArchivedImage['manifests'][number] | undefined> {
  const file = archive.withDigest(descriptor.digest);
  if (file === undefined) return undefined;
  const bytes = await readSpooled(file, maxManifestBytes, descriptor.digest);
  const manifest = parseManifest(bytes, descriptor.mediaType);
  if (!isImageConfigType(manifest.config.mediaType)) return undefined;
  const record: ManifestRecord = {
    digest: descriptor.digest,
    mediaType: manifest.mediaType,
    sizeBytes: bytes.length,
    imageId: manifest.config.digest,
    blobs: [manifest.config, ...manifest.layers].map(reference),
  };
  return { record, bytes };
}

async function readLayout(archive: SpooledArchive, platform: Platform): Promise<ArchivedImage[]> {
  const index = parseIndex(await archive.bytes('index.json', maxManifestBytes), mediaTypes.ociIndex);
  const images = new Map<Digest, ArchivedImage>();
  for (const top of index.manifests) {
    const descriptor = isIndexType(top.mediaType) ? await chooseFrom(archive, top, platform) : top;
    if (descriptor === undefined || !isManifestType(descriptor.mediaType)) continue;
    const manifest = await readManifest(archive, descriptor);
    if (manifest === undefined) throw new InvalidParameter(`invalid archive: manifest ${descriptor.digest} is missing`);
    const tags = layoutTags(top);
    const known = images.get(manifest.record.imageId);
    if (known !== undefined) images.set(known.id, { ...known, tags: [...known.tags, ...tags] });
    else images.set(manifest.record.imageId, await layoutImage(archive, manifest, tags));
  }
  return [...images.values()];
}

async function chooseFrom(archive: SpooledArchive, top: Descriptor, platform: Platform): Promise<Descriptor | undefined> {
  const file = archive.withDigest(top.digest);
  if (file === undefined) throw new InvalidParameter(`invalid archive: index ${top.digest} is missing`);
  return chooseManifest(parseIndex(await readSpooled(file, maxManifestBytes, top.digest), top.mediaType), platform);
}

async function layoutImage(
  archive: SpooledArchive,
  manifest: ArchivedImage['manifests'][number],
  tags: readonly Reference[],
): Promise<ArchivedImage> {
  const { imageId, blobs } = manifest.record;
  const configFile = archive.withDigest(imageId);
  if (configFile === undefined) throw new InvalidParameter(`invalid archive: config ${imageId} is missing`);
  const configBytes = await readSpooled(configFile, maxConfigBytes, imageId);
  const config = parseImageConfig(configBytes);
  const layers = blobs.slice(1);
  const diffIds = config.rootfs.diff_ids;
  if (layers.length !== diffIds.length) {
    throw new InvalidParameter(`invalid manifest, layers length mismatch: expected ${layers.length}, got ${diffIds.length}`);
  }
  return {
    id: imageId,
    configBytes,
    config,
    tags,
    layers: diffIds.map((diffId, i) => ({ diffId, file: layers[i] === undefined ? undefined : archive.withDigest(layers[i].digest) })),
    manifests: [manifest],
  };
}

function layoutTags(descriptor: Descriptor): Reference[] {
  const full = descriptor.annotations?.[nameAnnotation];
  if (full !== undefined) return [parseTag(full)];
  const name = descriptor.annotations?.[refNameAnnotation];
  // Often only a tag (`latest`), which names nothing by itself.
  return name?.includes(':') ? [parseTag(name)] : [];
}

function parseTag(text: string): Reference {
  let reference: Reference;
  try {
    reference = parseReference(text);
  } catch (error) {
    if (error instanceof InvalidName) throw new InvalidParameter(`invalid tag "${text.slice(0, 200)}": ${error.message}`, { cause: error });
    throw error;
  }
  if (reference.tag === undefined) throw new InvalidParameter(`invalid tag "${text}"`);
  return { domain: reference.domain, path: reference.path, tag: reference.tag };
}

function reference(descriptor: Descriptor): BlobReference {
  return { digest: contentDigest('digest', descriptor.digest), mediaType: descriptor.mediaType, sizeBytes: descriptor.size };
}

function strings(value: unknown, what: string): string[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || value.some((each) => typeof each !== 'string')) {
    throw new InvalidParameter(`invalid archive: ${what} of manifest.json is not a list of names`);
  }
  return value as string[];
}

function parseJson(bytes: Buffer, name: string): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new InvalidParameter(`invalid archive: ${name} is not JSON`, { cause });
  }
}
