/**
 * The files one log consists of: `path` is being written, `path.1` is the newest rotated one, `path.2` older, and so on; rotated ones may be compressed.
 *
 * Rotation renames, so a file is known by its inode and never by its name: a reader's position is an inode and an offset. A compressed one has an inode of
 * its own and knows that of the file it was.
 */
import { fstatSync, statSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { open } from 'node:fs/promises';
import { compressedSuffix, inodeBefore, openDecompressed } from './compressed.ts';
import { tailOffset } from './seek.ts';

/** A place in a log that survives rotation. `inode` 0 means: before the first byte that will ever be written. */
export interface LogPosition {
  readonly inode: number;
  /** bytes from the start of that file */
  readonly offset: number;
}

/** Where a reader stands: what another needs to go on as the same one would. */
export interface LogPlace extends LogPosition {
  /** the streams whose line is unfinished there: 1 standard output, 2 standard error, 3 both */
  readonly unfinished: number;
}

export const logStart: LogPosition = { inode: 0, offset: 0 };

export interface Segment {
  readonly path: string;
  readonly inode: number;
  /** on the disk */
  readonly sizeBytes: number;
  readonly compressed: boolean;
}

/** The name of the n-th rotated file; 0 is the one being written. */
export function segmentPath(path: string, index: number): string {
  return index === 0 ? path : `${path}.${index}`;
}

/** The existing files of a log, oldest first. */
export function listSegments(path: string): Segment[] {
  const found: Segment[] = [];
  for (let index = 0; ; index += 1) {
    const segment = segmentAt(segmentPath(path, index), index > 0);
    if (segment !== undefined) found.unshift(segment);
    else if (index > 0) return found;
  }
}

/** A file and, where its compressing was cut off, not the other one that is the same. */
function segmentAt(name: string, rotated: boolean): Segment | undefined {
  const plain = statIfExists(name);
  if (plain !== undefined) return { path: name, ...plain, compressed: false };
  const compressed = rotated ? statIfExists(name + compressedSuffix) : undefined;
  return compressed === undefined ? undefined : { path: name + compressedSuffix, ...compressed, compressed: true };
}

/** Which of the segments has an inode, or had it before it was compressed; -1 when none. */
export function segmentIndex(segments: readonly Segment[], inode: number): number {
  const index = segments.findIndex((segment) => segment.inode === inode);
  return index >= 0 ? index : segments.findLastIndex((segment) => segment.compressed && inodeBefore(segment.path) === inode);
}

/** The inodes of a log's compressed files, by those of the files that they were: those are free, and a new file may get one later. */
export function compressedInodes(path: string): Map<number, number> {
  const inodes = new Map<number, number>();
  const segments = listSegments(path);
  for (const segment of segments) {
    const before = segment.compressed ? inodeBefore(segment.path) : undefined;
    if (before !== undefined && !segments.some(({ inode }) => inode === before)) inodes.set(before, segment.inode);
  }
  return inodes;
}

/** Where a log ends now, behind its last whole record: attach without `logs` starts here. */
export async function logEnd(path: string): Promise<LogPosition> {
  const newest = listSegments(path).at(-1);
  const file = newest === undefined ? undefined : await openSegment(path, newest.inode);
  if (newest === undefined || file === undefined) return logStart;
  try {
    return { inode: newest.inode, offset: (await tailOffset(file, newest.sizeBytes, 0, true)).offset };
  } finally {
    await file.close();
  }
}

/** Opens a segment by inode: its name may have changed since it was listed. What is compressed is read from a copy that is not. */
export async function openSegment(path: string, inode: number): Promise<FileHandle | undefined> {
  const segments = listSegments(path);
  const segment = segments[segmentIndex(segments, inode)];
  if (segment === undefined) return undefined;
  const handle = await openIfExists(segment.path);
  if (handle !== undefined && fstatSync(handle.fd).ino === segment.inode) {
    return segment.compressed ? await openDecompressed(handle, path) : handle;
  }
  await handle?.close();
  return openSegment(path, inode);
}

/** How much there is to read of a segment that is open. */
export async function readableBytes(file: FileHandle, segment: Segment): Promise<number> {
  return segment.compressed ? (await file.stat()).size : segment.sizeBytes;
}

async function openIfExists(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** At once: for a look at a name, asking a thread to costs far more than the look. */
export function statIfExists(path: string): { inode: number; sizeBytes: number } | undefined {
  const status = statSync(path, { throwIfNoEntry: false });
  return status === undefined ? undefined : { inode: status.ino, sizeBytes: status.size };
}

export function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
