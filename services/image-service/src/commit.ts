/** Committing: a container's writable layer becomes the top layer of a new image. */
import { rm } from 'node:fs/promises';
import type { CommitImageRequest } from '@flotilla/contracts/flotilla/image/v1/images';
import { NotFound, System } from '@flotilla/errors';
import { type ContainerDefaults, type Digest, familiarString } from '@flotilla/oci';
import { applyChanges, defaultsFromJson, mergeDefaults } from './changes.ts';
import { rfc3339Nano } from './clock.ts';
import { imageEvent } from './events.ts';
import { type Image, type LayerRecord, readImage, type SnapshotRecord } from './image.ts';
import type { ImageStore } from './imageStore.ts';
import { newReference } from './import.ts';
import { imagePlatform } from './inspect.ts';
import { type LayerTar, writeLayerTar } from './layers/layerTar.ts';
import { runtimePoints } from './layers/runtimePoints.ts';
import { type HeldLayer, makeConfig, type NewLayers, noLayer } from './newImage.ts';
import { makeRoom } from './room.ts';

export class Committer {
  private readonly store: ImageStore;
  private readonly newLayers: NewLayers;

  constructor(options: { store: ImageStore; newLayers: NewLayers }) {
    this.store = options.store;
    this.newLayers = options.newLayers;
  }

  /** @returns the new image's id. @throws NotFound for an unknown snapshot; InvalidParameter for changes that make no sense. */
  async commit(request: CommitImageRequest, signal: AbortSignal): Promise<string> {
    const snapshot = this.store.snapshots.get(request.snapshotKey);
    if (snapshot === undefined) throw new NotFound(`No such snapshot: ${request.snapshotKey}`);
    const base = this.store.get(snapshot.imageId);
    const reference = newReference(request.repository, request.tag);
    if (reference !== undefined) this.store.requireName(reference);
    const own = defaultsFromJson(request.containerConfigJson) ?? base?.config.config ?? {};
    const defaults = applyChanges(mergeDefaults(defaultsFromJson(request.configJson) ?? {}, own), request.changes);
    const below = this.store.holdLayers(snapshot.layers);
    try {
      await makeRoom(this.store.content);
      const top = await this.layerOf(snapshot, signal);
      try {
        const image = await this.register({
          request,
          snapshot,
          base,
          below: below.known,
          top: top.record,
          ranCommand: own.Cmd ?? [],
          defaults,
          reference,
        });
        return image.id;
      } finally {
        await top.release();
      }
    } finally {
      await below.release();
    }
  }

  private async register(parts: {
    request: CommitImageRequest;
    snapshot: SnapshotRecord;
    base: Image | undefined;
    below: ReadonlyMap<Digest, LayerRecord>;
    top: LayerRecord | undefined;
    ranCommand: readonly string[];
    defaults: ContainerDefaults;
    reference: ReturnType<typeof newReference>;
  }): Promise<Image> {
    const { request, snapshot, base, below, top, ranCommand, defaults, reference } = parts;
    const created = rfc3339Nano();
    const step = {
      created,
      ...(request.author === '' ? {} : { author: request.author }),
      created_by: ranCommand.join(' '),
      ...(request.comment === '' ? {} : { comment: request.comment }),
      ...(top === undefined ? { empty_layer: true } : {}),
    };
    const tops = top === undefined ? [] : [top];
    const { id, config } = makeConfig({
      defaults,
      diffIds: [...snapshot.layers, ...tops.map(({ diffId }) => diffId)],
      history: [...(base?.config.history ?? []), step],
      platform: base === undefined ? { os: 'linux', architecture: '' } : imagePlatform(base),
      author: request.author,
      comment: request.comment,
      created,
    });
    if (reference !== undefined) this.store.requireName(reference, readImage({ id, config, sizeBytes: 0 }));
    await this.store.content.writeBlob(id, Buffer.from(config));
    const layers = snapshot.layers.map((diffId) => {
      const layer = below.get(diffId);
      if (layer === undefined) throw new System(`layer ${diffId} is missing`);
      return layer;
    });
    return this.store.register({
      id,
      config,
      references: reference === undefined ? [] : [reference],
      manifests: [],
      layers: [...layers, ...tops],
      ...(base === undefined ? {} : { parent: base.id }),
      events: (image) => (reference === undefined ? [] : [imageEvent('tag', image.id, familiarString(reference), image)]),
    });
  }

  private async layerOf(snapshot: SnapshotRecord, signal: AbortSignal): Promise<HeldLayer> {
    const path = this.store.content.newIngestPath('commit');
    try {
      const { content } = this.store;
      const { upperDir } = content.snapshotPaths(snapshot.key);
      const write = async (): Promise<LayerTar> => {
        const skipped = runtimePoints(upperDir, content.lowerDirectories(snapshot.layers));
        return await writeLayerTar(upperDir, path, signal, new Set(skipped));
      };
      const written = await write().then(
        (tar) => ({ tar }),
        (error: unknown) => ({ error }),
      );
      // Removed while it was read: what was read is not all of it.
      if (this.store.snapshots.get(snapshot.key) === undefined) throw new NotFound(`No such snapshot: ${snapshot.key}`);
      if ('error' in written) throw written.error;
      return written.tar.isEmpty ? noLayer : await this.newLayers.make(path, written.tar.sizeBytes, signal);
    } finally {
      await rm(path, { force: true });
    }
  }
}
