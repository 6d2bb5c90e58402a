/**
 * `PUT /containers/{id}/archive`: unpacks a stranger's tar into a stranger's directory.
 *
 * Every entry's directory is opened anew inside the container's root by the kernel's own rules (a link in it leads where it
 * would lead in the container), and the entry itself is made, owned and dated below that descriptor without following it.
 */
import { chmodSync, closeSync, constants, lstatSync, readdirSync, readlinkSync, type Stats } from 'node:fs';
import { posix } from 'node:path';
import { InvalidParameter } from '@flotilla/errors';
import {
  hasCode,
  lchownAt,
  linkAt,
  lsetxattr,
  lutimesNs,
  makeDevice,
  mkdirAt,
  mknodAt,
  openat2,
  openPath,
  resolveFlags,
  symlinkAt,
  unlinkAt,
} from '@flotilla/syscalls';
import { entryRefusal } from '@flotilla/tar';
import { openInRoot, withRoot } from '../spec/rootfs.ts';
import { decompressed } from './compression.ts';
import { writeFile } from './fileContent.ts';
import { type ArchiveRoot, isKernelFile, notFound, requestedPath, unreachable } from './root.ts';
import type { TarHeader } from './tarFormat.ts';
import { readTar, type TarEntry } from './tarReader.ts';

export interface CopyInOptions {
  /** a directory is not replaced by a file, nor a file by a directory */
  readonly noOverwriteDirNonDir: boolean;
  /** everything gets this owner, whatever the archive says */
  readonly owner?: { readonly uid: number; readonly gid: number };
}

const noFollow = constants.O_NOFOLLOW;

/**
 * Checks that an archive may be unpacked at a path, so that a refusal can still be a status.
 *
 * @throws NotFound, InvalidParameter in dockerd's words.
 */
export function checkDestination(root: ArchiveRoot, path: string): void {
  const wanted = requestedPath(path);
  withRoot(root.path, (rootFd) => {
    let fd: number;
    try {
      fd = openInRoot(rootFd, wanted, openPath);
    } catch (error) {
      throw unreachable(root, path, error);
    }
    try {
      if (isKernelFile(fd)) throw notFound(root, path);
      if (!lstatSync(`/proc/self/fd/${fd}/.`, { throwIfNoEntry: false })?.isDirectory()) {
        throw new InvalidParameter('extraction point is not a directory');
      }
      checkWritable(root, resolvedPath(rootFd, fd));
    } catch (error) {
      if (hasCode(error, 'ENOTDIR')) throw new InvalidParameter('extraction point is not a directory', { cause: error });
      throw error;
    } finally {
      closeSync(fd);
    }
  });
}

function checkWritable(root: ArchiveRoot, path: string): void {
  const mount = root.mounts
    .filter(({ destination }) => path === destination || path.startsWith(`${destination}/`))
    .sort((a, b) => b.destination.length - a.destination.length)[0];
  if (mount !== undefined && !mount.rw) throw new InvalidParameter('mounted volume is marked read-only');
  if (mount === undefined && root.readOnlyRootfs) throw new InvalidParameter('container rootfs is marked read-only');
}

/** The path inside the root of what is open. */
function resolvedPath(rootFd: number, fd: number): string {
  const base = readlinkSync(`/proc/self/fd/${rootFd}`);
  const resolved = readlinkSync(`/proc/self/fd/${fd}`);
  return base === '/' ? resolved : resolved.slice(base.length) || '/';
}

/**
 * Unpacks an archive at a path that {@link checkDestination} accepted.
 *
 * @param archive - tar, plain or compressed.
 * @throws InvalidParameter for a bad archive or an entry that cannot be; what was unpacked before it stays, as in dockerd.
 */
export async function copyIn(root: ArchiveRoot, path: string, archive: AsyncIterable<Buffer>, options: CopyInOptions): Promise<void> {
  const rootFd = withRoot(root.path, (fd) => openInRoot(fd, '/', constants.O_RDONLY | constants.O_DIRECTORY));
  const unpacking = new Unpacking(rootFd, requestedPath(path), options);
  try {
    for await (const entry of readTar(decompressed(archive))) await unpacking.add(entry);
    unpacking.finish();
  } finally {
    unpacking.close();
    closeSync(rootFd);
  }
}

