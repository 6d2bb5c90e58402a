/**
 * Finds where to start reading without an index: `--tail` scans backwards from the end, `--since` bisects by time. Both read
 * a few blocks of a log of any size.
 */
import type { FileHandle } from 'node:fs/promises';
import { bodyOffset, isPartial, newline, timeLength } from './record.ts';

const blockBytes = 64 * 1024;

/** What a backwards scan of one file found. */
export interface TailResult {
  /** offset of the first record to show */
  readonly offset: number;
  /** lines still to be looked for in the file before this one; 0: found all */
  readonly missing: number;
}

/**
 * The offset at which the last `lines` lines of a file begin; with 0, where the last whole record ends. A line is counted at
 * the record that ends it.
 *
 * @param newest - whether this is the last file of the log: an unfinished line at its very end counts as one.
 */
export async function tailOffset(file: FileHandle, sizeBytes: number, lines: number, newest: boolean): Promise<TailResult> {
  let found = 0;
  let isLastRecord = newest;
  // Start of the record after the one being looked at; undefined until the end of the last whole record is found.
  let next: number | undefined;
  // The first bytes of the block after this one: a record's fields may lie across two blocks.
  let following: Buffer = Buffer.alloc(0);
  let position = sizeBytes;
  while (position > 0) {
    const length = Math.min(blockBytes, position);
    position -= length;
    const block = Buffer.allocUnsafe(length + following.length);
    await readFully(file, block.subarray(0, length), position);
    following.copy(block, length);
    for (let end = length - 1; end >= -1; ) {
      const previous = end >= 0 ? block.lastIndexOf(newline, end) : -1;
      if (previous < 0 && position > 0) break;
      if (next === undefined) {
        // What stands behind the last newline is a record being written just now: not there yet.
        if (previous < 0) break;
        next = position + previous + 1;
      } else {
        if (isLastRecord || !isPartial(block, previous + 1)) found += 1;
        if (found > lines) return { offset: next, missing: 0 };
        isLastRecord = false;
        next = position + previous + 1;
      }
      if (previous < 0) break;
      end = previous - 1;
    }
    following = Buffer.from(block.subarray(0, bodyOffset));
  }
  return { offset: 0, missing: lines - found };
}

/**
 * The offset of the first record at or after a time, by bisection. Times grow, except where a clock was set back: then one
 * of the places that fit.
 *
 * @param time - in the log's own form, as {@link formatTime} gives it.
 */
export async function sinceOffset(file: FileHandle, sizeBytes: number, time: string): Promise<number> {
  // `low` is always the start of a record.
  let low = 0;
  let high = sizeBytes;
  while (high - low > blockBytes) {
    const middle = low + Math.floor((high - low) / 2);
    const record = await recordAfter(file, middle, high);
    if (record !== undefined && record.time < time) low = record.offset;
    else high = middle;
  }
  const block = Buffer.allocUnsafe(blockBytes);
  for (let position = low; position < sizeBytes; ) {
    const { bytesRead } = await file.read(block, 0, Math.min(blockBytes, sizeBytes - position), position);
    let start = 0;
    while (start + timeLength <= bytesRead) {
      if (block.toString('latin1', start, start + timeLength) >= time) return position + start;
      const end = block.subarray(0, bytesRead).indexOf(newline, start);
      if (end < 0) break;
      start = end + 1;
    }
    if (start === 0) break;
    position += start;
  }
  return sizeBytes;
}

/** The first record that begins behind `offset` and before `limit`. */
async function recordAfter(file: FileHandle, offset: number, limit: number): Promise<{ offset: number; time: string } | undefined> {
  const block = Buffer.allocUnsafe(blockBytes / 4);
  for (let position = offset; position < limit; position += block.length) {
    const { bytesRead } = await file.read(block, 0, block.length, position);
    const end = block.subarray(0, bytesRead).indexOf(newline);
    if (end >= 0) {
      const start = position + end + 1;
      const time = Buffer.alloc(timeLength);
      const read = await file.read(time, 0, timeLength, start);
      return start < limit && read.bytesRead === timeLength ? { offset: start, time: time.toString('latin1') } : undefined;
    }
    if (bytesRead < block.length) return undefined;
  }
  return undefined;
}

async function readFully(file: FileHandle, target: Buffer, position: number): Promise<void> {
  let done = 0;
  while (done < target.length) {
    const { bytesRead } = await file.read(target, done, target.length - done, position + done);
    if (bytesRead === 0) {
      target.fill(0, done);
      return;
    }
    done += bytesRead;
  }
}
