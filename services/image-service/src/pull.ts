/** Pulling: a reference resolved to a manifest of one platform, its config and layers brought in and verified, and the image registered. */
import { errorKind, InvalidParameter, NotFound } from '@flotilla/errors';
import {
  chooseManifest,
  type Descriptor,
  type Digest,
  digestOf,
  familiarName,
  familiarString,
  formatPlatform,
  type ImageConfig,
  isImageConfigType,
  isIndexType,
  isLayerType,
  isManifestType,
  type Manifest,
  maxConfigBytes,
  mediaTypes,
  type Platform,
  parseImageConfig,
  parseIndex,
  parseManifest,
  parseReference,
  type Reference,
  repositoryName,
  shortDigest,
  withDefaultTag,
  withDigest,
  withTag,
} from '@flotilla/oci';
import { ContentVanished, LayerContentError } from './contentError.ts';
import { imageEvent } from './events.ts';
import { type BlobReference, type Image, type LayerRecord, type ManifestRecord, readImage } from './image.ts';
import type { ImageStore } from './imageStore.ts';
import { platformMismatch } from './inspect.ts';
import type { LayerFetcher, LayerProgress, LayerWanted } from './layerFetcher.ts';
import { presentLayer } from './presentLayer.ts';
import { bar, message, type ProgressSink, step } from './progress.ts';
import { RegistryError, type WithRegistry } from './registry/distribution.ts';
import { pullError } from './registry/errors.ts';
import { RemoteRepository, type Served } from './registry/remoteRepository.ts';
import { makeRoom } from './room.ts';

export interface PullRequest {
  /** A tag, a digest, or neither for `latest`. */
  readonly reference: Reference;
  readonly platform: Platform;
  /** The client asked for that platform, and is warned when it gets another. */
  readonly platformAsked: boolean;
  /** X-Registry-Auth, as the client sent it. */
  readonly registryAuth: string;
  /** For the build cache: it gets no name. */
  readonly cacheOnly?: boolean;
}

/** A manifest of one platform, and the index it was chosen from. */
interface Target {
  readonly top: Served;
  readonly image: Served;
  readonly manifest: Manifest;
}

export class Puller {
  private readonly store: ImageStore;
  private readonly layers: LayerFetcher;
  private readonly registry: WithRegistry;

  constructor(options: { store: ImageStore; layers: LayerFetcher; registry: WithRegistry }) {
    this.store = options.store;
    this.layers = options.layers;
    this.registry = options.registry;
  }

  /**
   * Pulls one reference. Progress goes to `sink` as it happens; an error before the first line is the request's own.
   *
   * @throws NotFound, Unauthorized, … in dockerd's words.
   */
  async pull(request: PullRequest, sink: ProgressSink, signal: AbortSignal): Promise<Image> {
    const reference = withDefaultTag(request.reference);
    this.store.requireName(reference);
    const remote = new RemoteRepository(this.registry, reference, request.registryAuth, signal);
    const target = await this.resolve(remote, reference, request.platform);
    await makeRoom(this.store.content);
    // Without the registry's name, as dockerd says it.
    sink(message(`Pulling from ${reference.path}`, reference.digest ?? reference.tag));
    const blobs: BlobReference[] = target.manifest.layers.map(blobReference);
    const digests = [target.top.digest, target.image.digest, target.manifest.config.digest, ...blobs.map((blob) => blob.digest)];
    const diffIds: Digest[] = [];
    const release = this.store.holds.hold(digests);
    try {
      const image = await this.bringAgain(() =>
        this.bring(remote, reference, target, blobs, { sink, signal, diffIds, cacheOnly: request.cacheOnly === true }),
      );
      const mismatch = request.platformAsked ? platformMismatch(image, request.platform, familiarString(reference)) : undefined;
      // An image of one platform is taken whatever it is for, as dockerd does.
      if (mismatch !== undefined) sink(message(`WARNING: ${mismatch}`));
      return image;
    } catch (error) {
      await release();
      // What was only cut off goes on with the next pull; content that is wrong will not get better.
      if (isContentFault(error)) {
        await this.layers.settled(diffIds);
        await this.store.discardUnused(diffIds, digests);
      }
      throw error;
    } finally {
      await release();
    }
  }