class Unpacking {
  readonly #root: number;
  readonly #destination: string;
  readonly #options: CopyInOptions;
  /** times of directories: set last, since unpacking into them changes them */
  readonly #directories: { name: string; header: TarHeader }[] = [];
  #parent: { path: string; fd: number } | undefined;

  constructor(root: number, destination: string, options: CopyInOptions) {
    this.#root = root;
    this.#destination = destination;
    this.#options = options;
  }

  async add(entry: TarEntry): Promise<void> {
    const { header } = entry;
    const name = insideName(header.name);
    if (name === '') {
      // The directory unpacked into: only what it holds matters.
      return;
    }
    try {
      const parent = this.#openParent(posix.dirname(name));
      const base = posix.basename(name);
      this.#makeRoom(parent, base, header);
      await this.#make(parent, base, entry);
      if (header.type !== 'hardlink') this.#setAttributes(parent, base, header);
    } catch (error) {
      throw refused(header.name, error);
    }
    if (header.type === 'directory') this.#directories.push({ name, header });
  }

  /** What can only be done once everything is there. */
  finish(): void {
    for (const { name, header } of this.#directories.reverse()) {
      try {
        setTimes(this.#openParent(posix.dirname(name)), posix.basename(name), header);
      } catch (error) {
        if (!hasCode(error, 'ENOENT', 'ENOTDIR')) throw error;
      }
    }
  }

  close(): void {
    if (this.#parent !== undefined) closeSync(this.#parent.fd);
    this.#parent = undefined;
  }

  /** Opens the directory an entry belongs in, made where absent. */
  #openParent(directory: string): number {
    const path = posix.join(this.#destination, directory);
    if (this.#parent?.path === path) return this.#parent.fd;
    this.close();
    let fd: number;
    try {
      fd = openInRoot(this.#root, path, constants.O_RDONLY | constants.O_DIRECTORY);
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
      fd = this.#makeParents(directory);
    }
    this.#parent = { path, fd };
    return fd;
  }

  #makeParents(directory: string): number {
    let reached = this.#destination;
    let fd = openInRoot(this.#root, reached, constants.O_RDONLY | constants.O_DIRECTORY);
    for (const part of directory.split('/')) {
      reached = posix.join(reached, part);
      try {
        let next: number;
        try {
          next = openInRoot(this.#root, reached, constants.O_RDONLY | constants.O_DIRECTORY);
        } catch (error) {
          if (!hasCode(error, 'ENOENT')) throw error;
          mkdirAt(fd, part, 0o755);
          next = openInRoot(this.#root, reached, constants.O_RDONLY | constants.O_DIRECTORY);
        }
        closeSync(fd);
        fd = next;
      } catch (error) {
        closeSync(fd);
        throw error;
      }
    }
    return fd;
  }

  /** Removes what is in an entry's place, unless both are directories. */
  #makeRoom(parent: number, base: string, header: TarHeader): void {
    const existing = statAt(parent, base);
    if (existing === undefined) return;
    const isDirectory = header.type === 'directory';
    if (this.#options.noOverwriteDirNonDir) {
      if (existing.isDirectory() && !isDirectory) {
        throw new InvalidParameter(
          `cannot overwrite directory ${JSON.stringify(header.name)} with non-directory ${JSON.stringify(this.#destination)}`,
        );
      }
      if (!existing.isDirectory() && isDirectory) {
        throw new InvalidParameter(
          `cannot overwrite non-directory ${JSON.stringify(header.name)} with directory ${JSON.stringify(this.#destination)}`,
        );
      }
    }
    if (existing.isDirectory() && isDirectory) return;
    removeTree(parent, base, existing.isDirectory());
  }

  async #make(parent: number, base: string, entry: TarEntry): Promise<void> {
    const { header } = entry;
    const permissions = header.mode & 0o777;
    switch (header.type) {
      case 'directory':
        if (statAt(parent, base) === undefined) mkdirAt(parent, base, permissions | 0o700);
        return;
      case 'file':
        return writeFile(parent, base, entry);
      case 'symlink':
        symlinkAt(header.linkName ?? '', parent, base);
        return;
      case 'hardlink':
        this.#link(parent, base, header.linkName ?? '');
        return;
      case 'fifo':
        mknodAt(parent, base, constants.S_IFIFO | permissions);
        return;
      case 'character':
      case 'block':
        mknodAt(
          parent,
          base,
          (header.type === 'block' ? constants.S_IFBLK : constants.S_IFCHR) | permissions,
          makeDevice(header.major ?? 0, header.minor ?? 0),
        );
    }
  }

  /** A hard link names another entry of the archive, so its target is inside the destination. */
  #link(parent: number, base: string, linkName: string): void {
    const target = insideName(linkName);
    const directory = openInRoot(
      this.#root,
      posix.join(this.#destination, posix.dirname(target)),
      constants.O_RDONLY | constants.O_DIRECTORY,
    );
    try {
      linkAt(directory, posix.basename(target), parent, base);
    } finally {
      closeSync(directory);
    }
  }

  /** In this order: changing the owner clears capabilities and setuid bits. */
  #setAttributes(parent: number, base: string, header: TarHeader): void {
    const { uid, gid } = this.#options.owner ?? header;
    lchownAt(parent, base, uid, gid);
    for (const [name, value] of header.xattrs ?? []) {
      try {
        lsetxattr(`/proc/self/fd/${parent}/${base}`, name, value);
      } catch (error) {
        // What the destination's file system or kernel does not know is left out, as tar does.
        if (!hasCode(error, 'EOPNOTSUPP', 'EPERM', 'EINVAL', 'ENOSPC', 'E2BIG', 'ERANGE')) throw error;
      }
    }
    if (header.type !== 'symlink') changeMode(parent, base, header.mode);
    if (header.type !== 'directory') setTimes(parent, base, header);
  }
}

/** A name in an archive as a relative path without `.`; empty for the destination itself. @throws InvalidParameter when it leads out. */
function insideName(name: string): string {
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) {
    const clean = posix.normalize(name).replace(/^\/+/, '');
    if (clean === '..' || clean.startsWith('../')) throw new InvalidParameter(`${JSON.stringify(name)} is outside of the destination`);
    return insideName(clean);
  }
  return parts.join('/');
}

function refused(name: string, error: unknown): unknown {
  const refusal = entryRefusal(error);
  return refusal === undefined ? error : new InvalidParameter(`cannot unpack ${JSON.stringify(name)}: ${refusal}`, { cause: error });
}

function statAt(parent: number, base: string): Stats | undefined {
  return lstatSync(`/proc/self/fd/${parent}/${base}`, { throwIfNoEntry: false });
}

/** By a descriptor of the file itself: a path could be a link by now, and chmod follows links. */
function changeMode(parent: number, base: string, mode: number): void {
  const fd = openat2(parent, base, { flags: openPath | noFollow, resolve: resolveFlags.beneath | resolveFlags.noSymlinks });
  try {
    chmodSync(`/proc/self/fd/${fd}`, mode);
  } finally {
    closeSync(fd);
  }
}

function setTimes(parent: number, base: string, header: TarHeader): void {
  const nanoseconds = BigInt(Math.floor(header.mtime)) * 1_000_000_000n + BigInt(Math.round((header.mtime % 1) * 1e9));
  lutimesNs(base, nanoseconds, nanoseconds, parent);
}

/** Removes a file, or a directory with all below it, without following anything. */
function removeTree(parent: number, base: string, isDirectory: boolean): void {
  if (!isDirectory) {
    unlinkAt(parent, base);
    return;
  }
  const fd = openat2(parent, base, {
    flags: constants.O_RDONLY | constants.O_DIRECTORY | noFollow,
    resolve: resolveFlags.beneath | resolveFlags.noSymlinks | resolveFlags.noCrossDevice,
  });
  try {
    for (const entry of readdirSync(`/proc/self/fd/${fd}`, { withFileTypes: true })) removeTree(fd, entry.name, entry.isDirectory());
  } finally {
    closeSync(fd);
  }
  unlinkAt(parent, base, true);
}
