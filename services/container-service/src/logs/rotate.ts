/**
 * Rotation: renames the log and has conmon open a new one. A disk is not to be filled by logs, so it is on by default.
 *
 * One writer of conmon's `ctl` at a time (two messages in one read lose the second), so the caller's `reopen` is awaited and the
 * new file is waited for before the next. Attached readers hold segments back from deletion (pins.ts).
 */
import { rename, unlink } from 'node:fs/promises';
import type { LogPins } from './pins.ts';
import { isMissing, listSegments, segmentPath, statIfExists } from './segments.ts';

export interface RotateOptions {
  readonly path: string;
  /** bytes from which the log is rotated */
  readonly maxSizeBytes: number;
  /** files kept, the one being written among them */
  readonly maxFiles: number;
  /** asks conmon to open `path` anew: writes `2 0 0\n` into its ctl */
  readonly reopen: () => Promise<void>;
  readonly pins?: LogPins;
}

const reopenTimeoutMs = 5_000;
const retryMs = 50;

/**
 * Rotates a log if it has grown to its size.
 *
 * @returns whether it was rotated.
 */
export async function rotateLog(options: RotateOptions): Promise<boolean> {
  const { path, maxSizeBytes, reopen } = options;
  const current = statIfExists(path);
  if (current === undefined || current.sizeBytes < maxSizeBytes) return false;
  const segments = listSegments(path);
  for (let index = segments.length - 1; index >= 0; index -= 1) {
    await rename(segmentPath(path, index), segmentPath(path, index + 1));
  }
  await reopenUntilThere(path, reopen);
  await trimLog(options);
  return true;
}

/** Deletes what is beyond `maxFiles`, oldest first, except what an attached reader still needs. */
export async function trimLog(options: Pick<RotateOptions, 'path' | 'maxFiles' | 'pins'>): Promise<void> {
  const segments = listSegments(options.path);
  // A reader that has not opened a file yet (inode 0) wants all; one whose file is gone already wants nothing.
  const pinned = (options.pins?.of(options.path) ?? []).map((pin) =>
    pin.inode === 0 ? 0 : segments.findIndex((segment) => segment.inode === pin.inode),
  );
  const firstNeeded = Math.min(segments.length, ...pinned.filter((index) => index >= 0));
  const surplus = Math.min(segments.length - options.maxFiles, firstNeeded);
  for (const segment of segments.slice(0, Math.max(surplus, 0))) {
    await unlink(segment.path).catch((error: unknown) => {
      if (!isMissing(error)) throw error;
    });
  }
}

/** conmon may miss a message that came together with another (a resize): asked again until the file exists. */
async function reopenUntilThere(path: string, reopen: () => Promise<void>): Promise<void> {
  const deadline = Date.now() + reopenTimeoutMs;
  while (Date.now() < deadline) {
    await reopen();
    for (let waited = 0; waited < 10 * retryMs; waited += 5) {
      if (statIfExists(path) !== undefined) return;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
  // conmon is gone or stuck: what it still writes goes to the renamed file, which readers find.
}
