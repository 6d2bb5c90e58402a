/**
 * unshare(2) and setns(2). Both change only the calling thread: here the thread JavaScript runs on, while libuv's pool keeps the
 * namespaces the process started with. Whoever changes one must change it back before the next await.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { checked, libc } from './libc.ts';

const unshareCall = libc.func('int unshare(int flags)');
const setnsCall = libc.func('int setns(int fd, int kind)');

/** CLONE_NEW* of clone(2). */
export const namespaceKinds = {
  files: 0x400,
  fs: 0x200,
  time: 0x80,
  mount: 0x20000,
  cgroup: 0x2000000,
  uts: 0x4000000,
  ipc: 0x8000000,
  user: 0x10000000,
  pid: 0x20000000,
  network: 0x40000000,
} as const;

/** @throws SyscallError */
export function unshare(flags: number): void {
  checked(unshareCall(flags), 'unshare', `0x${flags.toString(16)}`);
}

/**
 * Moves this thread into the namespace that `fd` stands for.
 *
 * @param kind - one of `namespaceKinds` to insist on, or 0.
 * @throws SyscallError
 */
export function setns(fd: number, kind = 0): void {
  checked(setnsCall(fd, kind), 'setns', `fd ${fd}`);
}

/** Opens one of this thread's namespaces; the caller closes it. */
export function openOwnNamespace(name: 'net' | 'mnt' | 'uts' | 'ipc' | 'pid' | 'cgroup'): number {
  return openSync(`/proc/thread-self/ns/${name}`, constants.O_RDONLY);
}

/** Runs `use` with an open namespace file and closes it whatever happens. */
export function withNamespaceFile<T>(path: string, use: (fd: number) => T): T {
  const fd = openSync(path, constants.O_RDONLY);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}
