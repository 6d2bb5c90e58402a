/**
 * A container that does not run, as it would be seen from inside: its root with its volumes and binds in their places, mounted for as long
 * as a copy takes, at a place of its own.
 */
import { closeSync, constants, existsSync, mkdirSync, readdirSync, rmdirSync, statSync } from 'node:fs';
import { posix } from 'node:path';
import { bindMount, hasCode, mknodAt, mount, mountFlags, openPath, umount, umountFlags } from '@flotilla/syscalls';
import { makeDirectoryInRoot, openInRoot, withRoot } from '../spec/rootfs.ts';

export interface ViewMount {
  /** absolute path in the container */
  readonly destination: string;
  /** path of this host; what has none is left out */
  readonly source?: string;
  readonly type: string;
}

export interface StoppedView {
  readonly path: string;
  /** Takes it down again. Idempotent. */
  close(): void;
}

/**
 * @param rootfs - the mounted root.
 * @param directory - where the view is to be; made, and gone again after `close`.
 */
export function openStoppedView(rootfs: string, mounts: readonly ViewMount[], directory: string): StoppedView {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  let open = true;
  const close = (): void => {
    if (!open) return;
    open = false;
    // With all that is mounted in it, at once, also while a copy still holds a file.
    umount(directory, umountFlags.detach | umountFlags.noFollow);
    rmdirSync(directory);
  };
  bindMount(rootfs, directory);
  try {
    mount('none', directory, '', mountFlags.private);
    for (const each of [...mounts].sort((a, b) => a.destination.length - b.destination.length)) place(directory, each);
  } catch (error) {
    close();
    throw error;
  }
  return { path: directory, close };
}

/**
 * Takes down the views that killed instances have left.
 *
 * @param views - the directory they are in.
 * @param isAbandoned - by a view's name.
 */
export function removeAbandonedViews(views: string, isAbandoned: (name: string) => boolean): void {
  if (!existsSync(views)) return;
  for (const name of readdirSync(views).filter(isAbandoned)) {
    const directory = posix.join(views, name);
    try {
      umount(directory, umountFlags.detach | umountFlags.noFollow);
    } catch (error) {
      // It was made and not mounted yet.
      if (!hasCode(error, 'EINVAL')) throw error;
    }
    rmdirSync(directory);
  }
}

function place(root: string, { destination, source, type }: ViewMount): void {
  if (source === undefined || type === 'tmpfs' || type === 'image' || !existsSync(source)) return;
  makeMountPoint(root, destination, statSync(source).isDirectory());
  withRoot(root, (rootFd) => {
    const target = openInRoot(rootFd, destination, openPath);
    try {
      // By descriptor: a link in the path has led to a place inside the root, and that very place is covered.
      bindMount(source, `/proc/self/fd/${target}`, true);
    } finally {
      closeSync(target);
    }
    // Or taking the view down would take down what is mounted below the source on the host as well.
    const mounted = openInRoot(rootFd, destination, openPath);
    try {
      mount('none', `/proc/self/fd/${mounted}`, '', mountFlags.private | mountFlags.recursive);
    } finally {
      closeSync(mounted);
    }
  });
}

/** As the runtime makes it at start. */
function makeMountPoint(root: string, path: string, isDirectory: boolean): void {
  withRoot(root, (rootFd) => {
    try {
      closeSync(openInRoot(rootFd, path, openPath));
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
      makeDirectoryInRoot(root, isDirectory ? path : posix.dirname(path));
      if (isDirectory) return;
      const parent = openInRoot(rootFd, posix.dirname(path), openPath | constants.O_DIRECTORY);
      try {
        mknodAt(parent, posix.basename(path), constants.S_IFREG | 0o644);
      } finally {
        closeSync(parent);
      }
    }
  });
}