  private async bringAgain(bring: () => Promise<Image>): Promise<Image> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await bring();
      } catch (error) {
        if (!(error instanceof ContentVanished) || attempt === 3) throw error;
      }
    }
  }

  /** Every tag of a repository, one after the other. */
  async tags(reference: Reference, registryAuth: string, signal: AbortSignal): Promise<string[]> {
    const remote = new RemoteRepository(this.registry, reference, registryAuth, signal);
    return remote.tags();
  }

  private async resolve(remote: RemoteRepository, reference: Reference, platform: Platform): Promise<Target> {
    const top = await remote.manifest(reference.digest ?? reference.tag ?? 'latest');
    if (!isIndexType(top.mediaType)) {
      requireManifestType(top.mediaType);
      return { top, image: top, manifest: parseManifest(top.bytes, top.mediaType) };
    }
    const entry = chooseManifest(parseIndex(top.bytes, top.mediaType), platform);
    if (entry === undefined) {
      throw new NotFound(`no matching manifest for ${formatPlatform(platform)} in the manifest list entries`);
    }
    const image = await remote.manifest(entry.digest);
    return { top, image, manifest: parseManifest(image.bytes, image.mediaType) };
  }

  private async bring(
    remote: RemoteRepository,
    reference: Reference,
    target: Target,
    blobs: readonly BlobReference[],
    { sink, signal, diffIds, cacheOnly }: { sink: ProgressSink; signal: AbortSignal; diffIds: Digest[]; cacheOnly: boolean },
  ): Promise<Image> {
    const { manifest } = target;
    if (!isImageConfigType(manifest.config.mediaType)) {
      throw new LayerContentError(`unsupported media type ${manifest.config.mediaType}`);
    }
    const other = manifest.layers.find((layer) => !isLayerType(layer.mediaType));
    if (other !== undefined) throw new LayerContentError(`unsupported media type ${other.mediaType}`);
    const configBytes = await this.config(remote, manifest.config);
    const config = parseImageConfig(configBytes);
    if (config.os !== '' && config.os !== 'linux') {
      throw new InvalidParameter(
        `image operating system "${config.os}" cannot be used on this platform: operating system is not supported`,
      );
    }
    const id = manifest.config.digest;
    const configText = configBytes.toString('utf8');
    // Its labels are known from here on. Nothing of it is on the disk yet.
    if (!cacheOnly) this.store.requireName(reference, readImage({ id, config: configText, sizeBytes: 0 }));
    const wanted = pair(config, blobs);
    diffIds.push(...wanted.map((layer) => layer.diffId));
    const held = this.store.holdLayers(diffIds);
    const releases = [held.release];
    // A download that another pull began may have brought another form of it, which is that pull's until we hold it too.
    const keep = ({ blobs: brought }: LayerRecord): void => void releases.push(this.store.holds.hold(brought.map(({ digest }) => digest)));
    try {
      // What an image that is here stands on is not told of.
      const quiet = this.store.get(id) !== undefined;
      const layers = await this.fetchLayers(remote, reference, wanted, { known: held.known, keep, quiet, sink, signal });
      await this.store.content.writeBlob(target.top.digest, target.top.bytes);
      await this.store.content.writeBlob(target.image.digest, target.image.bytes);
      await this.store.content.writeBlob(manifest.config.digest, configBytes);
      const before = this.store.resolve(reference);
      const image = await this.store.register({
        id,
        config: configText,
        references: cacheOnly ? [] : [reference.digest === undefined ? [reference] : [], withDigest(reference, target.top.digest)].flat(),
        cacheOnly,
        manifests: manifestRecords(target, id),
        // A layer that was here has its blob there all the same: a push can have it from there.
        layers: layers.map((layer, i) => ({ ...layer, sources: [`${blobs[i]?.digest} ${repositoryName(reference)}`] })),
        events: (made) => (cacheOnly ? [] : [imageEvent('pull', familiarString(reference), familiarName(reference), made)]),
      });
      sink(message(`Digest: ${target.top.digest}`));
      const news = before?.id === id ? 'Image is up to date for' : 'Downloaded newer image for';
      sink(message(`Status: ${news} ${familiarString(reference)}`));
      return image;
    } finally {
      for (const release of releases) await release();
    }
  }

  private async config(remote: RemoteRepository, descriptor: Descriptor): Promise<Buffer> {
    if (descriptor.size > maxConfigBytes) throw new LayerContentError(`image config of ${descriptor.size} bytes is too large`);
    if (this.store.content.hasBlob(descriptor.digest, descriptor.size)) return this.store.content.readBlob(descriptor.digest);
    const bytes = await remote.blob(descriptor.digest, maxConfigBytes);
    if (bytes.length !== descriptor.size || digestOf(bytes) !== descriptor.digest) {
      throw new LayerContentError(`image config verification failed for digest ${descriptor.digest}`);
    }
    return bytes;
  }

  private async fetchLayers(
    remote: RemoteRepository,
    reference: Reference,
    wanted: readonly LayerWanted[],
    {
      known,
      keep,
      quiet,
      sink,
      signal,
    }: {
      known: ReadonlyMap<Digest, LayerRecord>;
      keep: (layer: LayerRecord) => void;
      quiet: boolean;
      sink: ProgressSink;
      signal: AbortSignal;
    },
  ): Promise<LayerRecord[]> {
    // One layer that fails ends the others: nobody needs them any more.
    const failed = new AbortController();
    const together = AbortSignal.any([signal, failed.signal]);
    const present = await Promise.all(wanted.map((layer) => presentLayer(this.store.content, layer, known.get(layer.diffId))));
    const begun = new Set<Digest>();
    const fetches = wanted.map(async (layer, i): Promise<LayerRecord> => {
      const id = shortDigest(layer.blob.digest);
      const here = present[i];
      if (here !== undefined) {
        if (!begun.has(layer.diffId) && !quiet) sink(step('Already exists', id));
        begun.add(layer.diffId);
        return here;
      }
      const isFirst = !begun.has(layer.diffId);
      begun.add(layer.diffId);
      if (isFirst) sink(step('Pulling fs layer', id));
      const report = isFirst ? (progress: LayerProgress): void => reportLayer(sink, id, progress) : (): void => undefined;
      const brought = await this.layers.fetch(layer, (work) => remote.withBlob(layer.blob.digest, work), report, together);
      keep(brought);
      return brought;
    });
    const completed: Promise<unknown>[] = [];
    let before: Promise<unknown> = Promise.resolve();
    for (const [i, fetching] of fetches.entries()) {
      const layer = wanted[i];
      // Shown from the lowest layer up, as dockerd registers them.
      before = Promise.all([before, fetching]).then(() => {
        if (present[i] === undefined && layer !== undefined && wanted.findIndex((each) => each.diffId === layer.diffId) === i) {
          sink(step('Pull complete', shortDigest(layer.blob.digest)));
        }
      });
      completed.push(before);
      fetching.catch(() => failed.abort());
    }
    const results = await Promise.allSettled([...fetches, ...completed]);
    // The first failure, not the cancellations it caused.
    const failures = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []));
    const first = failures.find((error) => !(error instanceof Error && error.name === 'Cancelled')) ?? failures[0];
    if (first !== undefined) throw first instanceof RegistryError ? pullError(first, reference) : first;
    return Promise.all(fetches);
  }
}

