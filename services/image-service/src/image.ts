/** What image-service records, and what it reads out of it. Documents live in Redis as they are here. */
import { type Digest, type ImageConfig, parseImageConfig } from '@flotilla/oci';

/** An image, under its id. */
export interface ImageRecord {
  readonly id: Digest;
  /** The config document, byte for byte: its digest is the id. */
  readonly config: string;
  /** Bytes of all layers, as docker counts an image's size. */
  readonly sizeBytes: number;
  /** When a tag was last put on it here; RFC 3339 with nanoseconds. */
  readonly lastTagTime?: string;
  /** The image it was committed or built from here. */
  readonly parent?: Digest;
  /** Only the build cache knows it: it is in no list until somebody wants it. */
  readonly cacheOnly?: true;
}

/** A name of an image, under its normalised form: `docker.io/library/busybox:latest`, `…@sha256:…`. */
export interface ReferenceRecord {
  readonly name: string;
  readonly imageId: Digest;
}

/** A manifest or index that leads to an image, under its digest; its bytes are a blob. */
export interface ManifestRecord {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly sizeBytes: number;
  readonly imageId: Digest;
  /** Blobs it needs: its config and layers, or the manifest chosen from an index. */
  readonly blobs: readonly BlobReference[];
}

export interface BlobReference {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly sizeBytes: number;
}

/** An extracted layer, under its diffID. */
export interface LayerRecord {
  readonly diffId: Digest;
  /** Bytes of its files. */
  readonly sizeBytes: number;
  /** Blobs that hold it, compressed or not; the first is what push and save use. */
  readonly blobs: readonly BlobReference[];
  /** Repositories each of its blobs is known to be in, for cross-repository mounts: `<blob digest> <repository>`. */
  readonly sources?: readonly string[];
}

/** A container's writable layer, under its key. Holds the layers below it, also when their image has been removed by force. */
export interface SnapshotRecord {
  readonly key: string;
  readonly imageId: Digest;
  /** Lowest first. */
  readonly layers: readonly Digest[];
  /** RFC 3339. */
  readonly created: string;
}

/** An image with its config parsed, as the index in memory holds it. */
export interface Image {
  readonly record: ImageRecord;
  readonly id: Digest;
  readonly config: ImageConfig;
  /** DiffIDs, lowest first. */
  readonly layers: readonly Digest[];
  /** Milliseconds since the epoch, 0 when the image does not say. */
  readonly createdMs: number;
}

export function readImage(record: ImageRecord): Image {
  const config = parseImageConfig(Buffer.from(record.config));
  const createdMs = config.created === undefined ? 0 : Date.parse(config.created);
  return { record, id: record.id, config, layers: config.rootfs.diff_ids, createdMs: Number.isNaN(createdMs) ? 0 : createdMs };
}

/** Seconds since the epoch, as list and history show it; Go's zero time when the image does not say. */
export function createdSeconds(created: string | undefined): number {
  const milliseconds = created === undefined ? Number.NaN : Date.parse(created);
  return Number.isNaN(milliseconds) ? 0 : Math.floor(milliseconds / 1000);
}
