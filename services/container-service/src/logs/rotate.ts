/**
 * Rotation: renames the log and has conmon open a new one. A disk is not to be filled by logs, so it is on by default.
 *
 * One writer of conmon's `ctl` at a time (two messages in one read lose the second), so the caller's `reopen` is awaited and the
 * new file is waited for before the next. Attached readers hold segments back from deletion (pins.ts).
 */
import { rename, rm, unlink } from 'node:fs/promises';
import { compressedSuffix, compressFile } from './compressed.ts';
import type { LogPins } from './pins.ts';
import { isMissing, listSegments, type Segment, segmentPath, statIfExists } from './segments.ts';

export interface RotateOptions {
  readonly path: string;
  /** bytes from which the log is rotated */
  readonly maxSizeBytes: number;
  /** files kept, the one being written among them */
  readonly maxFiles: number;
  /** whether rotated files are compressed */
  readonly compress?: boolean;
  /** asks conmon to open `path` anew: writes `2 0 0\n` into its ctl */
  readonly reopen: () => Promise<void>;
  readonly pins?: LogPins;
  /** inodes of the files at which readers stand that other instances serve */
  readonly readElsewhere?: () => readonly number[];
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
  for (const [place, segment] of segments.entries()) {
    const index = segments.length - 1 - place;
    const suffix = segment.compressed ? compressedSuffix : '';
    // What is there as it was and compressed too, for it was cut off between, is compressed anew.
    if (!segment.compressed && index > 0) await rm(segmentPath(path, index) + compressedSuffix, { force: true });
    await rename(segment.path, segmentPath(path, index + 1) + suffix);
  }
  await reopenUntilThere(path, reopen);
  await trimLog(options);
  return true;
}

/** Deletes what is beyond `maxFiles`, oldest first, and compresses what stays, except what an attached reader still needs. */
export async function trimLog(options: Pick<RotateOptions, 'path' | 'maxFiles' | 'pins' | 'readElsewhere' | 'compress'>): Promise<void> {
  const segments = listSegments(options.path);
  if (segments.length <= options.maxFiles && options.compress !== true) return;
  const firstNeeded = firstPinned(segments, options);
  const surplus = Math.max(Math.min(segments.length - options.maxFiles, firstNeeded), 0);
  for (const segment of segments.slice(0, surplus)) {
    await unlink(segment.path).catch((error: unknown) => {
      if (!isMissing(error)) throw error;
    });
  }
  // Without the file that conmon writes next, it may still write the newest.
  if (options.compress !== true || segments.at(-1)?.path !== options.path) return;
  for (const segment of segments.slice(surplus, -1)) {
    // A reader may have come while another file was being compressed.
    if (segment.compressed || segments.indexOf(segment) >= firstPinned(segments, options)) continue;
    await compressFile(segment.path);
  }
}

/** The oldest segment an attached reader needs. One that has not opened a file yet (inode 0) wants all; one whose file is gone already wants nothing. */
function firstPinned(
  segments: readonly Segment[],
  { path, pins, readElsewhere }: Pick<RotateOptions, 'path' | 'pins' | 'readElsewhere'>,
): number {
  const inodes = [...(pins?.of(path) ?? []).map((pin) => pin.inode), ...(readElsewhere?.() ?? [])];
  const pinned = inodes.map((inode) => (inode === 0 ? 0 : segments.findIndex((segment) => segment.inode === inode)));
  return Math.min(segments.length, ...pinned.filter((index) => index >= 0));
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
