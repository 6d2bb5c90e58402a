/** Loading: the images of an archive (`docker save`, OCI layout; plain or compressed) into the store. */
import { closeSync, openSync, readSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { InvalidParameter } from '@flotilla/errors';
import { type Digest, digestOf, familiarString, mediaTypes, type Platform, shortDigest } from '@flotilla/oci';
import { blockBytes, TarError } from '@flotilla/tar';
import { type ArchivedImage, type ArchivedLayer, readContents } from './archive/contents.ts';
import { decompressed } from './archive/decompress.ts';
import { SpooledArchive, type SpooledFile } from './archive/spool.ts';
import { imageEvent } from './events.ts';
import type { BlobReference, LayerRecord } from './image.ts';
import type { ImageStore } from './imageStore.ts';
import { layerMediaType } from './layerMediaType.ts';
import type { TransferWorkers } from './layers/transferWorkers.ts';
import { bar, type ProgressSink } from './progress.ts';
import { makeRoom } from './room.ts';
import { checksumFits } from './tar/header.ts';

export interface LoadRequest {
  readonly quiet: boolean;
  /** Which image of an index to take. */
  readonly platform: Platform;
}

const layersAtOnce = 2;
/** Smaller ones are not worth beginning before the archive has been read. */
const earlyBytes = 1024 * 1024;

/** A layer extracted before anybody knew whether an image needs it. */
interface EarlyLayer {
  readonly path: string;
  readonly sizeBytes: number;
}
type EarlyLayers = Map<Digest, Promise<EarlyLayer | undefined>>;

export class Loader {
  private readonly store: ImageStore;
  private readonly workers: TransferWorkers;
  private readonly maxLayerBytes: number;

  constructor(options: { store: ImageStore; workers: TransferWorkers; maxLayerBytes: number }) {
    this.store = options.store;
    this.workers = options.workers;
    this.maxLayerBytes = options.maxLayerBytes;
  }

  /** @throws InvalidParameter for an archive that is none; LayerContentError for layers that are not what their image says. */
  async load(source: AsyncIterable<Buffer>, request: LoadRequest, sink: ProgressSink, signal: AbortSignal): Promise<void> {
    const { content } = this.store;
    await makeRoom(content);
    const directory = content.newIngestDirectory('load');
    const early: EarlyLayers = new Map();
    try {
      const { plain } = await decompressed(source);
      // `docker save` writes layers first and says last what they are: those that look like one are extracted while the rest arrives.
      const archive = await SpooledArchive.read(plain, directory, (file) => {
        const isNews = !early.has(file.digest) && !content.hasLayer(file.digest);
        if (isNews && file.sizeBytes >= earlyBytes && looksLikeTar(file.path)) early.set(file.digest, this.unpackEarly(file, signal));
      });
      signal.throwIfAborted();
      const images = await readContents(archive, request.platform);
      for (const image of images) await this.loadImage(image, early, request, sink, signal);
    } finally {
      for (const layer of await Promise.all(early.values())) if (layer !== undefined) content.discard(layer.path);
      await rm(directory, { recursive: true, force: true });
      void content.emptyTrash();
    }
  }

  /** Extracts a plain tar as the layer that its digest would be; a failure only means that it is done again when its turn comes. */
  private async unpackEarly(file: SpooledFile, signal: AbortSignal): Promise<EarlyLayer | undefined> {
    const { content } = this.store;
    const directory = content.newLayerDirectory();
    try {
      const unpack = { root: directory.diff, diffId: file.digest, isVerified: true, maxBytes: this.maxLayerBytes };
      const unpacked = await this.workers.run({ path: file.path, unpack }, file.sizeBytes, () => undefined, signal);
      return { path: directory.path, sizeBytes: unpacked?.sizeBytes ?? 0 };
    } catch {
      content.discard(directory.path);
      return undefined;
    }
  }

  private async loadImage(
    image: ArchivedImage,
    early: EarlyLayers,
    request: LoadRequest,
    sink: ProgressSink,
    signal: AbortSignal,
  ): Promise<void> {
    if (image.config.rootfs.type !== 'layers')
      throw new InvalidParameter(`invalid archive: unsupported rootfs type ${image.config.rootfs.type}`);
    const files = image.layers.flatMap(({ file }) => (file === undefined ? [] : [file.digest]));
    const diffIds = image.layers.map((layer) => layer.diffId);
    const digests = [image.id, ...files, ...image.manifests.map(({ record }) => record.digest)];
    const held = this.store.holdLayers(diffIds);
    const releaseFiles = this.store.holds.hold(digests);
    const release = async (): Promise<void> => {
      await held.release();
      await releaseFiles();
    };
    try {
      const layers = await this.loadLayers(image.layers, held.known, early, request, sink, signal);
      if (digestOf(image.configBytes) !== image.id) throw new InvalidParameter(`invalid archive: config does not match ${image.id}`);
      await this.store.content.writeBlob(image.id, image.configBytes);
      for (const { record, bytes } of image.manifests) await this.store.content.writeBlob(record.digest, bytes);
      for (const tag of image.tags) {
        const old = this.store.resolve(tag);
        if (old === undefined || old.id === image.id) continue;
        sink({ stream: `The image ${familiarString(tag)} already exists, renaming the old one with ID ${old.id} to empty string\n` });
      }
      await this.store.register({
        id: image.id,
        config: image.configBytes.toString('utf8'),
        references: image.tags,
        manifests: image.manifests.map(({ record }) => record),
        layers,
        events: (made) => [imageEvent('load', made.id, made.id, made)],
      });
      if (image.tags.length === 0) sink({ stream: `Loaded image ID: ${image.id}\n` });
      for (const tag of image.tags) sink({ stream: `Loaded image: ${familiarString(tag)}\n` });
    } catch (error) {
      await release();
      await this.store.discardUnused(diffIds, digests);
      throw error;
    } finally {
      await release();
    }
  }

  private async loadLayers(
    layers: readonly ArchivedLayer[],
    known: ReadonlyMap<Digest, LayerRecord>,
    early: EarlyLayers,
    request: LoadRequest,
    sink: ProgressSink,
    signal: AbortSignal,
  ): Promise<LayerRecord[]> {
    const records = new Map<Digest, LayerRecord>();
    const pending = [...new Map(layers.map((layer) => [layer.diffId, layer])).values()];
    const one = async (): Promise<void> => {
      try {
        for (let layer = pending.shift(); layer !== undefined; layer = pending.shift()) {
          records.set(layer.diffId, await this.loadLayer(layer, known.get(layer.diffId)?.blobs ?? [], early, request, sink, signal));
        }
      } catch (error) {
        pending.length = 0;
        throw error;
      }
    };
    // A failure is told when all have ended: what another layer brought after the clean-up would be nobody's.
    const outcomes = await Promise.allSettled(Array.from({ length: layersAtOnce }, one));
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
    return layers.map((layer) => {
      const record = records.get(layer.diffId);
      if (record === undefined) throw new InvalidParameter(`invalid archive: layer ${layer.diffId} is missing`);
      return record;
    });
  }

  private async loadLayer(
    { diffId, file }: ArchivedLayer,
    blobsHere: readonly BlobReference[],
    early: EarlyLayers,
    request: LoadRequest,
    sink: ProgressSink,
    signal: AbortSignal,
  ): Promise<LayerRecord> {
    const { content } = this.store;
    const sizeHere = await content.layerSize(diffId);
    if (sizeHere !== undefined) {
      const blobs = file === undefined ? blobsHere : [this.keep(file, diffId)];
      return { diffId, sizeBytes: sizeHere, blobs };
    }
    if (file === undefined) throw new InvalidParameter(`invalid archive: layer ${diffId} is missing`);
    const id = shortDigest(diffId);
    const done = file.digest === diffId ? await early.get(diffId) : undefined;
    early.delete(diffId);
    if (done !== undefined) {
      const blob = this.keep(file, diffId);
      await content.commitLayer(done.path, diffId, done.sizeBytes);
      if (!request.quiet) sink(bar('Loading layer', id, file.sizeBytes, file.sizeBytes));
      return { diffId, sizeBytes: done.sizeBytes, blobs: [blob] };
    }
    const directory = content.newLayerDirectory();
    try {
      const unpacked = await this.workers.run(
        {
          path: file.path,
          unpack: { root: directory.diff, diffId, isVerified: file.digest === diffId, maxBytes: this.maxLayerBytes },
        },
        file.sizeBytes,
        (progress) => {
          if (!request.quiet && progress.step === 'extracting') sink(bar('Loading layer', id, progress.current, progress.total));
        },
        signal,
      );
      const sizeBytes = unpacked?.sizeBytes ?? 0;
      const blob = this.keep(file, diffId);
      await content.commitLayer(directory.path, diffId, sizeBytes);
      return { diffId, sizeBytes, blobs: [blob] };
    } catch (error) {
      content.discard(directory.path);
      void content.emptyTrash();
      throw error;
    }
  }

  /** Makes the archive's file a blob of the store. */
  private keep(file: SpooledFile, diffId: Digest): BlobReference {
    const { content } = this.store;
    const isHere = content.hasBlob(file.digest, file.sizeBytes);
    const mediaType = file.digest === diffId ? mediaTypes.ociLayer : layerMediaType(isHere ? content.blobPath(file.digest) : file.path);
    if (!isHere) content.adoptBlob(file.path, file.digest);
    return { digest: file.digest, sizeBytes: file.sizeBytes, mediaType };
  }
}

function looksLikeTar(path: string): boolean {
  const fd = openSync(path, 'r');
  try {
    const block = Buffer.alloc(blockBytes);
    return readSync(fd, block, 0, blockBytes, 0) === blockBytes && checksumFits(block);
  } catch (error) {
    if (error instanceof TarError) return false;
    throw error;
  } finally {
    closeSync(fd);
  }
}
