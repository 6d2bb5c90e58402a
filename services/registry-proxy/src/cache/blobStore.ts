/**
 * Complete blobs on disk, by digest. A blob is here only after its digest was verified; it goes when the cache is full and it was used
 * longest ago, but never while somebody reads it.
 *
 *   blobs/sha256/ab/<hex>         the bytes; its time of modification is that of its last use
 *   blobs/sha256/ab/<hex>.json    {"sources": ["docker.io/library/busybox"]}: the repositories that are known to have it
 *   partial/sha256-<hex>          what has arrived of a blob that is being fetched (blobFill.ts)
 */
import { type FileHandle, mkdir, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Digest, digestAlgorithm, digestHex, isDigest } from '@flotilla/oci';
import type { Logger } from '@flotilla/service-kit';
import { readDocument, writeDurably } from './durableFile.ts';
import { PartialFile } from './partialFile.ts';

interface BlobEntry {
  readonly sizeBytes: number;
  /** Repositories that an upstream has confirmed to hold it: a digest alone is no right to the content. */
  readonly sources: Set<string>;
  /** milliseconds since the epoch. */
  lastUsedAt: number;
  readers: number;
}

export interface BlobStoreSettings {
  /** Bytes of complete blobs above which the least recently used go. */
  readonly maxBytes: number;
  /** Days after which an abandoned partial blob is removed at start. */
  readonly partialDays?: number;
  /** Blobs that stay whatever the bound says. */
  readonly isPinned?: (digest: Digest) => boolean;
}

/** Eviction goes on below the bound, so that it does not run for every blob. */
const lowWaterMark = 0.9;
/** How exactly the time of last use is kept on disk. */
const touchIntervalMs = 60_000;
const dayMs = 86_400_000;
/** After so long a temporary file is one that a crash left. */
const abandonedMs = 3_600_000;

export class BlobStore {
  readonly root: string;
  private readonly settings: BlobStoreSettings;
  private readonly logger: Logger;
  private readonly entries = new Map<Digest, BlobEntry>();
  private totalBytes = 0;
  private evictions = 0;

  private constructor(root: string, settings: BlobStoreSettings, logger: Logger) {
    this.root = root;
    this.settings = settings;
    this.logger = logger;
  }

  /** Opens the store in a folder and reads what is there. */
  static async open(root: string, settings: BlobStoreSettings, logger: Logger): Promise<BlobStore> {
    const store = new BlobStore(root, settings, logger);
    await mkdir(join(root, 'partial'), { recursive: true });
    for (const algorithm of ['sha256', 'sha512'] as const) await store.scan(algorithm);
    await store.removeOldPartials();
    await store.evict();
    return store;
  }

  private async scan(algorithm: 'sha256' | 'sha512'): Promise<void> {
    const folder = join(this.root, 'blobs', algorithm);
    await mkdir(folder, { recursive: true });
    for (const shard of await readdir(folder)) {
      // Side by side: nearly all of the time is waiting.
      const readOne = async (name: string): Promise<void> => {
        const path = join(folder, shard, name);
        const digest = `${algorithm}:${name}`;
        if (isDigest(digest) && !this.entries.has(digest)) await this.readEntry(digest, path);
        if (name.endsWith('.tmp')) await removeIfOlder(path, Date.now() - abandonedMs);
      };
      await Promise.all((await readdir(join(folder, shard))).map(readOne));
    }
  }

  private async readEntry(digest: Digest, path: string): Promise<void> {
    const about = await stat(path).catch(() => undefined);
    if (about === undefined) return;
    const { size, mtimeMs } = about;
    const sources = await readDocument(`${path}.json`, parseSources);
    if (this.entries.has(digest)) return;
    this.entries.set(digest, { sizeBytes: size, sources: new Set(sources), lastUsedAt: mtimeMs, readers: 0 });
    this.totalBytes += size;
  }

  /** Sees what replicas have brought and removed, and keeps the bound over all of it. */
  async refresh(): Promise<void> {
    for (const [digest, entry] of this.entries) {
      if ((await stat(this.path(digest)).catch(() => undefined)) === undefined) this.forget(digest, entry);
    }
    for (const algorithm of ['sha256', 'sha512'] as const) await this.scan(algorithm);
    await this.evict();
  }

  private async removeOldPartials(): Promise<void> {
    const oldest = Date.now() - (this.settings.partialDays ?? 7) * dayMs;
    for (const name of await readdir(join(this.root, 'partial'))) {
      await removeIfOlder(join(this.root, 'partial', name), oldest);
    }
  }

  private path(digest: Digest): string {
    const hex = digestHex(digest);
    return join(this.root, 'blobs', digestAlgorithm(digest), hex.slice(0, 2), hex);
  }

  partialPath(digest: Digest): string {
    return join(this.root, 'partial', `${digestAlgorithm(digest)}-${digestHex(digest)}`);
  }

  /** Bytes of a complete blob; undefined when it is not here. A replica may have brought it: the disk is asked too. */
  async find(digest: Digest): Promise<number | undefined> {
    if (!this.entries.has(digest)) await this.readEntry(digest, this.path(digest));
    return this.entries.get(digest)?.sizeBytes;
  }

