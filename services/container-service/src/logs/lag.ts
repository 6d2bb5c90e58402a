/** How far attached readers are behind: what a container may be ahead of the slowest of them before it is made to wait. */
import type { LogPins } from './pins.ts';
import { listSegments } from './segments.ts';

/** Beyond this the container is held back, as dockerd makes it wait. */
export const holdBytes = 64 * 1024 * 1024;
/** Below this it goes on. */
export const resumeBytes = 32 * 1024 * 1024;

/** Bytes the slowest attached reader has not had yet; 0 when nobody is attached. */
export function lagBytes(path: string, pins: LogPins): number {
  const readers = pins.of(path);
  if (readers.length === 0) return 0;
  const segments = listSegments(path);
  const lags = readers.map((reader) => {
    const index = reader.inode === 0 ? 0 : segments.findIndex((segment) => segment.inode === reader.inode);
    if (index < 0) return 0;
    const waiting = segments.slice(index).reduce((sum, segment) => sum + segment.sizeBytes, 0);
    return Math.max(waiting - reader.offset, 0);
  });
  return Math.max(...lags);
}
