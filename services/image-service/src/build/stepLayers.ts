/** A step's changes as a layer: a directory in overlay's form is read once, for its tar and digest, and renamed in place. */
import { renameSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { mediaTypes } from '@flotilla/oci';
import type { ImageStore } from '../imageStore.ts';
import { writeLayerTar } from '../layers/layerTar.ts';
import { type HeldLayer, type NewLayers, noLayer } from '../newImage.ts';
import { limitTimes } from './sourceDateEpoch.ts';

export class StepLayers {
  private readonly store: ImageStore;
  private readonly newLayers: NewLayers;

  constructor(options: { store: ImageStore; newLayers: NewLayers }) {
    this.store = options.store;
    this.newLayers = options.newLayers;
  }

  /** Takes a layer directory of the content store whose `diff` is complete. @param latestNs - no time in it is to be later; undefined: any may. */
  async seal(layerDirectory: string, signal: AbortSignal, latestNs?: bigint): Promise<HeldLayer> {
    const { content } = this.store;
    const path = content.newIngestPath('build');
    try {
      if (latestNs !== undefined) await limitTimes(join(layerDirectory, 'diff'), latestNs, signal);
      const tar = await writeLayerTar(join(layerDirectory, 'diff'), path, signal);
      if (tar.isEmpty) return noLayer;
      const release = this.newLayers.hold(tar.digest, tar.digest);
      try {
        content.adoptBlob(path, tar.digest);
        await content.commitLayer(layerDirectory, tar.digest, tar.contentBytes);
      } catch (error) {
        await release();
        throw error;
      }
      const blobs = [{ digest: tar.digest, sizeBytes: tar.sizeBytes, mediaType: mediaTypes.ociLayer }];
      return { record: { diffId: tar.digest, sizeBytes: tar.contentBytes, blobs }, release };
    } finally {
      await rm(path, { force: true });
      content.discard(layerDirectory);
      void content.emptyTrash();
    }
  }

  /** Takes the writable layer of a container that has ended and will be removed. */
  async take(snapshotKey: string, signal: AbortSignal): Promise<HeldLayer> {
    const { content } = this.store;
    const layer = content.newLayerDirectory();
    rmSync(layer.diff, { recursive: true });
    renameSync(content.snapshotPaths(snapshotKey).upperDir, layer.diff);
    return this.seal(layer.path, signal);
  }

  /** Copies the writable layer of a container that stays. */
  async copy(snapshotKey: string, signal: AbortSignal): Promise<HeldLayer> {
    const { content } = this.store;
    const path = content.newIngestPath('build');
    try {
      const tar = await writeLayerTar(content.snapshotPaths(snapshotKey).upperDir, path, signal);
      if (tar.isEmpty) return noLayer;
      return await this.newLayers.make(path, tar.sizeBytes, signal);
    } finally {
      await rm(path, { force: true });
    }
  }
}
