/**
 * The images of this host: an index in memory over the records, and every change of them. Changes run one at a time under the lease `content`, so that
 * removing never races with registering; content that work under way holds is never removed.
 */
import { Forbidden, NotFound } from '@flotilla/errors';
import {
  type Digest,
  familiarString,
  parseAnyReference,
  parseReference,
  type Reference,
  referenceString,
  withDefaultTag,
} from '@flotilla/oci';
import type { Collection, DomainEvent, Lease, RecordStore } from '@flotilla/records';
import { rfc3339Nano } from './clock.ts';
import { ContentVanished } from './contentError.ts';
import type { ContentStore } from './contentStore.ts';
import { imageEvent } from './events.ts';
import { Holds } from './holds.ts';
import {
  type Image,
  type ImageRecord,
  type LayerRecord,
  type ManifestRecord,
  type ReferenceRecord,
  readImage,
  type SnapshotRecord,
} from './image.ts';
import { ImageRights } from './imageRights.ts';
import { ImageUses } from './imageUses.ts';
import { exactReference } from './names.ts';

/** A new image, or new names and manifests of one that is here. */
export interface Registration {
  readonly id: Digest;
  /** The config document. */
  readonly config: string;
  readonly references: readonly Reference[];
  readonly manifests: readonly ManifestRecord[];
  /** Its layers, lowest first, all in the content store. */
  readonly layers: readonly LayerRecord[];
  readonly parent?: Digest;
  /** For the build cache alone, unless it is here for another reason. */
  readonly cacheOnly?: boolean;
  /** Made from the image as it will be. */
  readonly events: (image: Image) => readonly DomainEvent[];
}

/** What removing an image freed. */
export interface Freed {
  readonly layers: readonly Digest[];
  readonly sizeBytes: number;
}

export class ImageStore {
  readonly content: ContentStore;
  readonly holds: Holds = new Holds((digests) => this.discardDeferred(digests));
  readonly layers: Collection<LayerRecord>;
  readonly manifests: Collection<ManifestRecord>;
  readonly snapshots: Collection<SnapshotRecord>;
  readonly uses: ImageUses;
  private readonly records: RecordStore;
  private readonly rights: ImageRights;
  private readonly imageRecords: Collection<ImageRecord>;
  private readonly referenceRecords: Collection<ReferenceRecord>;
  private readonly buildSteps: Collection<{ readonly imageId: Digest }>;
  private readonly images = new Map<Digest, Image>();
  private readonly names = new Map<Digest, Map<string, Reference>>();
  private readonly parsed = new Map<string, Reference>();
  /** Content that was removed while work under way held it: it goes when that work has ended, unless it is needed again. */
  private readonly deferred = new Set<Digest>();

  constructor(options: { records: RecordStore; content: ContentStore; rights?: ImageRights }) {
    this.records = options.records;
    this.rights = options.rights ?? new ImageRights(undefined);
    this.content = options.content;
    this.imageRecords = this.records.collection('image');
    this.referenceRecords = this.records.collection('reference');
    this.manifests = this.records.collection('manifest');
    this.layers = this.records.collection('layer');
    this.snapshots = this.records.collection('snapshot');
    this.buildSteps = this.records.collection('build-step');
    this.uses = new ImageUses(this.records);
    for (const record of this.imageRecords.values()) this.images.set(record.id, readImage(record));
    for (const record of this.referenceRecords.values()) this.index(record.name, record.imageId);
    this.imageRecords.onChange((id, now) => {
      if (now === undefined) this.images.delete(id as Digest);
      else this.images.set(now.id, readImage(now));
    });
    this.referenceRecords.onChange((name, now, before) => {
      if (before !== undefined) this.names.get(before.imageId)?.delete(name);
      if (now !== undefined) this.index(name, now.imageId);
    });
  }

  private index(name: string, imageId: Digest): void {
    const names = this.names.get(imageId) ?? new Map<string, Reference>();
    names.set(name, this.parse(name));
    this.names.set(imageId, names);
  }

