/** Making an image here (import, commit): a layer from a tar, and the config document above it. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { type ContainerDefaults, type Digest, digestOf, type HistoryEntry, hostPlatform, type Platform } from '@flotilla/oci';
import { rfc3339Nano } from './clock.ts';
import type { BlobReference, LayerRecord } from './image.ts';
import type { ImageStore } from './imageStore.ts';
import { layerMediaType } from './layerMediaType.ts';
import type { TransferWorkers } from './layers/transferWorkers.ts';

/** A layer that is held against removal until `release`. One that no image needs by then goes again. */
export interface NewLayer {
  readonly record: LayerRecord;
  release(): Promise<void>;
}

/** What a writable layer gives. */
export interface HeldLayer {
  /** Undefined when nothing was changed. */
  readonly record: LayerRecord | undefined;
  release(): Promise<void>;
}

export const noLayer: HeldLayer = { record: undefined, release: async () => undefined };

/** Makes layers of tars. */
export class NewLayers {
  private readonly store: ImageStore;
  private readonly workers: TransferWorkers;
  private readonly maxLayerBytes: number;

  constructor(options: { store: ImageStore; workers: TransferWorkers; maxLayerBytes: number }) {
    this.store = options.store;
    this.workers = options.workers;
    this.maxLayerBytes = options.maxLayerBytes;
  }

  /** Holds a layer and its blob from before they are in place: others of the same content may be removed at that moment. */
  hold(diffId: Digest, blob: Digest): () => Promise<void> {
    const { holds, layers } = this.store;
    const release = holds.hold([diffId, blob]);
    return async () => {
      await release();
      const isRecorded = layers.get(diffId)?.blobs.some(({ digest }) => digest === blob) === true;
      if (!isRecorded) await this.store.discardUnused([diffId], [blob]);
    };
  }

  /** Extracts a tar, compressed or not; its file becomes the layer's blob. @throws LayerContentError for a tar that is none, or hostile. */
  async make(path: string, sizeBytes: number, signal: AbortSignal): Promise<NewLayer> {
    const { content } = this.store;
    const directory = content.newLayerDirectory();
    let release: (() => Promise<void>) | undefined;
    try {
      const [unpacked, digest] = await Promise.all([
        this.workers.run({ path, unpack: { root: directory.diff, maxBytes: this.maxLayerBytes } }, sizeBytes, () => undefined, signal),
        fileDigest(path),
      ]);
      if (unpacked === undefined) throw new Error('nothing was unpacked');
      const blob: BlobReference = { digest, sizeBytes, mediaType: layerMediaType(path) };
      release = this.hold(unpacked.diffId, digest);
      content.adoptBlob(path, digest);
      await content.commitLayer(directory.path, unpacked.diffId, unpacked.sizeBytes);
      return { record: { diffId: unpacked.diffId, sizeBytes: unpacked.sizeBytes, blobs: [blob] }, release };
    } catch (error) {
      content.discard(directory.path);
      await rm(path, { force: true });
      await release?.();
      void content.emptyTrash();
      throw error;
    }
  }
}

async function fileDigest(path: string): Promise<Digest> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 256 * 1024 }) as AsyncIterable<Buffer>) hash.update(chunk);
  return `sha256:${hash.digest('hex')}`;
}

export interface NewConfig {
  readonly defaults: ContainerDefaults;
  readonly diffIds: readonly Digest[];
  readonly history: readonly HistoryEntry[];
  readonly platform: Platform;
  readonly author?: string;
  readonly comment?: string;
  readonly created?: string;
}

/** The config document and the image id it gives. */
export function makeConfig(parts: NewConfig): { id: Digest; config: string } {
  const { os, architecture, variant } = parts.platform;
  const config = JSON.stringify({
    architecture: architecture || hostPlatform().architecture,
    ...(variant === undefined ? {} : { variant }),
    ...(parts.comment ? { comment: parts.comment } : {}),
    ...(parts.author ? { author: parts.author } : {}),
    config: parts.defaults,
    created: parts.created ?? rfc3339Nano(),
    history: parts.history,
    os: os || 'linux',
    rootfs: { type: 'layers', diff_ids: parts.diffIds },
  });
  return { id: digestOf(config), config };
}
