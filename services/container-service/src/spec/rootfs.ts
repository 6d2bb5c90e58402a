/**
 * Looking into a container's root from outside. Its files belong to strangers: every path is resolved by the kernel with the
 * root as `/` (openat2, RESOLVE_IN_ROOT), so that no link leads out, and nothing but regular files of sane size is read.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { hasCode, mkdirAt, openat2, openPath, resolveFlags } from '@flotilla/syscalls';

const inRoot: number = resolveFlags.inRoot | resolveFlags.noMagicLinks;
const largestFileBytes = 16 * 1024 * 1024;

/** Runs `use` with a descriptor of the root directory. */
export function withRoot<T>(rootfs: string, use: (root: number) => T): T {
  const root = openSync(rootfs, constants.O_DIRECTORY | openPath);
  try {
    return use(root);
  } finally {
    closeSync(root);
  }
}

/** Opens a path below the root as a chroot would find it. The caller closes it. @throws SyscallError */
export function openInRoot(root: number, path: string, flags: number, mode?: number): number {
  return openat2(root, path, { flags, ...(mode === undefined ? {} : { mode }), resolve: inRoot });
}

/** The text of a file in the root; undefined when there is none, or it is no regular file. */
export function readFileInRoot(rootfs: string, path: string): string | undefined {
  return withRoot(rootfs, (root) => {
    let file: number;
    try {
      // Without waiting for whoever should open the other end of a FIFO.
      file = openInRoot(root, path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    } catch (error) {
      if (hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'EACCES')) return undefined;
      throw error;
    }
    try {
      const status = fstatSync(file);
      if (!status.isFile()) return undefined;
      const buffer = Buffer.alloc(Math.min(status.size, largestFileBytes));
      let length = 0;
      while (length < buffer.length) {
        const read = readSync(file, buffer, length, buffer.length - length, length);
        if (read === 0) break;
        length += read;
      }
      return buffer.toString('utf8', 0, length);
    } finally {
      closeSync(file);
    }
  });
}

/** Makes a directory and those above it inside the root, where absent; existing ones stay as they are. @throws SyscallError */
export function makeDirectoryInRoot(rootfs: string, path: string, mode = 0o755): void {
  withRoot(rootfs, (root) => {
    let parent = openInRoot(root, '/', constants.O_DIRECTORY | openPath);
    try {
      let reached = '';
      for (const name of path.split('/').filter((part) => part !== '' && part !== '.')) {
        reached += `/${name}`;
        let next: number;
        try {
          next = openInRoot(root, reached, constants.O_DIRECTORY | openPath);
        } catch (error) {
          if (!hasCode(error, 'ENOENT')) throw error;
          mkdirAt(parent, name, mode);
          next = openInRoot(root, reached, constants.O_DIRECTORY | openPath);
        }
        closeSync(parent);
        parent = next;
      }
    } finally {
      closeSync(parent);
    }
  });
}
