/** Copies files into a root file system: kinds, modes, times, hard links and the attributes that layers keep. */
import {
  type BigIntStats,
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  rmSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { InvalidParameter } from '@flotilla/errors';
import { lsetxattr, lutimesNs, mkfifo, mknod } from '@flotilla/syscalls';
import { keptAttributes } from '../../layers/keptAttributes.ts';
import { Turns } from '../../turns.ts';
import type { ModeChange, Owner } from './owner.ts';
import { statOf } from './paths.ts';

/** Whether a path below the source is left out. */
export type PathFilter = (path: string, isDirectory: boolean) => boolean;

export interface CopyOptions {
  /** Undefined: as in the source. */
  readonly owner: Owner | undefined;
  readonly mode?: ModeChange;
  readonly excluded?: PathFilter;
  /** When what is copied was changed last, nanoseconds. Undefined: as in the source. */
  readonly modifiedNs?: bigint;
}

const smallBytes = 1024 * 1024;
/** What all copy through, since nothing else runs meanwhile: made when it is first needed. */
let room: Buffer | undefined;
const roomBytes = 256 * 1024;

export class TreeCopier {
  private readonly options: CopyOptions;
  private readonly links = new Map<string, string>();
  private readonly turns: Turns;
  private count = 0;
  /** Where it copies to there is nothing but what it puts there. */
  private isAlone = false;

  constructor(options: CopyOptions, signal: AbortSignal) {
    signal.throwIfAborted();
    this.options = options;
    this.turns = new Turns(signal);
  }

  /** Copies what is in a directory into another, which is made when it is not there. */
  async contents(source: string, target: string): Promise<void> {
    this.destination(target);
    await this.children(source, target, '');
  }

  /** Makes the directory that contents are copied into, when it is not there. */
  destination(path: string): void {
    const isNew = this.makeDirectories(path);
    if (isNew && this.options.mode !== undefined) chmodSync(path, this.options.mode(0o755, true));
  }

  /** Copies what is in a directory into an empty one. */
  async fill(source: string, target: string): Promise<void> {
    this.isAlone = true;
    await this.children(source, target, '');
    this.isAlone = false;
  }

  /** Copies one file, link or special file to a path; what is there is replaced. */
  async file(source: string, target: string): Promise<void> {
    this.makeDirectories(dirname(target));
    await this.entry(source, target, lstatSync(source, { bigint: true }));
  }

  /** Copies a directory with its own mode and times, empty. */
  directory(source: string, target: string): void {
    if (statOf(target)?.isDirectory() === true) return;
    this.makeDirectories(dirname(target));
    mkdirSync(target);
    this.attributes(source, target, lstatSync(source, { bigint: true }));
  }

  /** Makes a directory and what is missing above it, owned by whom the copy is for. @returns whether it is new. */
  makeDirectories(path: string): boolean {
    const stat = statOf(path);
    if (stat?.isDirectory() === true) return false;
    if (stat !== undefined) throw new InvalidParameter(`cannot copy to non-directory: ${path}`);
    this.makeDirectories(dirname(path));
    mkdirSync(path, 0o755);
    chmodSync(path, 0o755);
    const { uid, gid } = this.options.owner ?? { uid: 0, gid: 0 };
    lchownSync(path, uid, gid);
    return true;
  }

  private async children(source: string, target: string, relative: string): Promise<void> {
    for (const name of readdirSync(source).sort()) {
      const from = `${source}/${name}`;
      const to = `${target}/${name}`;
      const path = relative === '' ? name : `${relative}/${name}`;
      await this.turns.pass();
      const stat = lstatSync(from, { bigint: true });
      const excluded = this.options.excluded?.(path, stat.isDirectory()) === true;
      if (!stat.isDirectory()) {
        if (!excluded) await this.entry(from, to, stat);
        continue;
      }
      // An exception (`!`) may bring back what lies below an excluded directory.
      if (excluded) {
        await this.childrenOfExcluded(from, to, path);
        continue;
      }
      this.prepareDirectory(to);
      await this.children(from, to, path);
      this.attributes(from, to, stat);
    }
  }

  private async childrenOfExcluded(source: string, target: string, relative: string): Promise<void> {
    const before = this.count;
    const isNew = this.isAlone || statOf(target) === undefined;
    if (isNew) mkdirSync(target, 0o755);
    await this.children(source, target, relative);
    if (this.count === before && isNew) rmSync(target, { recursive: true });
  }

  private prepareDirectory(path: string): void {
    const existing = this.isAlone ? undefined : statOf(path);
    if (existing?.isDirectory() === true) return;
    if (existing !== undefined) rmSync(path, { force: true });
    mkdirSync(path);
  }

  private async entry(source: string, target: string, stat: BigIntStats): Promise<void> {
    this.count++;
    if (!this.isAlone && statOf(target) !== undefined) rmSync(target, { recursive: true, force: true });
    if (stat.isSymbolicLink()) symlinkSync(readlinkSync(source), target);
    else if (stat.isFile()) {
      const key = `${stat.dev}:${stat.ino}`;
      const first = stat.nlink > 1n ? this.links.get(key) : undefined;
      if (first !== undefined) {
        linkSync(first, target);
        return;
      }
      if (stat.nlink > 1n) this.links.set(key, target);
      // Large ones in the thread pool, so that requests do not wait.
      if (stat.size > smallBytes) await copyFile(source, target, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL);
      else {
        this.smallFile(source, target, stat);
        return;
      }
    } else if (stat.isFIFO()) mkfifo(target);
    else if (stat.isCharacterDevice() || stat.isBlockDevice()) mknod(target, Number(stat.mode), stat.rdev);
    // Sockets have no place in an image.
    else return;
    this.attributes(source, target, stat);
  }

  /** With its attributes, in few system calls: most of what is copied are small files. */
  private smallFile(source: string, target: string, stat: BigIntStats): void {
    const from = openSync(source, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const to = openSync(target, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
      try {
        // Less than was asked for is the end: most files need one read.
        room ??= Buffer.allocUnsafe(roomBytes);
        for (let length = roomBytes; length === roomBytes; ) {
          length = readSync(from, room);
          for (let at = 0; at < length; ) at += writeSync(to, room, at, length - at);
        }
        const { uid, gid } = this.ownerOf(stat);
        fchownSync(to, uid, gid);
        fchmodSync(to, this.modeOf(stat));
      } finally {
        closeSync(to);
      }
    } finally {
      closeSync(from);
    }
    this.attributesAndTimes(source, target, stat);
  }

  private ownerOf(stat: BigIntStats): Owner {
    return this.options.owner ?? { uid: Number(stat.uid), gid: Number(stat.gid) };
  }

  private modeOf(stat: BigIntStats): number {
    const own = Number(stat.mode) & 0o7777;
    return this.options.mode?.(own, stat.isDirectory()) ?? own;
  }

  private attributes(source: string, target: string, stat: BigIntStats): void {
    const { uid, gid } = this.ownerOf(stat);
    lchownSync(target, uid, gid);
    if (!stat.isSymbolicLink()) chmodSync(target, this.modeOf(stat));
    this.attributesAndTimes(source, target, stat);
  }

  private attributesAndTimes(source: string, target: string, stat: BigIntStats): void {
    for (const [name, value] of keptAttributes(source)) lsetxattr(target, name, value);
    const modifiedNs = this.options.modifiedNs ?? stat.mtimeNs;
    lutimesNs(target, modifiedNs, modifiedNs);
  }
}
