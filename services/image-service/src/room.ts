/** How much strangers may write: what is free on the disk, but for a part that is left to the engine. */
import { statfsSync } from 'node:fs';

const reserveBytes = 256 * 1024 * 1024;

/** Bytes that may be written below a directory. */
export function roomIn(directory: string): number {
  const { bavail, bsize } = statfsSync(directory);
  return Math.max(0, bavail * bsize - reserveBytes);
}
