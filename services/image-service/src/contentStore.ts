/**
 * Image content on disk, below `<data-root>/image-service`:
 *
 * ```
 * blobs/sha256/<hex>       manifests, indexes, configs and layers, as they came; complete and verified
 * ingest/sha256-<hex>      a blob being downloaded; kept a day, so that a pull that was cut off goes on where it stopped
 * ingest/<kind>-<random>   an archive being read, an upload being made; removed at start
 * layers/<hex>/diff        a layer, extracted, by its diffID: what a layer holds does not depend on the layers below it
 * layers/.new-<random>/    a layer being extracted; renamed in place when it is complete and verified
 * l/<26 characters>        links to layers/<hex>/diff, short enough for the options of an overlay of many layers
 * snapshots/<key>/{diff,work,merged}   a container's writable layer
 * trash/                   what is being deleted
 * unsynced/                notes of what the disk may not have yet (unsynced.ts)
 * ```
 *
 * Everything appears by rename, so that a name always stands for something whole.
 */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Digest, digestAlgorithm, digestHex, digestOf } from '@flotilla/oci';
import { hasCode, mountPointsBelow, spreadDirectories, umount, umountFlags } from '@flotilla/syscalls';
import { LayerContentError } from './contentError.ts';
import { makeInitLayer } from './layers/initLayer.ts';
import { Unsynced } from './unsynced.ts';

export interface SnapshotPaths {
  readonly root: string;
  readonly upperDir: string;
  readonly workDir: string;
  readonly mergedDir: string;
}

const folders = ['blobs/sha256', 'blobs/sha512', 'ingest', 'layers', 'l', 'snapshots', 'trash'];

export class ContentStore {
  readonly root: string;
  readonly unsynced: Unsynced;
  private readonly onError: (error: unknown) => void;
  private emptying: Promise<void> = Promise.resolve();

  /** @param onError - is told what could not be deleted, or written to the disk. */
  constructor(root: string, onError: (error: unknown) => void = () => undefined) {
    this.root = root;
    this.onError = onError;
    mkdirSync(root, { recursive: true, mode: 0o711 });
    // Overlay looks layers up as the container's user: the way to them may be passed, not listed.
    for (const folder of folders) mkdirSync(join(root, folder), { recursive: true, mode: 0o711 });
    // A layer that is built after others were pruned is not written where their inodes were.
    spreadDirectories(join(root, 'layers'));
    makeInitLayer(this.initLayer);
    this.unsynced = new Unsynced(root, onError);
  }

  // --- blobs

  blobPath(digest: Digest): string {
    return join(this.root, 'blobs', digestAlgorithm(digest), digestHex(digest));
  }

  /** Whether the blob is here whole; `sizeBytes`, when known, guards against files that a power cut has shortened. */
  hasBlob(digest: Digest, sizeBytes?: number): boolean {
    const found = statSync(this.blobPath(digest), { throwIfNoEntry: false });
    return found?.isFile() === true && (sizeBytes === undefined || found.size === sizeBytes);
  }

  blobSize(digest: Digest): number | undefined {
    return statSync(this.blobPath(digest), { throwIfNoEntry: false })?.size;
  }

  /** A small blob. @throws LayerContentError when it is not here. */
  async readBlob(digest: Digest): Promise<Buffer> {
    try {
      return await readFile(this.blobPath(digest));
    } catch (cause) {
      throw new LayerContentError(`content ${digest} is missing`, { cause });
    }
  }

  /** Stores a small blob. @throws LayerContentError when it is not what `digest` says. */
  async writeBlob(digest: Digest, bytes: Uint8Array): Promise<void> {
    if (digestAlgorithm(digest) === 'sha256' && digestOf(bytes) !== digest)
      throw new LayerContentError(`content does not match digest ${digest}`);
    if (this.hasBlob(digest, bytes.byteLength)) return;
    const path = this.newIngestPath('blob');
    await writeFile(path, bytes, { mode: 0o600 });
    this.adoptBlob(path, digest);
  }

  /** Moves a verified file in place. */
  adoptBlob(path: string, digest: Digest): void {
    this.unsynced.note('blob', digest);
    renameSync(path, this.blobPath(digest));
  }

  // --- work in progress

  /** Where a blob is downloaded to: always the same place, so that it can go on. */
  downloadPath(digest: Digest): string {
    return join(this.root, 'ingest', `${digestAlgorithm(digest)}-${digestHex(digest)}`);
  }

  newIngestPath(kind: string): string {
    return join(this.root, 'ingest', `${kind}-${randomBytes(9).toString('hex')}`);
  }

  newIngestDirectory(kind: string): string {
    const path = this.newIngestPath(kind);
    mkdirSync(path, { mode: 0o700 });
    return path;
  }

  // --- layers

  layerPath(diffId: Digest): string {
    return join(this.root, 'layers', layerName(diffId), 'diff');
  }

  /** Of a stack of layers given from the bottom: the directories, upper-most first. */
  lowerDirectories(layers: readonly Digest[]): string[] {
    return fromTheTop(layers).map((layer) => this.layerPath(layer));
  }

  /** The same by their short links; at least one. */
  lowerLinks(layers: readonly Digest[]): string[] {
    return layers.length === 0 ? [this.emptyLayer()] : fromTheTop(layers).map((layer) => this.layerLink(layer));
  }

  hasLayer(diffId: Digest): boolean {
    return existsSync(join(this.root, 'layers', layerName(diffId)));
  }

  /** The short link to a layer. */
  layerLink(diffId: Digest): string {
    return join(this.linksDirectory, linkName(diffId));
  }

  get linksDirectory(): string {
    return join(this.root, 'l');
  }

  /** What an image of no layers stands on. */
  emptyLayer(): string {
    const path = join(this.linksDirectory, 'empty');
    mkdirSync(path, { recursive: true, mode: 0o755 });
    return path;
  }

