/**
 * Network namespaces kept alive by a bind mount on a path, as `ip netns` and container engines keep them, made without any process.
 */
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { hasCode } from './libc.ts';
import { bindMount, umount, umountFlags } from './mount.ts';
import { namespaceKinds, openOwnNamespace, setns, unshare, withNamespaceFile } from './namespaces.ts';

/**
 * Makes a network namespace and binds it on `path` (a new file). Only `lo` is in it, down.
 *
 * @throws Error EEXIST when the path exists; SyscallError.
 */
export function createNetns(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o711 });
  closeSync(openSync(path, 'wx', 0o444));
  try {
    returningHome(() => {
      unshare(namespaceKinds.network);
      bindMount('/proc/thread-self/ns/net', path);
    });
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  }
}

/** Unmounts and removes what `createNetns` made; the namespace goes when the last process and socket in it do. Idempotent. */
export function removeNetns(path: string): void {
  try {
    umount(path, umountFlags.detach | umountFlags.noFollow);
  } catch (error) {
    // EINVAL: not mounted (a crash between the two steps); ENOENT: gone already.
    if (!hasCode(error, 'EINVAL', 'ENOENT')) throw error;
  }
  rmSync(path, { force: true });
}

/** Whether a live namespace is bound on `path`: an empty file is what a crash or a reboot leaves. */
export function isNetns(path: string): boolean {
  try {
    const found = statSync(path);
    return found.dev === statSync('/proc/thread-self/ns/net').dev;
  } catch {
    return false;
  }
}

/** The namespace's inode number, by which `ip netns` and `lsns` know it. */
export function netnsInode(path = '/proc/thread-self/ns/net'): number {
  return statSync(path).ino;
}

/**
 * Runs `work` inside a network namespace and comes back, however it ends. Sockets it opens stay in that namespace for life.
 *
 * @param work - must be synchronous: after an await the thread would run everybody's code in the wrong namespace.
 */
export function inNetns<T>(path: string, work: () => T): T {
  return withNamespaceFile(path, (fd) =>
    returningHome(() => {
      setns(fd, namespaceKinds.network);
      const result = work();
      if (result instanceof Promise) throw new Error('inNetns: the work must be synchronous');
      return result;
    }),
  );
}

function returningHome<T>(work: () => T): T {
  const home = openOwnNamespace('net');
  try {
    return work();
  } finally {
    try {
      setns(home, namespaceKinds.network);
    } finally {
      closeSync(home);
    }
  }
}

/** The ids that the kernel's mount table shows below a folder: paths on which something is mounted. */
export function mountPointsBelow(folder: string): string[] {
  const prefix = folder.endsWith('/') ? folder : `${folder}/`;
  return readFileSync('/proc/thread-self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => unescapeMountPath(line.split(' ')[4] ?? ''))
    .filter((path) => path.startsWith(prefix));
}

/** mountinfo writes space, tab, newline and backslash as octal escapes. */
export function unescapeMountPath(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
