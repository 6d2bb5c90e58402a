/** Where a file system puts what is made. */
import { closeSync, constants, openSync } from 'node:fs';
import { libc } from './libc.ts';

const ioctlCall = libc.func('int ioctl(int fd, unsigned long request, void *value)');

/** FS_IOC_GETFLAGS, FS_IOC_SETFLAGS */
const getFlags = 0x80086601;
const setFlags = 0x40086602;
/** FS_TOPDIR_FL, the T of chattr(1) */
const topDirectory = 0x00020000;

/**
 * Has each directory that is made in this one be the root of a tree of its own: ext4 puts it, with what comes below it, where there is room, not beside the others.
 * What is written is then not beside what was just deleted either, where ext4 goes through all the inodes that were freed in the last minutes for each new file.
 *
 * @returns whether the file system has such a thing.
 * @throws Error with the code ENOENT, ENOTDIR, …
 */
export function spreadDirectories(path: string): boolean {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const flags = Buffer.alloc(8);
    if (ioctlCall(fd, getFlags, flags) !== 0) return false;
    flags.writeUInt32LE((flags.readUInt32LE() | topDirectory) >>> 0);
    return ioctlCall(fd, setFlags, flags) === 0;
  } finally {
    closeSync(fd);
  }
}
