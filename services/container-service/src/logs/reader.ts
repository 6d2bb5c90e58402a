/**
 * Reads a container's log: `logs`, `logs -f` and `attach` are this one code path.
 *
 * The log is complete when the container's exit was seen *and then* its end is read (conmon writes the exit file last). While
 * following, a changed directory wakes the reader; it holds the file it reads open, so a rotation under it costs nothing, and
 * goes on with the next segment once that one has begun (conmon has then closed the old one). Its consumer pulls: a slow
 * client costs one buffer.
 */
import { type FSWatcher, watch } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { LogFramer } from './framer.ts';
import type { LogPins, Pin } from './pins.ts';
import { formatTime } from './record.ts';
import { sinceOffset, tailOffset } from './seek.ts';
import {
  type LogPlace,
  type LogPosition,
  listSegments,
  logStart,
  openSegment,
  readableBytes,
  type Segment,
  segmentIndex,
  statIfExists,
} from './segments.ts';

export interface ReadLogOptions {
  /** the file conmon writes; rotated ones stand beside it */
  readonly path: string;
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** a TTY's bytes are not framed */
  readonly tty: boolean;
  readonly timestamps?: boolean;
  /** text in front of each line, as {@link logDetails} gives it */
  readonly details?: string;
  /** only the last lines; absent: all */
  readonly tail?: number | undefined;
  /** nanoseconds since the epoch */
  readonly since?: bigint;
  readonly until?: bigint;
  /** goes on with what is written later, until `ended` */
  readonly follow?: boolean;
  /** resolves when the container's exit file exists; without it a following reader only ends by its signal */
  readonly ended?: Promise<unknown>;
  readonly signal?: AbortSignal;
  /** starts here instead of at the beginning; excludes `tail` */
  readonly from?: LogPosition | LogPlace;
  /** claims segments against rotation while this reader lives */
  readonly pins?: LogPins;
}

const inputBytes = 512 * 1024;
/** The first read of a file: more would be for nothing where little is asked for. */
const firstBytes = 64 * 1024;

const nothing = Buffer.alloc(0);

/** Reads a log as the client shall see it: stdcopy frames, or raw bytes with a TTY. The first chunk is empty: the reader has found its place. */
export function readLog(options: ReadLogOptions): LogReader {
  return new LogReader(options);
}

export class LogReader implements AsyncIterable<Buffer> {
  readonly #options: ReadLogOptions;
  readonly #framer: LogFramer;
  #position: LogPosition;
  #watcher: FSWatcher | undefined;
  #changed = true;
  #wake: (() => void) | undefined;