  hasSource(digest: Digest, source: string): boolean {
    return this.entries.get(digest)?.sources.has(source) === true;
  }

  get usage(): { readonly bytes: number; readonly blobs: number; readonly evictions: number } {
    return { bytes: this.totalBytes, blobs: this.entries.size, evictions: this.evictions };
  }

  /** Notes that an upstream repository has this blob. */
  async addSource(digest: Digest, source: string): Promise<void> {
    const entry = this.entries.get(digest);
    if (entry === undefined || entry.sources.has(source)) return;
    entry.sources.add(source);
    await this.writeSources(digest, entry);
  }

  private async writeSources(digest: Digest, entry: BlobEntry): Promise<void> {
    await writeDurably(`${this.path(digest)}.json`, JSON.stringify({ sources: [...entry.sources] }));
  }

  /** Opens a complete blob for reading; it stays until it is closed. Undefined when it is not here. */
  async openBlob(digest: Digest): Promise<StoredBlob | undefined> {
    const entry = this.entries.get(digest);
    if (entry === undefined) return undefined;
    entry.readers++;
    try {
      const handle = await open(this.path(digest), 'r');
      void this.touch(digest, entry);
      return new StoredBlob(handle, entry.sizeBytes, () => entry.readers--);
    } catch (error) {
      entry.readers--;
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      // Somebody else removed the file: it is fetched again.
      this.forget(digest, entry);
      return undefined;
    }
  }

  /** A complete blob for those who follow its file. Undefined when it is not here. */
  openAsFile(digest: Digest): Promise<PartialFile | undefined> {
    return PartialFile.openWhole(this.path(digest));
  }

  private async touch(digest: Digest, entry: BlobEntry): Promise<void> {
    const now = Date.now();
    const due = now - entry.lastUsedAt > touchIntervalMs;
    entry.lastUsedAt = now;
    // A time that cannot be written costs only its rank in the next eviction after a restart.
    if (due) await utimes(this.path(digest), now / 1000, now / 1000).catch(() => undefined);
  }

  private forget(digest: Digest, entry: BlobEntry): void {
    if (this.entries.delete(digest)) this.totalBytes -= entry.sizeBytes;
  }

  /** Makes a verified file the blob: synced, renamed, and from then on served. */
  async commit(digest: Digest, file: PartialFile, sizeBytes: number, sources: readonly string[]): Promise<void> {
    await file.sync();
    const target = this.path(digest);
    await mkdir(dirname(target), { recursive: true });
    const entry: BlobEntry = { sizeBytes, sources: new Set(sources), lastUsedAt: Date.now(), readers: 0 };
    await this.writeSources(digest, entry);
    await rename(file.path, target);
    const before = this.entries.get(digest);
    if (before !== undefined) this.forget(digest, before);
    this.entries.set(digest, entry);
    this.totalBytes += sizeBytes;
    await this.evict();
  }

  async remove(digest: Digest): Promise<void> {
    const entry = this.entries.get(digest);
    if (entry === undefined) return;
    this.forget(digest, entry);
    await rm(this.path(digest), { force: true });
    await rm(`${this.path(digest)}.json`, { force: true });
  }

  private isPinned(digest: Digest): boolean {
    return this.settings.isPinned?.(digest) === true;
  }

  /** Removes the least recently used until the bound is kept. */
  async evict(): Promise<void> {
    if (this.totalBytes <= this.settings.maxBytes) return;
    const goal = this.settings.maxBytes * lowWaterMark;
    const candidates = [...this.entries]
      .filter(([digest, entry]) => entry.readers === 0 && !this.isPinned(digest))
      .sort(([, a], [, b]) => a.lastUsedAt - b.lastUsedAt);
    for (const [digest, entry] of candidates) {
      if (this.totalBytes <= goal) break;
      if (entry.readers > 0) continue;
      await this.remove(digest);
      this.evictions++;
      this.logger.debug({ digest, sizeBytes: entry.sizeBytes }, 'evicted');
    }
  }
}

async function removeIfOlder(path: string, timeMs: number): Promise<void> {
  const about = await stat(path).catch(() => undefined);
  if (about !== undefined && about.mtimeMs < timeMs) await rm(path, { force: true });
}

/** A complete blob, open. */
export class StoredBlob {
  readonly sizeBytes: number;
  private readonly handle: FileHandle;
  private readonly onClose: () => void;
  private closed = false;

  constructor(handle: FileHandle, sizeBytes: number, onClose: () => void) {
    this.handle = handle;
    this.sizeBytes = sizeBytes;
    this.onClose = onClose;
  }

  /** All of it is there. */
  available(): Promise<number> {
    return Promise.resolve(this.sizeBytes);
  }

  async read(buffer: Buffer, length: number, position: number): Promise<number> {
    return (await this.handle.read(buffer, 0, length, position)).bytesRead;
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.onClose();
    await this.handle.close();
  }
}

export function parseSources(document: unknown): string[] | undefined {
  const sources = typeof document === 'object' && document !== null ? (document as { sources?: unknown }).sources : undefined;
  return Array.isArray(sources) ? sources.filter((each) => typeof each === 'string') : undefined;
}
