/**
 * Repositories of the proxy's own, on disk. Every change is one file written or removed, so a crash leaves the state before or after it; what
 * belongs to a repository is a file in its folder, what the content is lies beside all repositories, once.
 *
 *   own/blobs/sha256/ab/<hex>                          bytes of blobs and manifests, verified
 *   own/repositories/<name>/_blobs/<algorithm>-<hex>   the repository has this blob
 *   own/repositories/<name>/_manifests/<algorithm>-<hex>   {"mediaType"}: … and this manifest
 *   own/repositories/<name>/_tags/<tag>                the digest it stands for
 *
 * A component of a repository's name begins with a letter or digit, so no name leads into a folder that begins with `_`.
 */
import { mkdir, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Digest, digestAlgorithm, digestHex, isDigest } from '@flotilla/oci';
import { StoredBlob } from '../cache/blobStore.ts';
import { readDocument, readIfThere, writeDurably } from '../cache/durableFile.ts';
import type { PartialFile } from '../cache/partialFile.ts';

export class OwnStore {
  private readonly root: string;

  constructor(root: string) {
    this.root = join(root, 'own');
  }

  get uploadsFolder(): string {
    return join(this.root, 'uploads');
  }

  private contentPath(digest: Digest): string {
    const hex = digestHex(digest);
    return join(this.root, 'blobs', digestAlgorithm(digest), hex.slice(0, 2), hex);
  }

  private folder(name: string, kind: '_blobs' | '_manifests' | '_tags'): string {
    return join(this.root, 'repositories', name, kind);
  }

  private link(name: string, kind: '_blobs' | '_manifests', digest: Digest): string {
    return join(this.folder(name, kind), digest.replace(':', '-'));
  }

  /** Bytes of a blob of this repository; undefined when it has none such. */
  async blobSize(name: string, digest: Digest): Promise<number | undefined> {
    if ((await sizeOf(this.link(name, '_blobs', digest))) === undefined) return undefined;
    return sizeOf(this.contentPath(digest));
  }

  /** As {@link blobSize}; the blob counts as given just now, so that a collection leaves it to whoever asks. */
  async renewBlob(name: string, digest: Digest): Promise<number | undefined> {
    const size = await this.blobSize(name, digest);
    if (size === undefined) return undefined;
    const now = new Date();
    for (const path of [this.link(name, '_blobs', digest), this.contentPath(digest)]) await utimes(path, now, now).catch(() => undefined);
    return this.blobSize(name, digest);
  }

  async openBlob(name: string, digest: Digest): Promise<StoredBlob | undefined> {
    const sizeBytes = await this.blobSize(name, digest);
    if (sizeBytes === undefined) return undefined;
    const handle = await open(this.contentPath(digest), 'r').catch(() => undefined);
    return handle === undefined ? undefined : new StoredBlob(handle, sizeBytes, () => undefined);
  }

  /** Makes a verified file the content of a digest, and a blob of this repository. */
  async putBlob(name: string, digest: Digest, file: PartialFile): Promise<void> {
    await file.sync();
    const target = this.contentPath(digest);
    await mkdir(dirname(target), { recursive: true });
    await rename(file.path, target);
    await this.linkBlob(name, digest);
  }

  /** The repository has this blob too. */
  async linkBlob(name: string, digest: Digest): Promise<void> {
    // Content that is used again counts as new, so that a collection under way leaves it.
    await utimes(this.contentPath(digest), new Date(), new Date());
    await writeDurably(this.link(name, '_blobs', digest), '');
  }

  async blobs(name: string): Promise<Digest[]> {
    return (await entries(this.folder(name, '_blobs'))).map((each) => each.replace('-', ':')).filter(isDigest);
  }

  /** Takes the blob from the repository if that was given it before a time. @returns whether it is gone. */
  async unlinkOldBlob(name: string, digest: Digest, beforeMs: number): Promise<boolean> {
    const path = this.link(name, '_blobs', digest);
    const about = await stat(path).catch(() => undefined);
    if (about !== undefined && about.mtimeMs >= beforeMs) return false;
    await rm(path, { force: true });
    return true;
  }