  /** What every container has below its image ({@link makeInitLayer}). It is part of no image and of no change. */
  get initLayer(): string {
    return join(this.linksDirectory, 'init');
  }

  /** An empty directory to extract into: its `diff` becomes the layer's. */
  newLayerDirectory(): { readonly path: string; readonly diff: string } {
    const path = join(this.root, 'layers', `.new-${randomBytes(9).toString('hex')}`);
    const diff = join(path, 'diff');
    mkdirSync(diff, { recursive: true, mode: 0o755 });
    return { path, diff };
  }

  /**
   * Puts an extracted and verified layer in place. Harmless when another has done so meanwhile.
   *
   * @param sizeBytes - of its files. It stays beside them, so that a layer whose record a crash has lost is still of use.
   */
  async commitLayer(path: string, diffId: Digest, sizeBytes: number): Promise<void> {
    writeFileSync(join(path, 'size'), `${sizeBytes}\n`);
    this.unsynced.note('layer', diffId);
    try {
      symlinkSync(join('..', 'layers', layerName(diffId), 'diff'), this.layerLink(diffId));
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error;
    }
    try {
      renameSync(path, join(this.root, 'layers', layerName(diffId)));
    } catch (error) {
      if (!hasCode(error, 'EEXIST', 'ENOTEMPTY')) throw error;
      await rm(path, { recursive: true, force: true });
    }
  }

  /** Bytes of the files of a layer; undefined when it is not here, or not whole. */
  async layerSize(diffId: Digest): Promise<number | undefined> {
    try {
      const size = await readFile(join(dirname(this.layerPath(diffId)), 'size'), 'utf8');
      return /^\d{1,15}\n$/.test(size) ? Number(size) : undefined;
    } catch {
      return undefined;
    }
  }

  // --- snapshots

  snapshotPaths(key: string): SnapshotPaths {
    const root = join(this.root, 'snapshots', key);
    return { root, upperDir: join(root, 'diff'), workDir: join(root, 'work'), mergedDir: join(root, 'merged') };
  }

  /** Makes a snapshot's directories; those there already stay. */
  makeSnapshot(key: string): SnapshotPaths {
    const paths = this.snapshotPaths(key);
    mkdirSync(paths.root, { recursive: true, mode: 0o711 });
    for (const path of [paths.upperDir, paths.workDir, paths.mergedDir]) {
      try {
        mkdirSync(path, { mode: path === paths.workDir ? 0o700 : 0o755 });
      } catch (error) {
        if (!hasCode(error, 'EEXIST')) throw error;
      }
    }
    return paths;
  }

  // --- removal: a rename at once, the files later

  /** Takes a layer out of sight; answers what `emptyTrash` then deletes. */
  discardLayer(diffId: Digest): void {
    this.discard(join(this.root, 'layers', layerName(diffId)));
    this.discard(this.layerLink(diffId));
  }

  discardBlob(digest: Digest): number {
    const size = this.blobSize(digest) ?? 0;
    this.discard(this.blobPath(digest));
    return size;
  }

  discardSnapshot(key: string): void {
    const { root, mergedDir } = this.snapshotPaths(key);
    // Another device on top: its owner has died before it could unmount. (The list of all mounts grows with the containers: two stats do not.)
    const own = statSync(root, { throwIfNoEntry: false });
    const merged = statSync(mergedDir, { throwIfNoEntry: false });
    if (merged !== undefined && merged.dev !== own?.dev) {
      for (const target of mountPointsBelow(root)) umount(target, umountFlags.detach | umountFlags.noFollow);
    }
    this.discard(root);
  }

  /** Renames into the trash; nothing there is no error. */
  discard(path: string): void {
    try {
      renameSync(path, join(this.root, 'trash', randomBytes(9).toString('hex')));
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
    }
  }

  /** Deletes what was discarded. */
  emptyTrash(): Promise<void> {
    this.emptying = this.emptying.then(() => this.deleteTrash()).catch(this.onError);
    return this.emptying;
  }

  /** One after the other: two that delete the same directory fail each other. What cannot be deleted stays, and is tried again with the next. */
  private async deleteTrash(): Promise<void> {
    for (const name of readdirSync(join(this.root, 'trash'))) {
      await rm(join(this.root, 'trash', name), { recursive: true, force: true, maxRetries: 2 }).catch(this.onError);
    }
  }

  /** Names below one of the folders. */
  list(folder: 'layers' | 'ingest' | 'snapshots' | 'l' | 'blobs/sha256' | 'blobs/sha512'): string[] {
    return readdirSync(join(this.root, folder));
  }
}

/** The diffID of a folder in `layers`. */
export function layerDigest(name: string): Digest {
  return name.startsWith('sha512-') ? `sha512:${name.slice('sha512-'.length)}` : `sha256:${name}`;
}

function layerName(diffId: Digest): string {
  return digestAlgorithm(diffId) === 'sha256' ? digestHex(diffId) : `sha512-${digestHex(diffId)}`;
}

/** 130 bits of the diffID's hash, in base 32: nobody can make two layers that share it. */
function linkName(diffId: Digest): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  const hash = createHash('sha256').update(diffId).digest();
  let name = '';
  let bits = 0;
  let value = 0;
  for (const byte of hash) {
    value = ((value << 8) | byte) & 0xffff;
    bits += 8;
    while (bits >= 5 && name.length < 26) {
      bits -= 5;
      name += alphabet[(value >> bits) & 31];
    }
  }
  return name;
}

/** A layer that comes twice is left out further down: what it says there it says again above, and overlay takes no directory twice. */
function fromTheTop(layers: readonly Digest[]): Digest[] {
  return [...new Set(layers.toReversed())];
}
