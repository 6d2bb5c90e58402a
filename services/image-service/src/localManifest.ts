/** The manifest an image is saved and pushed by: the one it came with when all its blobs are here, else one made of what is here. */
import { type Digest, digestOf, isManifestType, mediaTypes } from '@flotilla/oci';
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

/** Records of the manifests an image came with, that one first which belongs to `preferred`: its digest, or that of its index. */
export function manifestsOf(store: ImageStore, image: Image, preferred: ReadonlySet<Digest>): ManifestRecord[] {
  const own = [...store.manifests.values()].filter((each) => each.imageId === image.id);
  const chosen = new Set([
    ...preferred,
    ...own.flatMap((each) => (preferred.has(each.digest) ? each.blobs.map((blob) => blob.digest) : [])),
  ]);
  return own.filter((each) => isManifestType(each.mediaType)).sort((a, b) => Number(chosen.has(b.digest)) - Number(chosen.has(a.digest)));
}

/** A manifest as it came; undefined when it is not one of this image's layers. */
export async function originalManifest(store: ImageStore, image: Image, record: ManifestRecord): Promise<LocalManifest | undefined> {
  const [config, ...layers] = record.blobs;
  if (config === undefined || layers.length !== image.layers.length) return undefined;
  const bytes = await store.content.readBlob(record.digest);
  return { digest: record.digest, mediaType: record.mediaType, bytes, config, layers: withDiffIds(image, layers) };
}

function isWhole(store: ImageStore, record: ManifestRecord): boolean {
  return [record, ...record.blobs].every((blob) => store.content.hasBlob(blob.digest, blob.sizeBytes));
}

function withDiffIds(image: Image, layers: readonly BlobReference[]): LocalManifest['layers'] {
  return layers.map((layer, i) => {
    const diffId = image.layers[i];
    if (diffId === undefined) throw new LayerContentError("layers from manifest don't match image configuration");
    return { ...layer, diffId };
  });
}

export async function localManifest(store: ImageStore, image: Image, preferred?: Digest): Promise<LocalManifest> {
  const wanted = new Set(preferred === undefined ? [] : [preferred]);
  const record = manifestsOf(store, image, wanted).find((each) => isWhole(store, each));
  const known = record === undefined ? undefined : await originalManifest(store, image, record);
  if (known !== undefined) return known;
  return makeManifest(
    image,
    localLayers(store, image, (blobs) => blobs[0]),
  );
}

/** A blob that is here of every layer. @throws LayerContentError when there is none. */
export function localLayers(
  store: ImageStore,
  image: Image,
  choose: (blobs: readonly BlobReference[]) => BlobReference | undefined,
): LocalManifest['layers'] {
  return image.layers.map((diffId) => {
    const here = (store.layers.get(diffId)?.blobs ?? []).filter((each) => store.content.hasBlob(each.digest, each.sizeBytes));
    const blob = choose(here);
    if (blob === undefined) throw new LayerContentError(`layer ${diffId} of ${image.id} is not here as a blob`);
    return { ...blob, diffId };
  });
}

/** An OCI manifest over these blobs. */
export function makeManifest(image: Image, blobs: LocalManifest['layers']): LocalManifest {
  const config: BlobReference = { digest: image.id, mediaType: mediaTypes.ociConfig, sizeBytes: Buffer.byteLength(image.record.config) };
  const layers = blobs.map((layer) => ({ ...layer, mediaType: ociTypes[layer.mediaType] ?? layer.mediaType }));
  const descriptor = ({ mediaType, digest, sizeBytes }: BlobReference): object => ({ mediaType, digest, size: sizeBytes });
  const bytes = Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociManifest, config: descriptor(config), layers: layers.map(descriptor) }),
  );
  return { digest: digestOf(bytes), mediaType: mediaTypes.ociManifest, bytes, config, layers };
}

/** A layer is the same bytes under either name; a manifest of OCI's has OCI's. */
const ociTypes: Readonly<Record<string, string>> = {
  [mediaTypes.dockerLayer]: mediaTypes.ociLayer,
  [mediaTypes.dockerLayerGzip]: mediaTypes.ociLayerGzip,
  [mediaTypes.dockerLayerZstd]: mediaTypes.ociLayerZstd,
  [mediaTypes.dockerForeignLayer]: mediaTypes.ociForeignLayer,
  [mediaTypes.dockerForeignLayerGzip]: mediaTypes.ociForeignLayerGzip,
};