  private parse(name: string): Reference {
    const known = this.parsed.get(name) ?? parseReference(name);
    this.parsed.set(name, known);
    return known;
  }

  // --- reading

  /** Before a read, when there are replicas. */
  fresh(): Promise<void> {
    return this.records.fresh();
  }

  /** What no record knows may be needed all the same. @see RecordStore.areLost */
  get recordsAreLost(): boolean {
    return this.records.areLost;
  }

  all(): Iterable<Image> {
    return this.images.values();
  }

  /** Those that the caller may see. */
  *visible(): Iterable<Image> {
    for (const image of this.images.values()) if (this.sees(image)) yield image;
  }

  private sees(image: Image): boolean {
    return this.rights.sees(image, () => this.references(image.id));
  }

  /** Beside what the caller sees: images without a name that builds make on their way, for whoever knows the whole id. The build cache is everybody's. */
  mayUse(image: Image): boolean {
    return this.sees(image) || (!this.names.get(image.id)?.size && this.isOfBuild(image));
  }

  private isOfBuild({ id, record }: Image): boolean {
    if (record.cacheOnly === true || this.holds.has(id)) return true;
    for (const step of this.buildSteps.values()) if (step.imageId === id) return true;
    return false;
  }

  /** Whether the caller may give an image this name, or take it away. @throws Forbidden */
  requireName(name: Reference, image?: Image): void {
    this.rights.requireName(name, image);
    const current = this.named(name);
    if (current !== undefined && current.id !== image?.id && !this.sees(current))
      throw new Forbidden(`access denied: the name ${familiarString(name)} is not yours`);
  }

  get(id: Digest): Image | undefined {
    return this.images.get(id);
  }

