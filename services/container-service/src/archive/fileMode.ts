/** Go's os.FileMode: permission bits as everywhere, kinds and special bits at places of its own. */
import { constants } from 'node:fs';

const bits = {
  directory: 2 ** 31,
  symlink: 2 ** 27,
  device: 2 ** 26,
  fifo: 2 ** 25,
  socket: 2 ** 24,
  setuid: 2 ** 23,
  setgid: 2 ** 22,
  character: 2 ** 21,
  sticky: 2 ** 20,
} as const;

/** @param mode - `st_mode` as the kernel has it. */
export function goFileMode(mode: number): number {
  let result = mode & 0o777;
  // Added, not or-ed: the highest bit would make a JavaScript number negative.
  switch (mode & constants.S_IFMT) {
    case constants.S_IFDIR:
      result += bits.directory;
      break;
    case constants.S_IFLNK:
      result += bits.symlink;
      break;
    case constants.S_IFBLK:
      result += bits.device;
      break;
    case constants.S_IFCHR:
      result += bits.device + bits.character;
      break;
    case constants.S_IFIFO:
      result += bits.fifo;
      break;
    case constants.S_IFSOCK:
      result += bits.socket;
      break;
  }
  if (mode & 0o4000) result += bits.setuid;
  if (mode & 0o2000) result += bits.setgid;
  if (mode & 0o1000) result += bits.sticky;
  return result;
}
