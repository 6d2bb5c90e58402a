/**
 * The build cache: which image a step gave on which image, by content; and the directories of `RUN --mount=type=cache`. Shared by all builds and kept
 * in Redis. What a step gave is an image like any other: an entry whose image has gone is no entry any more.
 */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import type { Digest } from '@flotilla/oci';
import type { Collection, RecordStore } from '@flotilla/records';
import { KeyedQueue } from '@flotilla/service-kit';
import { rfc3339Nano } from '../clock.ts';
import type { Image } from '../image.ts';
import type { ImageStore } from '../imageStore.ts';

export interface StepRecord {
  /** Digest of the parent, the instruction and its content: hex. */
  readonly key: string;
  readonly imageId: Digest;
  readonly parent?: Digest;
  /** The command as history shows it. */
  readonly description: string;
  readonly sizeBytes: number;
  readonly created: string;
  readonly lastUsed: string;
  readonly uses: number;
}

/** A directory that outlives the steps that mount it. */
export interface CacheDirectoryRecord {
  readonly id: string;
  /** What the Dockerfile calls it, with the owner and mode it was made with. */
  readonly name: string;
  readonly created: string;
  readonly lastUsed: string;
  readonly uses: number;
}

export interface CacheDirectory {
  readonly path: string;
  /** Made just now: its user fills it. */
  readonly isNew: boolean;
  release(): void;
}

export class BuildCache {
  readonly steps: Collection<StepRecord>;
  readonly directories: Collection<CacheDirectoryRecord>;
  /** Equal steps of builds side by side are done once. */
  readonly turns = new KeyedQueue();
  private readonly records: RecordStore;
  private readonly store: ImageStore;
  private readonly root: string;
  private readonly locks = new KeyedQueue();
  private readonly claims = new KeyedQueue();
  private readonly inUse = new Map<string, number>();

  constructor(options: { records: RecordStore; store: ImageStore; root: string }) {
    this.records = options.records;
    this.store = options.store;
    this.root = options.root;
    this.steps = options.records.collection('build-step');
    this.directories = options.records.collection('build-directory');
    mkdirSync(this.root, { recursive: true, mode: 0o711 });
  }

  static key(parts: unknown): string {
    return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
  }

  /** The image a step gave before, if it is still here. */
  find(key: string): Image | undefined {
    const record = this.steps.get(key);
    return record === undefined ? undefined : this.store.get(record.imageId);
  }

  async remember(key: string, image: Image, description: string, sizeBytes: number): Promise<void> {
    const now = rfc3339Nano();
    const { parent } = image.record;
    const record: StepRecord = {
      key,
      imageId: image.id,
      ...(parent === undefined ? {} : { parent }),
      description,
      sizeBytes,
      created: now,
      lastUsed: now,
      uses: 1,
    };
    await this.records.commit({ puts: [this.steps.put(key, record), ...this.replaced(key, image)] });
  }

  /** What a step gave before, where it was done again without the cache: nothing finds that any more, but a prune. */
  private replaced(key: string, image: Image): ReturnType<typeof this.steps.put>[] {
    const before = this.steps.get(key);
    if (before === undefined || before.imageId === image.id || this.store.get(before.imageId) === undefined) return [];
    const ownKey = BuildCache.key([key, before.imageId]);
    return [this.steps.put(ownKey, { ...before, key: ownKey })];
  }

  /** Notes that a build used entries. */
  async touch(keys: readonly string[]): Promise<void> {
    const lastUsed = rfc3339Nano();
    const known = [...new Set(keys)].flatMap((key) => this.steps.get(key) ?? []);
    if (known.length === 0) return;
    await this.records.commit({
      puts: known.map((record) => this.steps.put(record.key, { ...record, lastUsed, uses: record.uses + 1 })),
    });
  }

  /** A cache directory, made when there is none. `private` ones have one user at a time, who else comes gets another; `locked` ones wait. */
  async directory(name: string, sharing: 'shared' | 'private' | 'locked'): Promise<CacheDirectory> {
    if (sharing !== 'locked') return this.claim(name, sharing === 'private');
    const { promise: got, resolve: give } = Promise.withResolvers<CacheDirectory>();
    const turn = this.locks.run(name, async () => {
      const claimed = await this.claim(name, false);
      await new Promise<void>((resolve) => {
        give({
          ...claimed,
          release: () => {
            claimed.release();
            resolve();
          },
        });
      });
    });
    return Promise.race([got, turn.then(() => got)]);
  }

  private claim(name: string, alone: boolean): Promise<CacheDirectory> {
    return this.claims.run(name, () => this.take(name, alone));
  }

  private async take(name: string, alone: boolean): Promise<CacheDirectory> {
    const known = [...this.directories.values()].find((record) => record.name === name && (!alone || !this.inUse.has(record.id)));
    const now = rfc3339Nano();
    const record: CacheDirectoryRecord =
      known === undefined
        ? { id: randomBytes(16).toString('hex'), name, created: now, lastUsed: now, uses: 1 }
        : { ...known, lastUsed: now, uses: known.uses + 1 };
    this.inUse.set(record.id, (this.inUse.get(record.id) ?? 0) + 1);
    const release = (): void => {
      const left = (this.inUse.get(record.id) ?? 1) - 1;
      if (left > 0) this.inUse.set(record.id, left);
      else this.inUse.delete(record.id);
    };
    try {
      await this.records.commit({ puts: [this.directories.put(record.id, record)] });
      const path = this.directoryPath(record.id);
      const isNew = !existsSync(path);
      if (isNew) mkdirSync(path, { mode: 0o755 });
      return { path, isNew, release };
    } catch (error) {
      release();
      throw error;
    }
  }

  isInUse(id: string): boolean {
    return this.inUse.has(id);
  }

  directoryPath(id: string): string {
    return join(this.root, id);
  }

  /** Forgets entries; directories among them are moved to the trash. */
  async forget(steps: readonly string[], directories: readonly string[]): Promise<void> {
    await this.records.commit({
      deletes: [...steps.map((key) => this.steps.delete(key)), ...directories.map((id) => this.directories.delete(id))],
    });
    const { content } = this.store;
    for (const id of directories) {
      if (!existsSync(this.directoryPath(id))) continue;
      const path = content.newIngestPath('cache');
      renameSync(this.directoryPath(id), path);
      content.discard(path);
    }
    await content.emptyTrash();
  }
}
