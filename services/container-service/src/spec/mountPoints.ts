/**
 * The directories on which a container's file systems are mounted, made where its image has none: crun would make them with the sticky bit, and a commit or an
 * export shows them.
 */
import { statSync } from 'node:fs';
import { posix } from 'node:path';
import type { RuntimeMount } from '@flotilla/oci';
import { SyscallError } from '@flotilla/syscalls';
import { makeDirectoryInRoot } from './rootfs.ts';

export function ensureMountPoints(rootfs: string, mounts: readonly RuntimeMount[]): void {
  const destinations = new Set(mounts.map(({ destination }) => destination));
  for (const mount of mounts) {
    // What lies on another mount is not in the root.
    if (isOnAnother(mount.destination, destinations) || !isDirectory(mount)) continue;
    try {
      makeDirectoryInRoot(rootfs, mount.destination);
    } catch (error) {
      // What stands in the way is told by the runtime, which fails by it too.
      if (!(error instanceof SyscallError)) throw error;
    }
  }
}

function isOnAnother(path: string, destinations: ReadonlySet<string>): boolean {
  for (let above = posix.dirname(path); above !== '/'; above = posix.dirname(above)) if (destinations.has(above)) return true;
  return false;
}

function isDirectory({ type, source = '' }: RuntimeMount): boolean {
  return type !== 'bind' || statSync(source, { throwIfNoEntry: false })?.isDirectory() === true;
}
