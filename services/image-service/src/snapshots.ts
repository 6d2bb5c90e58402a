/** Snapshots: the writable layers of containers, above the layers of an image. Mounting them is the caller's act. */
import { InvalidParameter, NotFound } from '@flotilla/errors';
import type { Digest } from '@flotilla/oci';
import { KeyedQueue } from '@flotilla/service-kit';
import { rfc3339Nano } from './clock.ts';
import type { SnapshotRecord } from './image.ts';
import type { ImageStore } from './imageStore.ts';
import { treeSize } from './treeSize.ts';

export interface Mounts {
  /** Upper-most first. */
  readonly lowerDirs: readonly string[];
  readonly upperDir: string;
  readonly workDir: string;
  readonly mergedDir: string;
  readonly baseDir: string;
}

const keyPattern = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;

export class Snapshots {
  private readonly store: ImageStore;
  /** A removal must not take the directories of a snapshot that is being made. */
  private readonly queue = new KeyedQueue();

  constructor(store: ImageStore) {
    this.store = store;
  }

  /**
   * Makes a writable layer above an image. The same key and image again: the same snapshot.
   *
   * @throws NotFound when the image is not here; InvalidParameter for a key that is no file name, or is another image's.
   */
  async prepare(key: string, imageId: string): Promise<Mounts> {
    checkKey(key);
    return this.queue.run(key, () => this.make(key, imageId));
  }

  private async make(key: string, imageId: string): Promise<Mounts> {
    const known = this.store.snapshots.get(key);
    if (known !== undefined) {
      if (known.imageId !== imageId) throw new InvalidParameter(`snapshot ${key} stands on another image`);
      this.store.content.makeSnapshot(key);
      return this.mountsOf(known);
    }
    const image = this.store.get(imageId as Digest);
    if (image === undefined) throw new NotFound(`No such image: ${imageId}`);
    // Held from before it is recorded: a removal at this very moment must not take the layers.
    const release = this.store.holds.hold(image.layers);
    try {
      const record: SnapshotRecord = { key, imageId: image.id, layers: image.layers, created: rfc3339Nano() };
      const recorded = this.store.putSnapshot(record);
      // Made while Redis writes. A crash in between leaves a record without directories, which `mounts` makes.
      const made = attempt(() => this.store.content.makeSnapshot(key));
      await recorded;
      if (made !== undefined) {
        await this.store.deleteSnapshots([key]);
        throw made;
      }
      return this.mountsOf(record);
    } catch (error) {
      if (this.store.snapshots.get(key) === undefined) this.store.content.discardSnapshot(key);
      throw error;
    } finally {
      await release();
    }
  }

  /** @throws NotFound */
  mounts(key: string): Mounts {
    const record = this.find(key);
    this.store.content.makeSnapshot(key);
    return this.mountsOf(record);
  }

  /** Deletes the writable layer; one that is gone already is no error. */
  async remove(key: string): Promise<void> {
    checkKey(key);
    await this.queue.run(key, async () => {
      if (this.store.snapshots.get(key) !== undefined) await this.store.deleteSnapshots([key]);
      this.store.content.discardSnapshot(key);
    });
    void this.store.content.emptyTrash();
  }

  /** Bytes of the writable layer, and of the layers below it. @throws NotFound */
  async usage(key: string): Promise<{ sizeRw: number; sizeRootFs: number }> {
    const record = this.find(key);
    const sizeRw = await treeSize(this.store.content.snapshotPaths(key).upperDir);
    const below = record.layers.reduce((sum, layer) => sum + (this.store.layers.get(layer)?.sizeBytes ?? 0), 0);
    return { sizeRw, sizeRootFs: below };
  }

  /** Removes the snapshots whose key is not in `keys` and that were there before the call. */
  async retain(keys: readonly string[]): Promise<string[]> {
    const kept = new Set(keys);
    const called = rfc3339Nano();
    const gone = [...this.store.snapshots.values()].filter(
      (record) => !kept.has(record.key) && Date.parse(record.created) < Date.parse(called),
    );
    const removed = gone.map((record) => record.key);
    if (removed.length === 0) return [];
    await this.store.deleteSnapshots(removed);
    for (const key of removed) this.store.content.discardSnapshot(key);
    void this.store.content.emptyTrash();
    return removed;
  }

  find(key: string): SnapshotRecord {
    checkKey(key);
    const record = this.store.snapshots.get(key);
    if (record === undefined) throw new NotFound(`No such snapshot: ${key}`);
    return record;
  }

  private mountsOf(record: SnapshotRecord): Mounts {
    const { content } = this.store;
    const { upperDir, workDir, mergedDir } = content.snapshotPaths(record.key);
    const lowerDirs = [...content.lowerLinks(record.layers), content.initLayer];
    return { lowerDirs, upperDir, workDir, mergedDir, baseDir: content.linksDirectory };
  }
}

/** What `work` throws, if anything. */
function attempt(work: () => void): Error | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

function checkKey(key: string): void {
  if (!keyPattern.test(key)) throw new InvalidParameter(`invalid snapshot key "${key}"`);
}