  /** Names of an image, tags and digests, in order. */
  references(id: Digest): Reference[] {
    return [...(this.names.get(id) ?? [])].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, reference]) => reference);
  }

  /** Those names of an image that the caller may know. */
  visibleReferences(id: Digest): Reference[] {
    const image = this.images.get(id);
    return image === undefined ? [] : this.references(id).filter((name) => this.rights.allows(name, image));
  }

  /** The image a name stands for, exactly, if the caller may see it. */
  resolve(reference: Reference): Image | undefined {
    const image = this.named(reference);
    return image === undefined || !this.sees(image) ? undefined : image;
  }

  private named(reference: Reference): Image | undefined {
    const record = this.referenceRecords.get(referenceString(exactReference(reference)));
    return record === undefined ? undefined : this.images.get(record.imageId);
  }

  /** Holds an image whole: its config, its layers, and the blobs that they came from. */
  hold(image: Image): () => Promise<void> {
    const layers = this.holdLayers(image.layers);
    const release = this.holds.hold([image.id]);
    return async () => {
      await layers.release();
      await release();
    };
  }

  /** Holds layers with the blobs they came from, and answers with what is known of them at this moment: their records go with the last image that has them. */
  holdLayers(diffIds: readonly Digest[]): { readonly known: ReadonlyMap<Digest, LayerRecord>; release(): Promise<void> } {
    const known = new Map(diffIds.flatMap((diffId) => this.layers.get(diffId) ?? []).map((layer) => [layer.diffId, layer]));
    const blobs = [...known.values()].flatMap((layer) => layer.blobs.map(({ digest }) => digest));
    return { known, release: this.holds.hold([...diffIds, ...blobs]) };
  }

  /** Whether an image was made from this one here. */
  hasChildren(id: Digest): boolean {
    for (const image of this.images.values()) if (image.record.parent === id) return true;
    return false;
  }

  /** The images that were made from this one here, and from those, in one look at all. */
  descendants(id: Digest): Digest[] {
    const children = Map.groupBy(this.images.values(), ({ record }) => record.parent);
    const found = [id];
    // What is found is looked at in its turn.
    for (const each of found) found.push(...(children.get(each) ?? []).map((child) => child.id));
    return found.slice(1);
  }

  /**
   * The image a client means by a name, an id or an unambiguous beginning of one.
   *
   * @throws NotFound `No such image: x:latest`; InvalidParameter for what is neither name nor id.
   */
  find(text: string): Image {
    const parsed = parseAnyReference(text);
    if ('id' in parsed) {
      const image = this.images.get(parsed.id);
      if (image === undefined || !this.mayUse(image)) throw new NotFound(`No such image: ${parsed.id}`);
      return image;
    }
    const image = this.resolve(parsed.reference) ?? this.findByPrefix(text);
    if (image === undefined) throw new NotFound(`No such image: ${familiarString(withDefaultTag(parsed.reference))}`);
    return image;
  }

  private findByPrefix(text: string): Image | undefined {
    const hex = text.startsWith('sha256:') ? text.slice('sha256:'.length) : text;
    if (!/^[a-f0-9]{1,64}$/.test(hex)) return undefined;
    let found: Image | undefined;
    for (const image of this.visible()) {
      if (!image.id.startsWith(`sha256:${hex}`)) continue;
      if (found !== undefined) return undefined;
      found = image;
    }
    return found;
  }

  /** Layers and blobs that something needs: images, snapshots, and `without` left out of account. */
  inUse(without?: Digest): { layers: Set<Digest>; blobs: Set<Digest> } {
    const layers = new Set<Digest>();
    const blobs = new Set<Digest>();
    for (const image of this.images.values()) {
      if (image.id === without) continue;
      blobs.add(image.id);
      for (const layer of image.layers) layers.add(layer);
    }
    for (const snapshot of this.snapshots.values()) for (const layer of snapshot.layers) layers.add(layer);
    for (const manifest of this.manifests.values()) {
      if (manifest.imageId === without) continue;
      blobs.add(manifest.digest);
      for (const blob of manifest.blobs) blobs.add(blob.digest);
    }
    for (const layer of layers) for (const blob of this.layers.get(layer)?.blobs ?? []) blobs.add(blob.digest);
    return { layers, blobs };
  }

  /** Bytes of all layers of images, each once. */
  layersSize(): number {
    let size = 0;
    for (const layer of this.layers.values()) size += layer.sizeBytes;
    return size;
  }

  // --- changing

  /** Runs a change of images alone. */
  change<T>(work: (lease: Lease) => Promise<T>): Promise<T> {
    return this.records.withLease('content', async (lease) => {
      await this.records.fresh();
      return work(lease);
    });
  }

  /** Adds an image, or names and manifests to it. @throws ContentVanished when a replica has removed a layer meanwhile: bring it again. */
  register(registration: Registration): Promise<Image> {
    return this.change(async (lease) => {
      for (const layer of registration.layers) {
        if (!this.content.hasLayer(layer.diffId)) throw new ContentVanished(`layer ${layer.diffId} was removed while it was needed`);
      }
      const image = readImage({ id: registration.id, config: registration.config, sizeBytes: 0 });
      for (const name of registration.references) this.requireName(name, image);
      const before = this.images.get(registration.id)?.record;
      const tagged = registration.references.some((reference) => reference.digest === undefined);
      const parent = registration.parent ?? before?.parent;
      const lastTagTime = tagged ? rfc3339Nano() : before?.lastTagTime;
      const cacheOnly = registration.cacheOnly === true && (before === undefined || before.cacheOnly === true);
      const record: ImageRecord = {
        id: registration.id,
        config: registration.config,
        sizeBytes: registration.layers.reduce((sum, layer) => sum + layer.sizeBytes, 0),
        ...(lastTagTime === undefined ? {} : { lastTagTime }),
        ...(parent === undefined ? {} : { parent }),
        ...(cacheOnly ? { cacheOnly } : {}),
      };
      await this.records.commit({
        puts: [
          this.imageRecords.put(record.id, record),
          ...registration.layers.map((layer) => this.layers.put(layer.diffId, this.merged(layer))),
          ...registration.manifests.map((manifest) => this.manifests.put(manifest.digest, manifest)),
          ...registration.references.map((reference) => this.referencePut(reference, record.id)),
        ],
        events: registration.events(readImage(record)),
        lease,
      });
      return this.images.get(record.id) ?? readImage(record);
    });
  }

  private merged(layer: LayerRecord): LayerRecord {
    const known = this.layers.get(layer.diffId);
    const blobs = new Map([...(known?.blobs ?? []), ...layer.blobs].map((blob) => [blob.digest, blob]));
    const sources = new Set([...(known?.sources ?? []), ...(layer.sources ?? [])]);
    return { ...layer, blobs: [...blobs.values()], ...(sources.size === 0 ? {} : { sources: [...sources].slice(-32) }) };
  }

  private referencePut(reference: Reference, imageId: Digest): ReturnType<Collection<ReferenceRecord>['put']> {
    const name = referenceString(reference);
    return this.referenceRecords.put(name, { name, imageId });
  }

  /** Puts a tag on an image; one that another image had moves. */
  tag(image: Image, reference: Reference): Promise<void> {
    return this.change(async (lease) => {
      const current = this.images.get(image.id);
      if (current === undefined) throw new NotFound(`No such image: ${image.id}`);
      this.requireName(reference, current);
      const { cacheOnly: _cacheOnly, ...record } = current.record;
      await this.records.commit({
        puts: [this.referencePut(reference, image.id), this.imageRecords.put(image.id, { ...record, lastTagTime: rfc3339Nano() })],
        events: [imageEvent('tag', image.id, familiarString(reference), image)],
        lease,
      });
    });
  }

  /** Shows an image that only the build cache knew. */
  show(image: Image): Promise<void> {
    return this.change(async (lease) => {
      const { cacheOnly, ...record } = this.images.get(image.id)?.record ?? image.record;
      if (cacheOnly === true) await this.records.commit({ puts: [this.imageRecords.put(image.id, record)], lease });
    });
  }

  /** Takes names off an image, inside `change`. */
  async untag(lease: Lease, references: readonly Reference[], events: readonly DomainEvent[]): Promise<void> {
    for (const name of references) this.requireName(name, this.named(name));
    await this.records.commit({
      deletes: references.map((reference) => this.referenceRecords.delete(referenceString(exactReference(reference)))),
      events,
      lease,
    });
  }

  /** Removes an image with the names it still has, and what only it needed, inside `change`. */
  async delete(lease: Lease, image: Image): Promise<Freed> {
    for (const name of this.references(image.id)) this.requireName(name, image);
    const manifests = [...this.manifests.values()].filter((manifest) => manifest.imageId === image.id);
    const kept = this.inUse(image.id);
    const layers = [...new Set(image.layers)].filter((layer) => !kept.layers.has(layer));
    const candidates = new Set<Digest>([image.id]);
    for (const manifest of manifests) {
      candidates.add(manifest.digest);
      for (const blob of manifest.blobs) candidates.add(blob.digest);
    }
    const known = layers.flatMap((layer) => this.layers.get(layer) ?? []);
    for (const layer of known) for (const blob of layer.blobs) candidates.add(blob.digest);
    const sizeBytes = known.reduce((sum, layer) => sum + layer.sizeBytes, 0);
    await this.records.commit({
      deletes: [
        this.imageRecords.delete(image.id),
        this.uses.delete(image.id),
        ...this.references(image.id).map((reference) => this.referenceRecords.delete(referenceString(reference))),
        ...manifests.map((manifest) => this.manifests.delete(manifest.digest)),
        ...layers.map((layer) => this.layers.delete(layer)),
      ],
      events: [imageEvent('delete', image.id, image.id, image)],
      lease,
    });
    // Snapshots come and go without the lease. Of two commits the later one sees the earlier: one made meanwhile is taken back by its maker or seen
    // here, one removed meanwhile leaves its layers to us or finds the image gone.
    await this.records.fresh();
    const still = this.inUse().layers;
    const back = known.filter((layer) => still.has(layer.diffId));
    if (back.length > 0) await this.records.commit({ puts: back.map((layer) => this.layers.put(layer.diffId, layer)), lease });
    this.discard(layers, [...candidates]);
    const late = await this.deleteUnusedLayers(lease, image.layers);
    return {
      layers: [...layers, ...late.map((layer) => layer.diffId)],
      sizeBytes: late.reduce((sum, layer) => sum + layer.sizeBytes, sizeBytes),
    };
  }

  /** Throws away content that a failed pull or load brought, but for what something needs or other work holds. */
  async discardUnused(layers: readonly Digest[], blobs: readonly Digest[]): Promise<void> {
    await this.change(async () => {
      this.discard(layers, blobs);
      for (const blob of blobs) if (!this.holds.has(blob)) this.content.discard(this.content.downloadPath(blob));
    });
    await this.content.emptyTrash();
  }

  /** Throws away what nothing needs, at this very moment; what work holds, later. While records are lost nobody can tell: then `reconcile` finds it later. */
  private discard(layers: readonly Digest[], blobs: readonly Digest[]): void {
    if (this.recordsAreLost) return;
    const kept = this.inUse();
    for (const layer of layers) {
      if (kept.layers.has(layer)) continue;
      if (this.holds.has(layer)) this.deferred.add(layer);
      else this.content.discardLayer(layer);
    }
    for (const blob of blobs) {
      if (kept.blobs.has(blob)) continue;
      if (this.holds.has(blob)) this.deferred.add(blob);
      else this.content.discardBlob(blob);
    }
  }

  private async discardDeferred(digests: readonly Digest[]): Promise<void> {
    const due = digests.filter((digest) => this.deferred.delete(digest));
    // Should it fail, for want of Redis, reconcile finds it later. A plain layer's blob has the same digest as the layer: both are meant.
    if (due.length > 0) await this.discardUnused(due, due).catch(() => undefined);
  }

  /** Publishes events that change no record. */
  async announce(events: readonly DomainEvent[]): Promise<void> {
    await this.records.commit({ events });
  }

  /** Records a snapshot. @throws NotFound when a replica has removed its image meanwhile: the snapshot is not there then. */
  async putSnapshot(record: SnapshotRecord): Promise<void> {
    await this.records.commit({ puts: [this.snapshots.put(record.key, record), ...this.uses.puts([record.imageId])] });
    await this.records.fresh();
    if (this.images.has(record.imageId)) return;
    // The removal may have seen the snapshot and left it its layers.
    await this.deleteSnapshots([record.key]);
    throw new NotFound(`No such image: ${record.imageId}`);
  }

  /** Forgets a snapshot; layers that only it held may go too. */
  async deleteSnapshots(keys: readonly string[]): Promise<void> {
    const records = keys.flatMap((key) => this.snapshots.get(key) ?? []);
    await this.records.commit({
      puts: this.uses.puts(records.map((record) => record.imageId).filter((id) => this.images.has(id))),
      deletes: keys.map((key) => this.snapshots.delete(key)),
    });
    await this.records.fresh();
    if (records.every((record) => this.images.has(record.imageId))) return;
    await this.change((lease) =>
      this.deleteUnusedLayers(
        lease,
        records.flatMap((record) => record.layers),
      ),
    );
  }

  /** Removes those of `layers` that have a record and that nothing needs any more, inside `change`. */
  private async deleteUnusedLayers(lease: Lease, layers: readonly Digest[]): Promise<LayerRecord[]> {
    const kept = this.inUse().layers;
    const unused = [...new Set(layers)].filter((layer) => !kept.has(layer)).flatMap((layer) => this.layers.get(layer) ?? []);
    if (unused.length === 0) return [];
    await this.records.commit({ deletes: unused.map((layer) => this.layers.delete(layer.diffId)), lease });
    await this.records.fresh();
    const diffIds = unused.map((layer) => layer.diffId);
    this.discard(
      diffIds,
      unused.flatMap((layer) => layer.blobs.map((blob) => blob.digest)),
    );
    return unused;
  }
}
