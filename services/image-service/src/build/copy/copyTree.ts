/** Copies files into a root file system: kinds, modes, times, hard links and the attributes that layers keep. */
import {
  type BigIntStats,
  chmodSync,
  constants,
  copyFileSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { InvalidParameter } from '@flotilla/errors';
import { lsetxattr, lutimesNs, mkfifo, mknod } from '@flotilla/syscalls';
import { keptAttributes } from '../../layers/keptAttributes.ts';
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
const entriesATurn = 100;

export class TreeCopier {
  private readonly options: CopyOptions;
  private readonly signal: AbortSignal;
  private readonly links = new Map<string, string>();
  private count = 0;

  constructor(options: CopyOptions, signal: AbortSignal) {
    this.options = options;
    this.signal = signal;
  }

  /** Copies what is in a directory into another, which is made when it is not there. */
  async contents(source: string, target: string): Promise<void> {
    const isNew = this.makeDirectories(target);
    if (isNew && this.options.mode !== undefined) chmodSync(target, this.options.mode(0o755, true));
    await this.children(source, target, '');
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
      const from = join(source, name);
      const to = join(target, name);
      const path = relative === '' ? name : `${relative}/${name}`;
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
    const isNew = statOf(target) === undefined;
    if (isNew) mkdirSync(target, 0o755);
    await this.children(source, target, relative);
    if (this.count === before && isNew) rmSync(target, { recursive: true });
  }

  private prepareDirectory(path: string): void {
    const existing = statOf(path);
    if (existing?.isDirectory() === true) return;
    if (existing !== undefined) rmSync(path, { force: true });
    mkdirSync(path);
  }

  private async entry(source: string, target: string, stat: BigIntStats): Promise<void> {
    this.count++;
    if (this.count % entriesATurn === 0) {
      await nextTurn();
      this.signal.throwIfAborted();
    }
    if (statOf(target) !== undefined) rmSync(target, { recursive: true, force: true });
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
      if (stat.size > smallBytes) await copyFile(source, target, constants.COPYFILE_FICLONE);
      else copyFileSync(source, target, constants.COPYFILE_FICLONE);
    } else if (stat.isFIFO()) mkfifo(target);
    else if (stat.isCharacterDevice() || stat.isBlockDevice()) mknod(target, Number(stat.mode), stat.rdev);
    // Sockets have no place in an image.
    else return;
    this.attributes(source, target, stat);
  }

  private attributes(source: string, target: string, stat: BigIntStats): void {
    const { owner, mode } = this.options;
    lchownSync(target, owner?.uid ?? Number(stat.uid), owner?.gid ?? Number(stat.gid));
    if (!stat.isSymbolicLink()) {
      const own = Number(stat.mode) & 0o7777;
      chmodSync(target, mode?.(own, stat.isDirectory()) ?? own);
    }
    for (const [name, value] of keptAttributes(source)) lsetxattr(target, name, value);
    const modifiedNs = this.options.modifiedNs ?? stat.mtimeNs;
    lutimesNs(target, modifiedNs, modifiedNs);
  }
}
