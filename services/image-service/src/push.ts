/**
 * Pushing: the blobs a registry lacks, then the manifest, byte for byte as it came, so that digests are the same there. A blob that the registry
 * has in another repository is mounted from there instead of sent; one that was never brought here, since its layer was here in another form, is
 * fetched from where the image came from.
 */
import { createReadStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import type { ProgressMessage } from '@flotilla/engine-api';
import { InvalidParameter, NotFound } from '@flotilla/errors';
import {
  type Digest,
  familiarName,
  familiarString,
  isForeignLayerType,
  layerCompression,
  mediaTypes,
  parseReference,
  type Reference,
  repositoryName,
  shortDigest,
  withTag,
} from '@flotilla/oci';
import { imageEvent } from './events.ts';
import type { BlobReference, Image } from './image.ts';
import type { ImageStore } from './imageStore.ts';
import { gzipFile } from './layers/gzipFile.ts';
import type { TransferWorkers } from './layers/transferWorkers.ts';
import { type LocalManifest, localLayers, makeManifest, manifestsOf, originalManifest } from './localManifest.ts';
import { sameRepository } from './names.ts';
import { bar, message, type ProgressSink, step } from './progress.ts';
import { RegistryError, type WithRegistry } from './registry/distribution.ts';
import { pushError } from './registry/errors.ts';
import { type PushProgress, PushTarget } from './registry/pushTarget.ts';
import { RemoteRepository } from './registry/remoteRepository.ts';

/** What a push is of: one tag, or a whole repository when it names none. @throws InvalidParameter in dockerd's words. */
export function pushReference(name: string, tag: string): Reference {
  const reference = parseReference(name);
  if (reference.digest !== undefined) throw new InvalidParameter('cannot push a digest reference');
  return tag === '' ? reference : withTag(reference, tag);
}

/** A blob of an image's own manifest is neither here nor where it came from. */
class BlobAway extends Error {
  override readonly name = 'BlobAway';
}

type LayerBlob = LocalManifest['layers'][number];

/** One push under way. */
interface Push {
  readonly image: Image;
  readonly reference: Reference;
  readonly registryAuth: string;
  readonly target: PushTarget;
  readonly sink: ProgressSink;
  readonly signal: AbortSignal;
  /** Holds content that comes to be on the way, until the push has ended. */
  readonly hold: (digest: Digest) => void;
}

export class Pusher {
  private readonly store: ImageStore;
  private readonly registry: WithRegistry;
  private readonly workers: TransferWorkers;
  private readonly maxConcurrent: number;

  constructor(options: { store: ImageStore; registry: WithRegistry; workers: TransferWorkers; maxConcurrent: number }) {
    this.store = options.store;
    this.registry = options.registry;
    this.workers = options.workers;
    this.maxConcurrent = options.maxConcurrent;
  }

  /** Pushes one tag, or every tag of a repository. The first line says where to, whatever comes of it. */
  async push(reference: Reference, registryAuth: string, sink: ProgressSink, signal: AbortSignal): Promise<void> {
    sink(message(`The push refers to repository [${repositoryName(reference)}]`));
    for (const tag of this.tagsOf(reference)) await this.pushTag(tag, registryAuth, sink, signal);
  }

  /** @throws NotFound in dockerd's words for no such tag, no tag at all, and a repository of which nothing is here. */
  private tagsOf(wanted: Reference): Reference[] {
    if (wanted.tag !== undefined && this.store.resolve(wanted) !== undefined) return [wanted];
    const all = [...this.store.visible()].flatMap((image) => this.store.visibleReferences(image.id));
    const ofRepository = all.filter((each) => sameRepository(each, wanted));
    if (ofRepository.length === 0) throw new NotFound(`An image does not exist locally with the tag: ${familiarName(wanted)}`);
    if (wanted.tag !== undefined) throw new NotFound(`tag does not exist: ${familiarString(wanted)}`);
    const tags = ofRepository.filter((each) => each.digest === undefined);
    if (tags.length === 0) throw new NotFound(`no tags to push for ${familiarName(wanted)}`);
    return tags;
  }

  private async pushTag(reference: Reference, registryAuth: string, sink: ProgressSink, signal: AbortSignal): Promise<void> {
    const image = this.store.resolve(reference);
    if (image === undefined) throw new NotFound(`tag does not exist: ${familiarString(reference)}`);
    // The digest that it gets there becomes a name here.
    this.store.requireName(reference, image);
    const releases = [this.store.holds.hold([image.id, ...image.layers, ...this.blobsOf(image)])];
    const hold = (digest: Digest): void => void releases.push(this.store.holds.hold([digest]));
    try {
      const target = new PushTarget(this.registry, reference, registryAuth, signal);
      const push: Push = { image, reference, registryAuth, target, sink, signal, hold };
      const manifest = (await this.pushOriginal(push)) ?? (await this.pushMade(push));
      await target.putManifest(reference.tag ?? 'latest', manifest);
      const size = manifest.bytes.length;
      sink(message(`${reference.tag}: digest: ${manifest.digest} size: ${size}`));
      sink({ progressDetail: {}, aux: { Tag: reference.tag, Digest: manifest.digest, Size: size } });
      await this.record(image, manifest, reference);
    } catch (error) {
      throw error instanceof RegistryError ? pushError(error) : error;
    } finally {
      for (const release of releases) await release();
    }
  }

  private blobsOf(image: Image): Digest[] {
    const ofLayers = image.layers.flatMap((diffId) => this.store.layers.get(diffId)?.blobs ?? []);
    const ofManifests = manifestsOf(this.store, image, new Set()).flatMap((record) => [record, ...record.blobs]);
    return [...ofLayers, ...ofManifests].map((blob) => blob.digest);
  }

  /** By the manifest that the image came with, wherever its blobs are. @returns undefined when there is none, or not all of them can be had. */
  private async pushOriginal(push: Push): Promise<LocalManifest | undefined> {
    const { store } = this;
    const digests = store.references(push.image.id).flatMap((each) => {
      return each.digest !== undefined && sameRepository(each, push.reference) ? [each.digest] : [];
    });
    const canBeHad = (layer: LayerBlob): boolean => {
      return isForeignLayerType(layer.mediaType) || store.content.hasBlob(layer.digest, layer.sizeBytes) || this.sources(layer).length > 0;
    };
    for (const record of manifestsOf(store, push.image, new Set(digests))) {
      if (!store.content.hasBlob(record.digest, record.sizeBytes)) continue;
      const manifest = await originalManifest(store, push.image, record);
      if (manifest === undefined || !manifest.layers.every(canBeHad)) continue;
      try {
        await this.pushLayers(push, manifest.layers, async (layer) => layer);
        await this.pushConfig(push, manifest.config);
        return manifest;
      } catch (error) {
        if (!(error instanceof BlobAway)) throw error;
      }
    }
    return undefined;
  }

  /** By a manifest of the blobs that are here, plain ones compressed. */
  private async pushMade(push: Push): Promise<LocalManifest> {
    const isPlain = (blob: BlobReference): boolean => layerCompression(blob.mediaType) === 'none' && !isForeignLayerType(blob.mediaType);
    const here = localLayers(this.store, push.image, (blobs) => blobs.find((blob) => !isPlain(blob)) ?? blobs[0]);
    const layers = await this.pushLayers(push, here, async (layer, signal) => {
      return isPlain(layer) ? { ...(await this.compress(push, layer, signal)), diffId: layer.diffId } : layer;
    });
    const manifest = makeManifest(push.image, layers);
    await this.pushConfig(push, manifest.config);
    return manifest;
  }

  private async compress(push: Push, layer: LayerBlob, signal: AbortSignal): Promise<BlobReference> {
    const { content } = this.store;
    const path = content.newIngestPath('push');
    try {
      const { digest, sizeBytes } = await gzipFile(content.blobPath(layer.digest), path, signal);
      push.hold(digest);
      content.adoptBlob(path, digest);
      return { digest, sizeBytes, mediaType: mediaTypes.ociLayerGzip };
    } finally {
      await rm(path, { force: true });
    }
  }

  /** Pushes layers side by side, each once; `prepare` says as what. @returns them as they were pushed. */
  private async pushLayers(
    push: Push,
    layers: readonly LayerBlob[],
    prepare: (layer: LayerBlob, signal: AbortSignal) => Promise<LayerBlob>,
  ): Promise<LayerBlob[]> {
    const pushed = new Map<Digest, LayerBlob>();
    const pending = [...new Map(layers.map((layer) => [layer.digest, layer])).values()];
    for (const layer of pending) if (!isForeignLayerType(layer.mediaType)) push.sink(step('Preparing', shortDigest(layer.diffId)));
    // One layer that fails ends the others: the push has failed with it.
    const failed = new AbortController();
    const signal = AbortSignal.any([push.signal, failed.signal]);
    const target = new PushTarget(this.registry, push.reference, push.registryAuth, signal);
    const one = async (): Promise<void> => {
      for (let layer = pending.shift(); layer !== undefined; layer = pending.shift()) {
        const prepared = await prepare(layer, signal);
        pushed.set(layer.digest, prepared);
        if (!isForeignLayerType(layer.mediaType)) await this.pushLayer({ ...push, target, signal }, prepared);
      }
    };
    const failures: unknown[] = [];
    const fail = (error: unknown): void => {
      failures.push(error);
      failed.abort();
    };
    await Promise.all(Array.from({ length: this.maxConcurrent }, () => one().catch(fail)));
    if (failures.length > 0) throw failures[0];
    return layers.map((layer) => pushed.get(layer.digest) ?? layer);
  }

  private async pushLayer(push: Push, layer: LayerBlob): Promise<void> {
    const { content } = this.store;
    const id = shortDigest(layer.diffId);
    await push.target.blob(layer, {
      sources: this.sources(layer),
      bytes: async (start, end) => {
        if (!content.hasBlob(layer.digest, layer.sizeBytes)) await this.fetch(push, layer);
        return createReadStream(content.blobPath(layer.digest), { start, end: end - 1, highWaterMark: 512 * 1024 });
      },
      onProgress: (progress) => push.sink(progressLine(progress, id, layer.sizeBytes)),
    });
  }

  private async pushConfig(push: Push, blob: BlobReference): Promise<void> {
    const config = Buffer.from(push.image.record.config);
    await push.target.blob(blob, {
      sources: [],
      bytes: async (start, end) => config.subarray(start, end),
      onProgress: () => undefined,
    });
  }

  /** Repositories that are known to hold a layer's blob. */
  private sources(layer: LayerBlob): string[] {
    return (this.store.layers.get(layer.diffId)?.sources ?? []).flatMap((source) => {
      const [digest, repository] = source.split(' ');
      return digest === layer.digest && repository !== undefined ? [repository] : [];
    });
  }

  /** Brings a blob from where the image came from. @throws BlobAway */
  private async fetch({ reference, registryAuth, sink, signal }: Push, layer: LayerBlob): Promise<void> {
    const { content } = this.store;
    const path = content.newIngestPath('push');
    const id = shortDigest(layer.diffId);
    let cause: unknown;
    try {
      for (const source of this.sources(layer).map(parseReference)) {
        // Credentials are for the registry that is pushed to, and are nobody else's business.
        const remote = new RemoteRepository(this.registry, source, source.domain === reference.domain ? registryAuth : '', signal);
        try {
          await remote.withBlob(layer.digest, (at) =>
            this.workers.run(
              { path, blob: layer, source: at },
              layer.sizeBytes,
              (progress) => {
                if (progress.step === 'downloading') sink(bar('Downloading', id, progress.current, progress.total));
              },
              signal,
            ),
          );
          content.adoptBlob(path, layer.digest);
          return;
        } catch (error) {
          signal.throwIfAborted();
          cause = error;
        }
      }
    } finally {
      await rm(path, { force: true });
    }
    throw new BlobAway(`blob ${layer.digest} cannot be had`, { cause });
  }

  /** Remembers the digest the image has there, and where its blobs are. */
  private async record(image: Image, manifest: LocalManifest, reference: Reference): Promise<void> {
    if (this.store.get(image.id) === undefined) {
      // Removed while it was pushed: it does not come back.
      await this.store.announce([imageEvent('push', familiarString(reference), familiarName(reference), image)]);
      return;
    }
    await this.store.content.writeBlob(manifest.digest, manifest.bytes);
    const repository = repositoryName(reference);
    const records = manifest.layers.map(({ diffId, ...blob }) => {
      const known = this.store.layers.get(diffId);
      const isHere = this.store.content.hasBlob(blob.digest, blob.sizeBytes);
      return { diffId, sizeBytes: known?.sizeBytes ?? 0, blobs: isHere ? [blob] : [], sources: [`${blob.digest} ${repository}`] };
    });
    const { digest, mediaType, bytes, config } = manifest;
    await this.store.register({
      id: image.id,
      config: image.record.config,
      references: [{ domain: reference.domain, path: reference.path, digest }],
      manifests: [
        {
          digest,
          mediaType,
          sizeBytes: bytes.length,
          imageId: image.id,
          blobs: [config, ...manifest.layers.map(({ diffId: _diffId, ...blob }) => blob)],
        },
      ],
      layers: records,
      events: (made) => [imageEvent('push', familiarString(reference), familiarName(reference), made)],
    });
  }
}

function progressLine(progress: PushProgress, id: string, sizeBytes: number): ProgressMessage {
  switch (progress.step) {
    case 'exists':
      return step('Layer already exists', id);
    case 'mounted':
      return step(`Mounted from ${progress.from}`, id);
    case 'sending':
      return bar('Pushing', id, progress.current, sizeBytes);
    case 'retrying':
      return step(`Retrying in ${progress.seconds} second${progress.seconds === 1 ? '' : 's'}`, id);
    case 'pushed':
      return step('Pushed', id);
  }
}
