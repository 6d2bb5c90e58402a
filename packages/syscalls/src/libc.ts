/** The C library, reached through koffi, and the one way its failures become JavaScript errors. */
import { constants } from 'node:os';
import koffi from 'koffi';

export const libc = koffi.load('libc.so.6');

/** A failed system call: `code` as Node's own errors have it ('ENOENT'), `errno` as the kernel's positive number. */
export class SyscallError extends Error {
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;

  constructor(syscall: string, errno: number, subject = '') {
    const code = errorName(errno);
    super(`${syscall}${subject === '' ? '' : ` ${subject}`}: ${errorText(errno)} (${code})`);
    this.name = 'SyscallError';
    this.code = code;
    this.errno = errno;
    this.syscall = syscall;
  }
}

const strerror = libc.func('const char *strerror(int number)');

function errorText(errno: number): string {
  return strerror(errno) as string;
}

const names = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));

function errorName(errno: number): string {
  // Two names of one number: Node says EAGAIN and EOPNOTSUPP.
  if (errno === constants.errno.EAGAIN) return 'EAGAIN';
  if (errno === constants.errno.EOPNOTSUPP) return 'EOPNOTSUPP';
  return names.get(errno) ?? `E${errno}`;
}

/** Whether an error is a failed system call with one of these codes (also one of Node's own fs errors). */
export function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && codes.includes(error.code);
}

/** The result of a call that says -1 on failure. Must be the very next thing after the call: errno is the thread's. */
export function checked(result: number | bigint, syscall: string, subject = ''): number {
  if (result !== -1 && result !== -1n) return Number(result);
  throw new SyscallError(syscall, koffi.errno(), subject);
}

/** A path as the kernel may see it: with a NUL inside it would silently be another one. */
export function cPath(path: string, syscall: string): string {
  if (path.includes('\0')) throw new SyscallError(syscall, constants.errno.EINVAL, JSON.stringify(path));
  return path;
}

/** `syscall(2)`, for what the C library has no wrapper of. All arguments are machine words. */
export const rawSyscall = libc.func('long syscall(long number, long a, void *b, void *c, long d, long e, long f)') as (
  number: number,
  a: number,
  b: unknown,
  c: unknown,
  d: number,
  e: number,
  f: number,
) => number | bigint;

/** Whether this is a 64-bit little-endian machine of the two we know the layouts of. */
export function requireKnownMachine(): void {
  if (process.platform !== 'linux' || (process.arch !== 'x64' && process.arch !== 'arm64')) {
    throw new Error(`system calls are known for Linux on x86_64 and aarch64, not for ${process.platform} on ${process.arch}`);
  }
}
