/** Extended attributes of a path itself, never of what a symbolic link points to. */
import { constants } from 'node:os';
import koffi from 'koffi';
import { checked, cPath, libc, SyscallError } from './libc.ts';

const lgetxattrCall = libc.func('long lgetxattr(const char *path, const char *name, void *value, unsigned long size)');
const lsetxattrCall = libc.func('int lsetxattr(const char *path, const char *name, const void *value, unsigned long size, int flags)');
const llistxattrCall = libc.func('long llistxattr(const char *path, void *list, unsigned long size)');
const lremovexattrCall = libc.func('int lremovexattr(const char *path, const char *name)');

/** The largest value and list the kernel keeps (XATTR_SIZE_MAX). */
const largest = 65_536;
/** What a call gives is copied out of it before the next one. */
const answer = Buffer.alloc(largest);
const nothingThere = ['ENODATA', 'EOPNOTSUPP'];

/** The value, or undefined when the path has no such attribute or its file system none at all. */
export function lgetxattr(path: string, name: string): Buffer | undefined {
  const size = lgetxattrCall(cPath(path, 'lgetxattr'), cPath(name, 'lgetxattr'), answer, largest);
  if (size === -1) {
    const error = new SyscallError('lgetxattr', koffi.errno(), `${name} of ${path}`);
    if (nothingThere.includes(error.code)) return undefined;
    throw error;
  }
  return Buffer.from(answer.subarray(0, Number(size)));
}

export function lsetxattr(path: string, name: string, value: Uint8Array | string): void {
  const bytes = Buffer.from(value);
  const result = lsetxattrCall(cPath(path, 'lsetxattr'), cPath(name, 'lsetxattr'), bytes, bytes.length, 0);
  checked(result, 'lsetxattr', `${name} of ${path}`);
}

/** Names of all attributes; none where the file system has no attributes. */
export function llistxattr(path: string): string[] {
  const size = llistxattrCall(cPath(path, 'llistxattr'), answer, largest);
  if (size === -1) {
    const error = new SyscallError('llistxattr', koffi.errno(), path);
    if (error.errno === constants.errno.EOPNOTSUPP) return [];
    throw error;
  }
  if (Number(size) === 0) return [];
  return answer
    .toString('utf8', 0, Number(size))
    .split('\0')
    .filter((name) => name !== '');
}

/** Idempotent. */
export function lremovexattr(path: string, name: string): void {
  if (lremovexattrCall(cPath(path, 'lremovexattr'), cPath(name, 'lremovexattr')) === 0) return;
  const error = new SyscallError('lremovexattr', koffi.errno(), `${name} of ${path}`);
  if (!nothingThere.includes(error.code)) throw error;
}
