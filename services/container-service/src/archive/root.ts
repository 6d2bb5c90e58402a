/**
 * A container's root as archives see it: resolving a path inside it as dockerd does, with the kernel keeping the walk inside
 * (openat2, RESOLVE_IN_ROOT), so that a link or a rename at the wrong moment never reaches the host.
 */
import { closeSync, fstatSync, readlinkSync, type Stats, statfsSync } from 'node:fs';
import { posix } from 'node:path';
import type { PathStat } from '@flotilla/engine-api';
import { NotFound, System } from '@flotilla/errors';
import { hasCode, openPath } from '@flotilla/syscalls';
import { entryRefusal } from '@flotilla/tar';
import { openInRoot, withRoot } from '../spec/rootfs.ts';
import { goFileMode } from './fileMode.ts';

export interface ArchiveRoot {
  /** the root directory with the container's mounts in it: an open directory of this process, or where it is mounted for now */
  readonly path: string;
  /** how the client named the container, for messages */
  readonly container: string;
  readonly readOnlyRootfs: boolean;
  readonly mounts: readonly { readonly destination: string; readonly rw: boolean }[];
}

/** File systems of the kernel's own, which hold nothing that could be copied: by magic number. */
const kernelFilesystems = new Set([
  0x9fa0, // proc
  0x62656572, // sysfs
  0x27e0eb, // cgroup
  0x63677270, // cgroup2
  0x1cd1, // devpts
  0x19800202, // mqueue
  0x74726163, // tracefs
  0x64626720, // debugfs
  0x73636673, // securityfs
  0xcafe4a11, // bpf
]);

/** Whether the open file is on such a file system. */
export function isKernelFile(fd: number): boolean {
  return kernelFilesystems.has(statfsSync(`/proc/self/fd/${fd}`).type);
}

/** A path of a request: absolute and clean, but for a last `/` or `/.`, which say that a link there is to be followed. */
export function requestedPath(path: string): string {
  const clean = posix.join('/', path).replace(/(.)\/$/, '$1');
  if (/(^|\/)\.\/*$/.test(path)) return clean === '/' ? '/.' : `${clean}/.`;
  return path.endsWith('/') && clean !== '/' ? `${clean}/` : clean;
}

/** The last element of a path as Go's filepath.Base gives it. */
export function baseName(path: string): string {
  return path === '/' ? '/' : (path.replace(/\/+$/, '').split('/').at(-1) ?? '/');
}

/**
 * Looks at what a path names, without following it when it is a link (but links on the way are).
 *
 * @throws NotFound in dockerd's words.
 */
export function withPath<T>(root: ArchiveRoot, path: string, use: (status: Stats, rootFd: number) => T): T {
  return withRoot(root.path, (rootFd) => {
    const fd = openOrNotFound(root, rootFd, path);
    try {
      if (isKernelFile(fd)) throw notFound(root, path);
      return use(fstatSync(fd), rootFd);
    } finally {
      closeSync(fd);
    }
  });
}

function openOrNotFound(root: ArchiveRoot, rootFd: number, path: string): number {
  const noFollow = 0x20000;
  try {
    return openInRoot(rootFd, path, openPath | noFollow);
  } catch (error) {
    throw unreachable(root, path, error);
  }
}

/** Why a path cannot be followed to its end, as dockerd tells it. */
export function unreachable(root: ArchiveRoot, path: string, error: unknown): unknown {
  if (hasCode(error, 'ENOENT')) return notFound(root, path, error);
  const reason = entryRefusal(error);
  return reason === undefined ? error : new System(`lstat ${path}: ${reason}`, { cause: error });
}

export function notFound(root: ArchiveRoot, path: string, cause?: unknown): NotFound {
  return new NotFound(`Could not find the file ${path} in container ${root.container}`, { cause });
}

/** What the header X-Docker-Container-Path-Stat says of a path. @throws NotFound */
export function statPath(root: ArchiveRoot, path: string): PathStat {
  const wanted = requestedPath(path);
  return withPath(root, wanted, (status, rootFd) => pathStat(wanted, status, rootFd));
}

export function pathStat(path: string, status: Stats, rootFd: number): PathStat {
  return {
    name: baseName(path),
    size: status.size,
    mode: goFileMode(status.mode),
    mtime: rfc3339(status.mtimeMs),
    linkTarget: status.isSymbolicLink() ? linkTarget(path, rootFd) : '',
  };
}

/** Where a link leads inside the root: the resolved path where something is there, else what the link says. */
function linkTarget(path: string, rootFd: number): string {
  const base = readlinkSync(`/proc/self/fd/${rootFd}`);
  try {
    const target = openInRoot(rootFd, path, openPath);
    try {
      const resolved = readlinkSync(`/proc/self/fd/${target}`);
      return base === '/' ? resolved : resolved.slice(base.length) || '/';
    } finally {
      closeSync(target);
    }
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'EACCES')) throw error;
    return posix.resolve(posix.dirname(path), linkText(path, rootFd));
  }
}

function linkText(path: string, rootFd: number): string {
  const parent = openInRoot(rootFd, posix.dirname(path), openPath);
  try {
    return readlinkSync(`/proc/self/fd/${parent}/${posix.basename(path)}`);
  } finally {
    closeSync(parent);
  }
}

function rfc3339(milliseconds: number): string {
  const whole = Math.floor(milliseconds / 1000);
  const nanoseconds = Math.round((milliseconds - whole * 1000) * 1_000_000);
  const fraction = nanoseconds === 0 ? '' : `.${nanoseconds.toString().padStart(9, '0').replace(/0+$/, '')}`;
  return `${new Date(whole * 1000).toISOString().slice(0, 19)}${fraction}Z`;
}
