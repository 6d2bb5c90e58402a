/** The working directory of a container is made where its image has none. */
import { InvalidParameter } from '@flotilla/errors';
import { hasCode } from '@flotilla/syscalls';
import { makeDirectoryInRoot } from './rootfs.ts';

/** @throws InvalidParameter when something that is no directory stands in its way. */
export function ensureWorkingDirectory(rootfs: string, path: string): void {
  if (path === '' || path === '/') return;
  try {
    makeDirectoryInRoot(rootfs, path);
  } catch (error) {
    if (hasCode(error, 'ENOTDIR', 'EEXIST', 'ELOOP'))
      throw new InvalidParameter(`Cannot mkdir: ${path} is not a directory`, { cause: error });
    throw error;
  }
}
