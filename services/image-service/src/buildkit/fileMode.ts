/** Go's FileMode, which file sync speaks, and the modes of the kernel. */

const directory = 2 ** 31;
const symlink = 2 ** 27;
const setuid = 2 ** 23;
const setgid = 2 ** 22;
const sticky = 2 ** 20;
/** Devices, pipes, sockets and what Go calls irregular. */
const special = 2 ** 26 + 2 ** 25 + 2 ** 24 + 2 ** 21 + 2 ** 19;

export type FileKind = 'directory' | 'symlink' | 'file' | 'special';

const has = (mode: number, bits: number): boolean => (mode & bits) !== 0;

export function kindOf(mode: number): FileKind {
  if (has(mode, directory)) return 'directory';
  if (has(mode, symlink)) return 'symlink';
  return has(mode, special) ? 'special' : 'file';
}

/** The kernel's permission bits. */
export function permissionsOf(mode: number): number {
  return (mode & 0o777) | (has(mode, setuid) ? 0o4000 : 0) | (has(mode, setgid) ? 0o2000 : 0) | (has(mode, sticky) ? 0o1000 : 0);
}

/** @param mode - of the kernel. @returns Go's, for the kinds that files are sent as. */
export function goMode(mode: number, kind: FileKind): number {
  const bits = (mode & 0o777) + (has(mode, 0o4000) ? setuid : 0) + (has(mode, 0o2000) ? setgid : 0) + (has(mode, 0o1000) ? sticky : 0);
  if (kind === 'directory') return directory + bits;
  return kind === 'symlink' ? symlink + bits : bits;
}
