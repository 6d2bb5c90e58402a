/**
 * Manifests on disk. By digest they are for ever; a tag is only what the upstream said last time.
 *
 *   manifests/sha256/ab/<hex>         the bytes
 *   manifests/sha256/ab/<hex>.json    {"mediaType", "sources": ["docker.io/library/busybox"]}
 *   tags/ab/<sha256 of repository:tag>.json   {"repository", "tag", "digest"}
 */
import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestAlgorithm, digestHex, isDigest } from '@flotilla/oci';
import { parseSources } from './blobStore.ts';
import { readDocument, readIfThere, writeDurably } from './durableFile.ts';

export interface StoredManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Buffer;
  /** Repositories that are known to hold it. */
  readonly sources: ReadonlySet<string>;
}

export interface TagRecord {
  readonly digest: Digest;
  /** When the upstream last said so; milliseconds since the epoch; 0 after a restart. */
  readonly checkedAt: number;
}

/** Manifests kept in memory too, since they are asked for often. Most are small, but each may have 4 MiB. */
const maxInMemory = 1000;
const maxBytesInMemory = 32 * 1024 * 1024;

export class ManifestStore {
  private readonly root: string;
  /** Least recently used first. */
  private readonly recent = new Map<Digest, StoredManifest>();
  private recentBytes = 0;
  private readonly tags = new Map<string, TagRecord>();

  constructor(root: string) {
    this.root = root;
  }

  private path(digest: Digest): string {
    const hex = digestHex(digest);
    return join(this.root, 'manifests', digestAlgorithm(digest), hex.slice(0, 2), hex);
  }

  async get(digest: Digest): Promise<StoredManifest | undefined> {
    const recent = this.recent.get(digest);
    if (recent !== undefined) {
      this.remember(recent);
      return recent;
    }
    const path = this.path(digest);
    const about = await readDocument(`${path}.json`, parseAbout);
    const bytes = about === undefined ? undefined : await readIfThere(path);
    if (about === undefined || bytes === undefined) return undefined;
    // A small file is checked each time it comes from disk: a damaged one is as good as none.
    if (createHash(digestAlgorithm(digest)).update(bytes).digest('hex') !== digestHex(digest)) return undefined;
    const manifest = { digest, bytes, ...about };
    this.remember(manifest);
    return manifest;
  }

  private remember(manifest: StoredManifest): void {
    this.dismiss(manifest.digest);
    this.recent.set(manifest.digest, manifest);
    this.recentBytes += manifest.bytes.length;
    for (const oldest of this.recent.keys()) {
      if (this.recent.size <= maxInMemory && this.recentBytes <= maxBytesInMemory) break;
      this.dismiss(oldest);
    }
  }

  private dismiss(digest: Digest): void {
    this.recentBytes -= this.recent.get(digest)?.bytes.length ?? 0;
    this.recent.delete(digest);
  }

  /** Keeps a verified manifest and notes that `source` has it. */
  async put(manifest: { digest: Digest; mediaType: string; bytes: Buffer }, source: string): Promise<StoredManifest> {
    const known = await this.get(manifest.digest);
    if (known?.sources.has(source)) return known;
    const sources = new Set([...(known?.sources ?? []), source]);
    const stored = { ...manifest, sources };
    const path = this.path(manifest.digest);
    if (known === undefined) await writeDurably(path, manifest.bytes);
    await writeDurably(`${path}.json`, JSON.stringify({ mediaType: manifest.mediaType, sources: [...sources] }));
    this.remember(stored);
    return stored;
  }

  /** Forgets that `source` has it; the bytes go with the last source. */
  async removeSource(digest: Digest, source: string): Promise<void> {
    const known = await this.get(digest);
    if (known === undefined || !known.sources.has(source)) return;
    this.dismiss(digest);
    const sources = [...known.sources].filter((each) => each !== source);
    const path = this.path(digest);
    if (sources.length > 0) return writeDurably(`${path}.json`, JSON.stringify({ mediaType: known.mediaType, sources }));
    await rm(`${path}.json`, { force: true });
    await rm(path, { force: true });
  }

  private tagPath(repository: string, tag: string): string {
    const name = createHash('sha256').update(`${repository}:${tag}`).digest('hex');
    return join(this.root, 'tags', name.slice(0, 2), `${name}.json`);
  }

  /** What a tag meant when the upstream was last asked. */
  async tag(repository: string, tag: string): Promise<TagRecord | undefined> {
    const key = `${repository}:${tag}`;
    const known = this.tags.get(key);
    if (known !== undefined) return known;
    const digest = await readDocument(this.tagPath(repository, tag), (document) => (document as { digest?: unknown }).digest);
    return typeof digest === 'string' && isDigest(digest) ? { digest, checkedAt: 0 } : undefined;
  }

  async setTag(repository: string, tag: string, digest: Digest): Promise<void> {
    const before = await this.tag(repository, tag);
    if (this.tags.size > 100_000) this.tags.clear();
    this.tags.set(`${repository}:${tag}`, { digest, checkedAt: Date.now() });
    if (before?.digest !== digest) await writeDurably(this.tagPath(repository, tag), JSON.stringify({ repository, tag, digest }));
  }

  async removeTag(repository: string, tag: string): Promise<void> {
    this.tags.delete(`${repository}:${tag}`);
    await rm(this.tagPath(repository, tag), { force: true });
  }
}

function parseAbout(document: unknown): { mediaType: string; sources: ReadonlySet<string> } | undefined {
  const mediaType = (document as { mediaType?: unknown }).mediaType;
  const sources = parseSources(document);
  return typeof mediaType === 'string' && sources !== undefined ? { mediaType, sources: new Set(sources) } : undefined;
}
