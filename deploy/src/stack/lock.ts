/** One supervisor a stack: whoever holds the lock file. The lock goes with the last process that has the descriptor open. */
import { closeSync, openSync } from 'node:fs';
import { tryLockFile } from '@flotilla/syscalls';

/** The descriptor that holds the lock, or undefined while another supervisor has it. */
export function takeLock(path: string): number | undefined {
  const fd = openSync(path, 'a', 0o600);
  if (tryLockFile(fd)) return fd;
  closeSync(fd);
  return undefined;
}
