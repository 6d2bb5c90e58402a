/** Files: special nodes, opening beneath a root that links cannot leave, times to the nanosecond, advisory locks. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { constants as osConstants } from 'node:os';
import { checked, cPath, libc, rawSyscall, requireKnownMachine, SyscallError } from './libc.ts';

const mknodCall = libc.func('int mknod(const char *path, unsigned int mode, uint64_t device)');
const mknodatCall = libc.func('int mknodat(int dirfd, const char *path, unsigned int mode, uint64_t device)');
const mkfifoCall = libc.func('int mkfifo(const char *path, unsigned int mode)');
const mkdiratCall = libc.func('int mkdirat(int dirfd, const char *path, unsigned int mode)');
const unlinkatCall = libc.func('int unlinkat(int dirfd, const char *path, int flags)');
const utimensatCall = libc.func('int utimensat(int dirfd, const char *path, const void *times, int flags)');
const flockCall = libc.func('int flock(int fd, int operation)');
const syncfsCall = libc.func('int syncfs(int fd)');
const umaskCall = libc.func('unsigned int umask(unsigned int mask)');
const fchownatCall = libc.func('int fchownat(int dirfd, const char *path, unsigned int uid, unsigned int gid, int flags)');
const symlinkatCall = libc.func('int symlinkat(const char *target, int dirfd, const char *path)');
const linkatCall = libc.func('int linkat(int fromfd, const char *from, int tofd, const char *to, int flags)');
const renameat2Call = libc.func('int renameat2(int fromfd, const char *from, int tofd, const char *to, unsigned int flags)');

/** "Relative to the working directory", for every `…At` function. */
export const atWorkingDirectory = -100;
const atSymlinkNoFollow = 0x100;
const atRemoveDirectory = 0x200;
const renameExchange = 2;
const openat2Number = 437;

/** RESOLVE_* of openat2(2). */
export const resolveFlags = { noCrossDevice: 0x1, noMagicLinks: 0x2, noSymlinks: 0x4, beneath: 0x8, inRoot: 0x10 } as const;

/** O_PATH: a descriptor that names a place and cannot be read. Node has no constant for it. */
export const openPath = 0x200000;
/** O_CLOEXEC: without it every child inherits the descriptor. */
export const openCloseOnExec = 0x80000;

/** Lets two names change places, in one step that nobody sees half done. */
export function exchange(one: string, other: string): void {
  const result = renameat2Call(atWorkingDirectory, cPath(one, 'renameat2'), atWorkingDirectory, cPath(other, 'renameat2'), renameExchange);
  checked(result, 'renameat2', one);
}

/** Device numbers as the kernel packs them (glibc's makedev). */
export function makeDevice(major: number, minor: number): bigint {
  const [high, low] = [BigInt(major), BigInt(minor)];
  return ((high & 0xfffff000n) << 32n) | ((high & 0xfffn) << 8n) | ((low & 0xffffff00n) << 12n) | (low & 0xffn);
}

