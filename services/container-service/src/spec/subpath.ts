/** Part of a volume or image as a mount's source. What is in it is a stranger's: a link must not make it another directory. */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { InvalidParameter } from '@flotilla/errors';
import { bindMount, hasCode, openat2, openPath, resolveFlags } from '@flotilla/syscalls';

/**
 * Binds `subpath` of `directory` on `target`, by descriptor, so that what was checked is what is mounted.
 *
 * @param makeTarget - makes the mount point: a directory or an empty file, like the source.
 * @throws InvalidParameter when there is no such path inside.
 */
export function bindSubpath(
  directory: string,
  subpath: string,
  target: string,
  makeTarget: (target: string, isDirectory: boolean) => void,
): void {
  const root = openSync(directory, constants.O_DIRECTORY | openPath);
  try {
    const source = openat2(root, subpath, { flags: openPath, resolve: resolveFlags.beneath | resolveFlags.noMagicLinks });
    try {
      makeTarget(target, fstatSync(source).isDirectory());
      bindMount(`/proc/self/fd/${source}`, target, true);
    } finally {
      closeSync(source);
    }
  } catch (error) {
    if (hasCode(error, 'EXDEV')) {
      const reason = `path concatenation escapes the base directory, base: ${directory}, subpath: ${subpath}`;
      throw new InvalidParameter(reason, { cause: error });
    }
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) {
      throw new InvalidParameter(`cannot access path ${subpath}: no such file or directory`, { cause: error });
    }
    throw error;
  } finally {
    closeSync(root);
  }
}
