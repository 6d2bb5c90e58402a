/** What list and inspect show of the manifests an image came by: of each platform in its index, and of attestations, whether they are here. */
import type { Descriptor as ApiDescriptor } from '@flotilla/engine-api';
import { type Descriptor, isIndexType, isManifestType, parseIndex } from '@flotilla/oci';
import type { Image, ManifestRecord } from './image.ts';
import type { ImageStore } from './imageStore.ts';
import { imagePlatform } from './inspect.ts';

export interface ManifestSummary {
  readonly ID: string;
  readonly Descriptor: ApiDescriptor;
  /** Its config and all its layers are here. */
  readonly Available: boolean;
  readonly Size: { readonly Content: number; readonly Total: number };
  readonly Kind: 'image' | 'attestation' | 'unknown';
  readonly ImageData?: {
    readonly Platform: object;
    readonly Containers: readonly string[];
    readonly Size: { readonly Unpacked: number };
  };
  readonly AttestationData?: { readonly For: string };
}

const referenceType = 'vnd.docker.reference.type';
const referenceDigest = 'vnd.docker.reference.digest';

/** Manifests and indexes of an image; an index comes first. */
function recordsOf(store: ImageStore, image: Image): ManifestRecord[] {
  const records = [...store.manifests.values()].filter((record) => record.imageId === image.id);
  return records.sort((a, b) => Number(isIndexType(b.mediaType)) - Number(isIndexType(a.mediaType)));
}

/** Descriptor of what the image was pulled or loaded by; undefined for one that was made here. */
export function imageDescriptor(store: ImageStore, image: Image): ApiDescriptor | undefined {
  const [top] = recordsOf(store, image);
  if (top === undefined) return undefined;
  const descriptor = { mediaType: top.mediaType, digest: top.digest, size: top.sizeBytes };
  return isIndexType(top.mediaType) ? descriptor : ({ ...descriptor, platform: imagePlatform(image) } as ApiDescriptor);
}

export async function manifestSummaries(store: ImageStore, image: Image): Promise<ManifestSummary[]> {
  const found = new Map<string, ManifestSummary>();
  for (const record of recordsOf(store, image)) {
    if (isManifestType(record.mediaType)) {
      if (!found.has(record.digest)) found.set(record.digest, await ownManifest(store, image, record));
      continue;
    }
    const index = parseIndex(await store.content.readBlob(record.digest), record.mediaType);
    for (const entry of index.manifests) if (!found.has(entry.digest)) found.set(entry.digest, await indexEntry(store, image, entry));
  }
  return [...found.values()];
}

function ownManifest(store: ImageStore, image: Image, record: ManifestRecord): Promise<ManifestSummary> {
  const { mediaType, digest, sizeBytes } = record;
  return indexEntry(store, image, { mediaType, digest, size: sizeBytes, platform: imagePlatform(image) });
}

async function indexEntry(store: ImageStore, image: Image, entry: Descriptor): Promise<ManifestSummary> {
  const record = store.manifests.get(entry.digest);
  const attestationFor = entry.annotations?.[referenceType] === 'attestation-manifest' ? entry.annotations[referenceDigest] : undefined;
  const contents = record === undefined ? [] : record.blobs.filter((blob) => store.content.hasBlob(blob.digest, blob.sizeBytes));
  const isHere = record !== undefined && contents.length === record.blobs.length && store.content.hasBlob(entry.digest, entry.size);
  const content = contents.reduce((sum, blob) => sum + blob.sizeBytes, isHere ? entry.size : 0);
  const owner = record?.imageId === image.id ? image : record === undefined ? undefined : store.get(record.imageId);
  const unpacked = owner === undefined ? 0 : owner.record.sizeBytes;
  const isImage = attestationFor === undefined && isManifestType(entry.mediaType) && entry.platform !== undefined;
  return {
    ID: entry.digest,
    Descriptor: { ...entry } as ApiDescriptor,
    Available: isHere,
    Size: { Content: content, Total: content + (isImage ? unpacked : 0) },
    Kind: attestationFor !== undefined ? 'attestation' : isImage ? 'image' : 'unknown',
    ...(isImage
      ? {
          ImageData: {
            Platform: { ...entry.platform },
            Containers: owner === undefined ? [] : containersOf(store, owner),
            Size: { Unpacked: unpacked },
          },
        }
      : {}),
    ...(attestationFor === undefined ? {} : { AttestationData: { For: attestationFor } }),
  };
}

/** Containers that stand on the image: a snapshot's key is its container's id. */
function containersOf(store: ImageStore, image: Image): string[] {
  return [...store.snapshots.values()].filter((snapshot) => snapshot.imageId === image.id).map((snapshot) => snapshot.key);
}