  /** Every digest whose bytes are here. */
  async contents(): Promise<Digest[]> {
    const found: Digest[] = [];
    for (const algorithm of await entries(join(this.root, 'blobs'))) {
      for (const shard of await entries(join(this.root, 'blobs', algorithm))) {
        for (const hex of await entries(join(this.root, 'blobs', algorithm, shard))) found.push(`${algorithm}:${hex}` as Digest);
      }
    }
    return found.filter(isDigest);
  }

  /** Removes bytes that came before a time. @returns how many; 0 when they stay. */
  async removeOldContent(digest: Digest, beforeMs: number): Promise<number> {
    const path = this.contentPath(digest);
    const about = await stat(path).catch(() => undefined);
    if (about === undefined || about.mtimeMs >= beforeMs) return 0;
    await rm(path, { force: true });
    return Math.max(1, about.size);
  }

  /** @returns false when the repository has none such. */
  unlinkBlob(name: string, digest: Digest): Promise<boolean> {
    return removed(this.link(name, '_blobs', digest));
  }

  async manifest(name: string, digest: Digest): Promise<{ bytes: Buffer; mediaType: string } | undefined> {
    const mediaType = await readDocument(this.link(name, '_manifests', digest), mediaTypeOf);
    const bytes = mediaType === undefined ? undefined : await readIfThere(this.contentPath(digest));
    return mediaType === undefined || bytes === undefined ? undefined : { bytes, mediaType };
  }

  async putManifest(name: string, digest: Digest, mediaType: string, bytes: Buffer): Promise<void> {
    await writeDurably(this.contentPath(digest), bytes);
    await writeDurably(this.link(name, '_manifests', digest), JSON.stringify({ mediaType }));
  }

  async removeManifest(name: string, digest: Digest): Promise<boolean> {
    for (const tag of await this.tags(name)) if ((await this.tag(name, tag)) === digest) await this.removeTag(name, tag);
    return removed(this.link(name, '_manifests', digest));
  }

  async manifests(name: string): Promise<Digest[]> {
    return (await entries(this.folder(name, '_manifests'))).map((each) => each.replace('-', ':')).filter(isDigest);
  }

  async tag(name: string, tag: string): Promise<Digest | undefined> {
    const text = (await readIfThere(join(this.folder(name, '_tags'), tag)))?.toString('utf8') ?? '';
    return isDigest(text) ? text : undefined;
  }

  async setTag(name: string, tag: string, digest: Digest): Promise<void> {
    await writeDurably(join(this.folder(name, '_tags'), tag), digest);
  }

  removeTag(name: string, tag: string): Promise<boolean> {
    return removed(join(this.folder(name, '_tags'), tag));
  }

  /** In lexical order. */
  async tags(name: string): Promise<string[]> {
    return (await entries(this.folder(name, '_tags'))).sort();
  }

  async hasRepository(name: string): Promise<boolean> {
    return (await entries(join(this.root, 'repositories', name))).some((each) => each.startsWith('_'));
  }

  /** Every repository, also one that holds blobs only. */
  async allRepositories(below = ''): Promise<string[]> {
    const names = await entries(join(this.root, 'repositories', below));
    const own = below !== '' && names.some((each) => each.startsWith('_')) ? [below] : [];
    const nested = names.filter((each) => !each.startsWith('_'));
    const found = await Promise.all(nested.map((each) => this.allRepositories(below === '' ? each : `${below}/${each}`)));
    return [...own, ...found.flat()];
  }

  /** Every repository that holds a manifest, in lexical order. */
  async repositories(below = ''): Promise<string[]> {
    const found: string[] = [];
    for (const each of await entries(join(this.root, 'repositories', below))) {
      const name = below === '' ? each : `${below}/${each}`;
      if (each === '_manifests' && (await this.manifests(below)).length > 0) found.push(below);
      else if (!each.startsWith('_')) found.push(...(await this.repositories(name)));
    }
    return found.sort();
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  return (await stat(path).catch(() => undefined))?.size;
}

/** A folder's entries, but for what a write in progress has beside them. */
async function entries(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  return names.filter((name) => !/\.[0-9a-f]{12}\.tmp$/.test(name));
}

async function removed(path: string): Promise<boolean> {
  if ((await sizeOf(path)) === undefined) return false;
  await rm(path, { force: true });
  return true;
}

function mediaTypeOf(document: unknown): string | undefined {
  const { mediaType } = document as { mediaType?: unknown };
  return typeof mediaType === 'string' ? mediaType : undefined;
}