  constructor(options: ReadLogOptions) {
    this.#options = options;
    this.#position = options.from ?? logStart;
    this.#framer = new LogFramer({
      stdout: options.stdout,
      stderr: options.stderr,
      framed: !options.tty,
      timestamps: options.timestamps,
      details: options.details,
      // What is followed may come before a time that is still to come.
      since: options.since === undefined ? undefined : formatTime(options.since),
      until: options.until === undefined ? undefined : formatTime(options.until),
      ...(options.from !== undefined && 'unfinished' in options.from ? { unfinished: options.from.unfinished } : {}),
    });
  }

  /** Behind the last record given out: a later reader that starts here neither loses nor doubles a byte. */
  get place(): LogPlace {
    return { ...this.#position, unfinished: this.#framer.unfinished };
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    const { signal, ended, until, follow = false } = this.#options;
    const pin = this.#options.pins?.pin(this.#options.path, this.#position.inode, this.#position.offset);
    let exited = false;
    const wake = (): void => this.#notify();
    ended?.then(
      () => {
        exited = true;
        wake();
      },
      () => {
        exited = true;
        wake();
      },
    );
    signal?.addEventListener('abort', wake);
    let untilTimer: NodeJS.Timeout | undefined;
    if (follow) {
      this.#watch();
      if (until !== undefined) {
        const wait = Number(until / 1_000_000n) - Date.now();
        untilTimer = setTimeout(
          () => {
            exited = true;
            wake();
          },
          Math.min(Math.max(wait, 0), 2 ** 31 - 1),
        );
      }
    }
    try {
      yield* this.#read(follow, () => exited, pin);
    } finally {
      clearTimeout(untilTimer);
      this.#watcher?.close();
      signal?.removeEventListener('abort', wake);
      pin?.release();
    }
  }

  async *#read(follow: boolean, exited: () => boolean, pin: Pin | undefined): AsyncGenerator<Buffer> {
    const { path, signal } = this.#options;
    let file: FileHandle | undefined;
    try {
      const start = await this.#findStart();
      if (start !== undefined) {
        file = start.file;
        this.#position = start.position;
      }
      yield nothing;
      let lastPass = !follow;
      while (!signal?.aborted) {
        // Read before looking for the end: what was written before the exit was seen must still be found below.
        const mayEnd = lastPass;
        if (follow && exited()) lastPass = true;
        this.#changed = false;
        if (file === undefined) file = await this.#openNext(undefined);
        if (file !== undefined) {
          for await (const chunk of this.#readToEnd(file, pin)) {
            yield chunk;
            if (signal?.aborted) return;
          }
          if (this.#framer.done) return;
          const current = statIfExists(path);
          if (current === undefined ? listSegments(path).at(-1)?.inode !== this.#position.inode : current.inode !== this.#position.inode) {
            // A newer segment has begun, so this one is closed: its last bytes, then the next.
            for await (const chunk of this.#readToEnd(file, pin)) yield chunk;
            if (this.#framer.done) return;
            const next = await this.#openNext(this.#position.inode);
            if (next !== undefined) {
              await file.close();
              file = next;
              continue;
            }
          }
        }
        if (mayEnd) return;
        if (!lastPass) await this.#change();
      }
    } finally {
      await file?.close();
    }
  }

  /** Gives out everything from the position to the end of `file`. */
  async *#readToEnd(file: FileHandle, pin: Pin | undefined): AsyncGenerator<Buffer> {
    let input = Buffer.allocUnsafe(firstBytes);
    let kept = 0;
    let offset = this.#position.offset;
    if (pin !== undefined) pin.inode = this.#position.inode;
    for (;;) {
      const { bytesRead } = await file.read(input, kept, input.length - kept, offset + kept);
      if (bytesRead === 0) return;
      const filled = kept + bytesRead;
      const { output, used } = this.#framer.convert(input.subarray(0, filled));
      offset += used;
      this.#position = { inode: this.#position.inode, offset };
      if (output.length > 0) yield output;
      if (pin !== undefined) pin.offset = offset;
      if (this.#framer.done) return;
      kept = filled - used;
      const isFull = filled === input.length && input.length < inputBytes;
      if (isFull || kept === input.length) {
        const larger = Buffer.allocUnsafe(Math.max(inputBytes, kept * 2));
        input.copy(larger, 0, used, filled);
        input = larger;
      } else {
        input.copyWithin(0, used, filled);
      }
    }
  }

  /** The first file to read and the place in it; undefined while nothing was ever written. */
  async #findStart(): Promise<{ file: FileHandle; position: LogPosition } | undefined> {
    const { path, from, tail, since } = this.#options;
    if (from !== undefined && from.inode !== 0) {
      const file = await openSegment(path, from.inode);
      // Rotated away altogether: what is left begins with the oldest segment.
      if (file !== undefined) return { file, position: from };
    }
    const segments = listSegments(path);
    const start = tail === undefined ? undefined : await tailStart(path, segments, tail);
    if (since === undefined) return start ?? this.#openOldest(segments);
    await start?.file.close();
    return this.#sinceStart(segments, start?.position, formatTime(since));
  }

  async #openOldest(segments: readonly Segment[]): Promise<{ file: FileHandle; position: LogPosition } | undefined> {
    const oldest = segments[0];
    if (oldest === undefined) return undefined;
    const file = await openSegment(this.#options.path, oldest.inode);
    return file === undefined ? undefined : { file, position: { inode: oldest.inode, offset: 0 } };
  }

  async #sinceStart(
    segments: readonly Segment[],
    tail: LogPosition | undefined,
    time: string,
  ): Promise<{ file: FileHandle; position: LogPosition } | undefined> {
    const first = tail === undefined ? 0 : segments.findIndex((segment) => segment.inode === tail.inode);
    for (const segment of segments.slice(Math.max(first, 0))) {
      const file = await openSegment(this.#options.path, segment.inode);
      if (file === undefined) continue;
      const sizeBytes = await readableBytes(file, segment);
      const offset = await sinceOffset(file, sizeBytes, time);
      const isLast = segment === segments.at(-1);
      if (offset < sizeBytes || isLast) {
        const floor = tail?.inode === segment.inode ? tail.offset : 0;
        return { file, position: { inode: segment.inode, offset: Math.max(offset, floor) } };
      }
      await file.close();
    }
    return undefined;
  }

  /** Opens the segment after the one with `inode`, or the oldest there is, and moves the position to its start. */
  async #openNext(inode: number | undefined): Promise<FileHandle | undefined> {
    const segments = listSegments(this.#options.path);
    const next = segments[(inode === undefined ? -1 : segmentIndex(segments, inode)) + 1];
    if (next === undefined) return undefined;
    const file = await openSegment(this.#options.path, next.inode);
    if (file !== undefined) this.#position = { inode: next.inode, offset: 0 };
    return file;
  }

  #watch(): void {
    this.#watcher = watch(dirname(this.#options.path), { persistent: false }, () => this.#notify());
    // The directory is removed with the container; its signal or `ended` then ends the reading.
    this.#watcher.on('error', () => this.#notify());
  }

  #notify(): void {
    this.#changed = true;
    this.#wake?.();
  }

  async #change(): Promise<void> {
    while (!this.#changed && !this.#options.signal?.aborted) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#wake = undefined;
  }
}

/** Where the last lines begin, in the file that holds them. */
async function tailStart(
  path: string,
  segments: readonly Segment[],
  lines: number,
): Promise<{ file: FileHandle; position: LogPosition } | undefined> {
  let missing = lines;
  let start: { file: FileHandle; position: LogPosition } | undefined;
  for (const segment of [...segments].reverse()) {
    const { inode } = segment;
    const file = await openSegment(path, inode);
    if (file === undefined) break;
    await start?.file.close();
    try {
      const result = await tailOffset(file, await readableBytes(file, segment), missing, segment === segments.at(-1));
      start = { file, position: { inode, offset: result.offset } };
      missing = result.missing;
    } catch (error) {
      await file.close();
      throw error;
    }
    if (missing === 0) break;
  }
  return start;
}
