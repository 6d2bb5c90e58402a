/** The manifest an image is saved and pushed by: the one it came with when all its blobs are here, else one made of what is here. */
import { type Digest, digestOf, isManifestType, mediaTypes, parseManifest } from '@flotilla/oci';
import { LayerContentError } from './contentError.ts';
import type { BlobReference, Image, ManifestRecord } from './image.ts';
import type { ImageStore } from './imageStore.ts';

export interface LocalManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Buffer;
  readonly config: BlobReference;
  /** Lowest first, with the diffID of each. */
  readonly layers: readonly (BlobReference & { readonly diffId: Digest })[];
}

/** Manifests an image came with whose blobs are all here, the digest a client asked by first. */
async function original(store: ImageStore, image: Image, preferred: Digest | undefined): Promise<LocalManifest | undefined> {
  const candidates = [...store.manifests.values()].filter((each) => each.imageId === image.id && isManifestType(each.mediaType));
  candidates.sort((a, b) => Number(b.digest === preferred) - Number(a.digest === preferred));
  const record = candidates.find((each) => isWhole(store, each));
  if (record === undefined) return undefined;
  const bytes = await store.content.readBlob(record.digest);
  const manifest = parseManifest(bytes, record.mediaType);
  const [config, ...layers] = record.blobs;
  if (config === undefined || manifest.layers.length !== image.layers.length) return undefined;
  return { digest: record.digest, mediaType: record.mediaType, bytes, config, layers: withDiffIds(image, layers) };
}

function isWhole(store: ImageStore, record: ManifestRecord): boolean {
  return record.blobs.length > 0 && record.blobs.every((blob) => store.content.hasBlob(blob.digest, blob.sizeBytes));
}

function withDiffIds(image: Image, layers: readonly BlobReference[]): LocalManifest['layers'] {
  return layers.map((layer, i) => {
    const diffId = image.layers[i];
    if (diffId === undefined) throw new LayerContentError("layers from manifest don't match image configuration");
    return { ...layer, diffId };
  });
}

export async function localManifest(store: ImageStore, image: Image, preferred?: Digest): Promise<LocalManifest> {
  const known = await original(store, image, preferred);
  if (known !== undefined) return known;
  const layers = image.layers.map((diffId) => {
    const blob = store.layers.get(diffId)?.blobs.find((each) => store.content.hasBlob(each.digest, each.sizeBytes));
    if (blob === undefined) throw new LayerContentError(`layer ${diffId} of ${image.id} is not here as a blob`);
    return { ...blob, diffId };
  });
  return makeManifest(image, layers);
}

/** An OCI manifest over these blobs. */
export function makeManifest(image: Image, layers: LocalManifest['layers']): LocalManifest {
  const config: BlobReference = { digest: image.id, mediaType: mediaTypes.ociConfig, sizeBytes: Buffer.byteLength(image.record.config) };
  const descriptor = ({ mediaType, digest, sizeBytes }: BlobReference): object => ({ mediaType, digest, size: sizeBytes });
  const bytes = Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociManifest, config: descriptor(config), layers: layers.map(descriptor) }),
  );
  return { digest: digestOf(bytes), mediaType: mediaTypes.ociManifest, bytes, config, layers };
}
