/** `docker diff`: what a container changed, read from the writable layer of its overlay. */
import { closeSync, constants, fstatSync, lstatSync, openSync, readdirSync, type Stats } from 'node:fs';
import { posix } from 'node:path';
import type { FilesystemChange } from '@flotilla/engine-api';
import { hasCode, lgetxattr, openat2, openPath, resolveFlags } from '@flotilla/syscalls';

export const changeKinds = { modified: 0, added: 1, deleted: 2 } as const;

/** What the engine and the runtime put into every container to mount something on: no change of the container's. */
const madeByEngine = new Set([
  '/.dockerenv',
  '/dev',
  '/dev/console',
  '/dev/pts',
  '/dev/shm',
  '/dev/mqueue',
  '/proc',
  '/sys',
  '/etc',
  '/etc/hostname',
  '/etc/hosts',
  '/etc/resolv.conf',
  '/etc/mtab',
]);

/**
 * @param upper - the overlay's writable directory.
 * @param lowers - the directories below it, topmost first.
 */
export function containerChanges(upper: string, lowers: readonly string[]): FilesystemChange[] {
  const below = lowers.map((path) => openSync(path, constants.O_DIRECTORY | openPath));
  try {
    const changes: FilesystemChange[] = [];
    walk(upper, '/', below, changes);
    return changes;
  } finally {
    for (const fd of below) closeSync(fd);
  }
}

function walk(upper: string, path: string, lowers: readonly number[], changes: FilesystemChange[]): void {
  const directory = posix.join(upper, path);
  const opaque = lgetxattr(directory, 'trusted.overlay.opaque')?.toString() === 'y';
  const names = readdirSync(directory).sort();
  // A directory made anew in place of another hides all that was in it.
  if (opaque)
    for (const name of lowerNames(path, lowers)) if (!names.includes(name)) changes.push(change(posix.join(path, name), 'deleted'));
  for (const name of names) {
    const child = posix.join(path, name);
    const status = lstatSync(posix.join(upper, child), { throwIfNoEntry: false });
    if (status === undefined) continue;
    if (status.isCharacterDevice() && status.rdev === 0) {
      changes.push(change(child, 'deleted'));
      continue;
    }
    const before = lowerStatus(child, lowers);
    const inside: FilesystemChange[] = [];
    if (status.isDirectory()) walk(upper, child, before?.isDirectory() === true ? lowers : [], inside);
    if (isOwnChange(child, status, before, inside)) changes.push(change(child, before === undefined ? 'added' : 'modified'));
    changes.push(...inside);
  }
}

function isOwnChange(path: string, status: Stats, before: Stats | undefined, inside: readonly FilesystemChange[]): boolean {
  if (inside.length > 0) return true;
  if (madeByEngine.has(path)) {
    const untouched = before === undefined || sameOwnerAndMode(status, before);
    return !(untouched && (status.isDirectory() || status.size === 0));
  }
  if (status.isDirectory() && before?.isDirectory()) {
    return !(sameOwnerAndMode(status, before) && status.mtimeMs === before.mtimeMs);
  }
  return true;
}

function sameOwnerAndMode(a: Stats, b: Stats): boolean {
  return a.mode === b.mode && a.uid === b.uid && a.gid === b.gid;
}

function change(path: string, kind: keyof typeof changeKinds): FilesystemChange {
  return { Path: path, Kind: changeKinds[kind] };
}

/** What a path was before, in the topmost layer that says something of it. */
function lowerStatus(path: string, lowers: readonly number[]): Stats | undefined {
  for (const lower of lowers) {
    const fd = openBelow(lower, path);
    if (fd === undefined) continue;
    try {
      const status = fstatSync(fd);
      return status.isCharacterDevice() && status.rdev === 0 ? undefined : status;
    } finally {
      closeSync(fd);
    }
  }
  return undefined;
}

function lowerNames(path: string, lowers: readonly number[]): Set<string> {
  const names = new Set<string>();
  const hidden = new Set<string>();
  for (const lower of lowers) {
    const fd = openBelow(lower, path);
    if (fd === undefined) continue;
    try {
      const directory = `/proc/self/fd/${fd}`;
      for (const name of readdirSync(directory)) {
        if (names.has(name) || hidden.has(name)) continue;
        const status = lstatSync(`${directory}/${name}`);
        (status.isCharacterDevice() && status.rdev === 0 ? hidden : names).add(name);
      }
      if (lgetxattr(`${directory}/.`, 'trusted.overlay.opaque')?.toString() === 'y') break;
    } catch (error) {
      if (!hasCode(error, 'ENOTDIR')) throw error;
      break;
    } finally {
      closeSync(fd);
    }
  }
  return names;
}

/** A layer is a stranger's: no link in it is followed. */
function openBelow(lower: number, path: string): number | undefined {
  const noFollow = constants.O_NOFOLLOW;
  try {
    return openat2(lower, path.slice(1) || '.', { flags: openPath | noFollow, resolve: resolveFlags.beneath | resolveFlags.noMagicLinks });
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'EXDEV')) return undefined;
    throw error;
  }
}