/** The two halves of `stat.rdev`. */
export function splitDevice(device: bigint): { major: number; minor: number } {
  return {
    major: Number(((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n)),
    minor: Number((device & 0xffn) | ((device >> 12n) & 0xffffff00n)),
  };
}

/**
 * Makes a special file.
 *
 * @param mode - the kind (`fs.constants.S_IFCHR` …) and the permissions; the process' umask applies.
 */
export function mknod(path: string, mode: number, device = 0n): void {
  checked(mknodCall(cPath(path, 'mknod'), mode, device), 'mknod', path);
}

/** `mknod` below an open directory. */
export function mknodAt(directory: number, name: string, mode: number, device = 0n): void {
  checked(mknodatCall(directory, cPath(name, 'mknodat'), mode, device), 'mknodat', name);
}

export function mkfifo(path: string, mode = 0o600): void {
  checked(mkfifoCall(cPath(path, 'mkfifo'), mode), 'mkfifo', path);
}

export function mkdirAt(directory: number, name: string, mode = 0o755): void {
  checked(mkdiratCall(directory, cPath(name, 'mkdirat'), mode), 'mkdirat', name);
}

export function symlinkAt(target: string, directory: number, name: string): void {
  checked(symlinkatCall(cPath(target, 'symlinkat'), directory, cPath(name, 'symlinkat')), 'symlinkat', name);
}

/** Never follows a link that `from` may be. */
export function linkAt(fromDirectory: number, from: string, toDirectory: number, to: string): void {
  checked(linkatCall(fromDirectory, cPath(from, 'linkat'), toDirectory, cPath(to, 'linkat'), 0), 'linkat', to);
}

/** Removes one entry; with `directory` an empty directory. */
export function unlinkAt(parent: number, name: string, directory = false): void {
  checked(unlinkatCall(parent, cPath(name, 'unlinkat'), directory ? atRemoveDirectory : 0), 'unlinkat', name);
}

/** Never follows a link that `name` may be. */
export function lchownAt(directory: number, name: string, uid: number, gid: number): void {
  checked(fchownatCall(directory, cPath(name, 'fchownat'), uid, gid, atSymlinkNoFollow), 'fchownat', name);
}

/**
 * openat2(2): opens `path` below the directory `root` and lets nothing in it (links, `..`) lead outside.
 *
 * @param resolve - `resolveFlags.inRoot` treats `root` as `/`, as a chroot would; `resolveFlags.beneath` refuses (EXDEV) what would leave.
 * @throws SyscallError; EAGAIN when a rename raced with the walk (already repeated some times here).
 */
export function openat2(root: number, path: string, options: { flags: number; mode?: number; resolve: number }): number {
  requireKnownMachine();
  const how = Buffer.alloc(24);
  how.writeBigUInt64LE(BigInt(options.flags | openCloseOnExec), 0);
  how.writeBigUInt64LE(BigInt((options.flags & constants.O_CREAT) === 0 ? 0 : (options.mode ?? 0o600)), 8);
  how.writeBigUInt64LE(BigInt(options.resolve), 16);
  const name = Buffer.from(`${cPath(path, 'openat2')}\0`);
  for (let attempt = 1; ; attempt += 1) {
    try {
      return checked(rawSyscall(openat2Number, root, name, how, how.length, 0, 0), 'openat2', path);
    } catch (error) {
      const raced = error instanceof Error && 'code' in error && error.code === 'EAGAIN';
      if (!raced || attempt === 32) throw error;
    }
  }
}

/**
 * Sets both times of a path itself (a link is not followed).
 *
 * @param atimeNs - nanoseconds since the epoch; undefined leaves the time as it is.
 */
export function lutimesNs(path: string, atimeNs: bigint | undefined, mtimeNs: bigint | undefined, directory = atWorkingDirectory): void {
  writeTime(times, 0, atimeNs);
  writeTime(times, 16, mtimeNs);
  checked(utimensatCall(directory, cPath(path, 'utimensat'), times, atSymlinkNoFollow), 'utimensat', path);
}

/** Read by the call before the next one writes it. */
const times = Buffer.alloc(32);

function writeTime(buffer: Buffer, offset: number, nanoseconds: bigint | undefined): void {
  const utimeOmit = 0x3ffffffen;
  if (nanoseconds === undefined) {
    buffer.writeBigInt64LE(utimeOmit, offset + 8);
    return;
  }
  // Floor division: times before 1970 still have a positive nanosecond part.
  const part = ((nanoseconds % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  buffer.writeBigInt64LE((nanoseconds - part) / 1_000_000_000n, offset);
  buffer.writeBigInt64LE(part, offset + 8);
}

/**
 * Takes an advisory lock without waiting.
 *
 * @returns false when another open file holds it.
 */
export function tryLockFile(fd: number, kind: 'exclusive' | 'shared' = 'exclusive'): boolean {
  const nonBlocking = 4;
  try {
    checked(flockCall(fd, (kind === 'exclusive' ? 2 : 1) | nonBlocking), 'flock', `fd ${fd}`);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return false;
    throw error;
  }
}

export function unlockFile(fd: number): void {
  checked(flockCall(fd, 8), 'flock', `fd ${fd}`);
}

/** Sets the process' umask and gives the former one. Synchronous work only, then set it back: it is shared by all threads. */
export function setUmask(mask: number): number {
  return umaskCall(mask) as number;
}

/** Writes all that the file system of `path` has been given to its disk. Nobody is kept waiting in this thread. */
export async function syncFileSystem(path: string): Promise<void> {
  await using directory = await open(path);
  await new Promise<void>((resolve, reject) => {
    // Its errno belongs to that thread and is not to be had here: a disk that cannot be written is the one reason there is.
    syncfsCall.async(directory.fd, (error: Error | null, result: number) => {
      if (error !== null) reject(error);
      else if (result === -1) reject(new SyscallError('syncfs', osConstants.errno.EIO, path));
      else resolve();
    });
  });
}
