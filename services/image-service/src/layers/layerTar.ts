/** Writing a layer: a directory tree in overlay's form (a writable layer) as a tar. */
import { createHash } from 'node:crypto';
import { closeSync, constants, lstatSync, openSync, readlinkSync, readSync, writeSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Digest } from '@flotilla/oci';
import { lgetxattr, splitDevice } from '@flotilla/syscalls';
import type { EntryType, TarEntry } from '../tar/header.ts';
import { encodeHeader, padding, plainEntry, trailer } from '../tar/writer.ts';
import { Turns } from '../turns.ts';
import { keptAttributes } from './keptAttributes.ts';

export interface LayerTar {
  /** Bytes of the tar. */
  readonly sizeBytes: number;
  /** Digest of the tar: the layer's diffID. */
  readonly digest: Digest;
  /** Bytes of its files, and of what symbolic links say. */
  readonly contentBytes: number;
  /** The layer changes nothing. */
  readonly isEmpty: boolean;
}

/**
 * Overlay's upper directory as a layer's tar: character devices 0/0 and opaque directories become whiteouts.
 *
 * @param skipped - paths that are left out.
 */
export async function writeLayerTar(
  upper: string,
  path: string,
  signal: AbortSignal,
  skipped: ReadonlySet<string> = new Set(),
): Promise<LayerTar> {
  const writer = new LayerTarWriter(upper, path, skipped, signal);
  try {
    await writer.directory('');
    return writer.finish();
  } finally {
    writer.close();
  }
}

const types: Readonly<Record<number, EntryType>> = {
  [constants.S_IFREG]: 'file',
  [constants.S_IFDIR]: 'directory',
  [constants.S_IFLNK]: 'symlink',
  [constants.S_IFCHR]: 'character',
  [constants.S_IFBLK]: 'block',
  [constants.S_IFIFO]: 'fifo',
};

class LayerTarWriter {
  private readonly root: string;
  private readonly fd: number;
  private readonly skipped: ReadonlySet<string>;
  private readonly inodes = new Map<bigint, string>();
  /** What is not in the file yet. */
  private readonly pending = Buffer.allocUnsafe(256 * 1024);
  private pendingBytes = 0;
  private readonly hash = createHash('sha256');
  private written = 0;
  private contentBytes = 0;
  private readonly turns: Turns;

  constructor(root: string, path: string, skipped: ReadonlySet<string>, signal: AbortSignal) {
    signal.throwIfAborted();
    this.root = root;
    this.turns = new Turns(signal);
    this.skipped = skipped;
    this.fd = openSync(path, 'wx', 0o600);
  }

  async directory(relative: string): Promise<void> {
    const names = (await readdir(join(this.root, relative))).sort();
    if (relative !== '' && isOpaque(join(this.root, relative)))
      this.write(encodeHeader(plainEntry({ name: `${relative}/.wh..wh..opq`, type: 'file' })));
    for (const name of names) {
      await this.turns.pass();
      const path = relative === '' ? name : `${relative}/${name}`;
      if (this.skipped.has(path)) continue;
      if (await this.entry(relative, name, path)) await this.directory(path);
    }
  }

  /** Writes one entry; answers whether it is a directory to descend into. */
  private async entry(parent: string, name: string, path: string): Promise<boolean> {
    const absolute = `${this.root}/${path}`;
    const stat = lstatSync(absolute, { bigint: true, throwIfNoEntry: false });
    const type = stat === undefined ? undefined : types[Number(stat.mode) & constants.S_IFMT];
    // Sockets have no place in a tar; what vanished meanwhile was deleted.
    if (stat === undefined || type === undefined) return false;
    if (type === 'character' && stat.rdev === 0n) {
      this.write(encodeHeader(plainEntry({ name: `${parent === '' ? '' : `${parent}/`}.wh.${name}`, type: 'file' })));
      return false;
    }
    const device = splitDevice(stat.rdev);
    const entry: TarEntry = {
      name: type === 'directory' ? `${path}/` : path,
      type,
      linkName: type === 'symlink' ? readlinkSync(absolute) : '',
      mode: Number(stat.mode) & 0o7777,
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      sizeBytes: type === 'file' ? Number(stat.size) : 0,
      mtimeNs: stat.mtimeNs,
      devMajor: type === 'character' || type === 'block' ? device.major : 0,
      devMinor: type === 'character' || type === 'block' ? device.minor : 0,
      xattrs: keptAttributes(absolute),
    };
    if (type === 'file' && stat.nlink > 1n) {
      const first = this.inodes.get(stat.ino);
      if (first !== undefined) {
        this.write(encodeHeader({ ...entry, type: 'link', linkName: first, sizeBytes: 0 }));
        return false;
      }
      this.inodes.set(stat.ino, path);
    }
    this.write(encodeHeader(entry, { exactTime: true }));
    if (type === 'symlink') this.contentBytes += Number(stat.size);
    if (type === 'file') await this.content(absolute, entry.sizeBytes);
    return type === 'directory';
  }

  private async content(path: string, size: number): Promise<void> {
    this.contentBytes += size;
    const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      for (let left = size; left > 0; ) {
        if (this.pendingBytes === this.pending.length) this.flush();
        const room = Math.min(left, this.pending.length - this.pendingBytes);
        const length = readSync(file, this.pending, this.pendingBytes, room, null);
        // A file that shrank under a running container: its header has been written, so zeros fill it up.
        if (length === 0) this.pending.fill(0, this.pendingBytes, this.pendingBytes + room);
        this.pendingBytes += length === 0 ? room : length;
        left -= length === 0 ? room : length;
        await this.turns.pass();
      }
      this.write(padding(size));
    } finally {
      closeSync(file);
    }
  }

  private write(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      if (this.pendingBytes === this.pending.length) this.flush();
      const length = bytes.copy(this.pending, this.pendingBytes, at);
      this.pendingBytes += length;
      at += length;
    }
  }

  private flush(): void {
    const bytes = this.pending.subarray(0, this.pendingBytes);
    for (let at = 0; at < bytes.length; ) at += writeSync(this.fd, bytes, at, bytes.length - at);
    this.hash.update(bytes);
    this.written += bytes.length;
    this.pendingBytes = 0;
  }

  finish(): LayerTar {
    const isEmpty = this.written + this.pendingBytes === 0;
    this.write(trailer);
    this.flush();
    return { sizeBytes: this.written, digest: `sha256:${this.hash.digest('hex')}`, contentBytes: this.contentBytes, isEmpty };
  }

  close(): void {
    closeSync(this.fd);
  }
}

function isOpaque(path: string): boolean {
  return lgetxattr(path, 'trusted.overlay.opaque')?.toString() === 'y';
}