function isContentFault(error: unknown): boolean {
  return errorKind(error) === 'DataLoss' || errorKind(error) === 'InvalidParameter';
}

function reportLayer(sink: ProgressSink, id: string, progress: LayerProgress): void {
  switch (progress.step) {
    case 'waiting':
      sink(step('Waiting', id));
      return;
    case 'started':
      return;
    case 'downloading':
      sink(bar('Downloading', id, progress.current, progress.total));
      return;
    case 'verifying':
      sink(step('Verifying Checksum', id));
      return;
    case 'downloaded':
      sink(step('Download complete', id));
      return;
    case 'extracting':
      sink(bar('Extracting', id, progress.current, progress.total));
      return;
    case 'retrying':
      sink(step(`Retrying in ${progress.seconds} second${progress.seconds === 1 ? '' : 's'}`, id));
  }
}

/** The layers of a manifest with the diffIDs of its config. @throws LayerContentError when they do not go together. */
export function pair(config: ImageConfig, blobs: readonly BlobReference[]): LayerWanted[] {
  const diffIds = config.rootfs.diff_ids;
  if (config.rootfs.type !== 'layers') throw new LayerContentError(`unsupported rootfs type ${config.rootfs.type}`);
  if (diffIds.length !== blobs.length) throw new LayerContentError("layers from manifest don't match image configuration");
  return diffIds.map((diffId, i) => {
    const blob = blobs[i];
    if (blob === undefined) throw new LayerContentError("layers from manifest don't match image configuration");
    return { diffId, blob };
  });
}

function blobReference(descriptor: Descriptor): BlobReference {
  return { digest: descriptor.digest, mediaType: descriptor.mediaType, sizeBytes: descriptor.size };
}

/** Records of a manifest, and of the index that led to it. */
function manifestRecords(target: Target, imageId: Digest): ManifestRecord[] {
  const { top, image, manifest } = target;
  const record = { digest: image.digest, mediaType: image.mediaType, sizeBytes: image.bytes.length, imageId };
  const records: ManifestRecord[] = [{ ...record, blobs: [manifest.config, ...manifest.layers].map(blobReference) }];
  if (top.digest !== image.digest) {
    const { imageId: _owner, ...child } = record;
    records.push({ digest: top.digest, mediaType: top.mediaType, sizeBytes: top.bytes.length, imageId, blobs: [child] });
  }
  return records;
}

function requireManifestType(mediaType: string): void {
  if (isManifestType(mediaType)) return;
  if (mediaType === mediaTypes.dockerManifestV1 || mediaType === mediaTypes.dockerManifestV1Signed) {
    throw new LayerContentError(
      'Docker Image Format v1 and Docker Image manifest version 2, schema 1 are not supported: rebuild the image with a current tool',
    );
  }
  throw new LayerContentError(`unsupported manifest media type ${mediaType}`);
}

/** The reference a pull request means: name and tag (or digest) given apart or together. */
export function pullReference(name: string, tag: string): Reference {
  const reference = parseReference(name);
  if (tag === '') return reference;
  // dockerd takes a digest in `tag` too.
  return tag.includes(':') ? withDigest(reference, tag) : withTag(reference, tag);
}
