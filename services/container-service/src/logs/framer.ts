/**
 * Turns records of the log into what a client reads: stdcopy frames (or raw bytes for a TTY), one frame a line, with the time
 * and details in front of a line when asked. Works on whole buffers, since logs are read at hundreds of megabytes a second.
 */
import { bodyOffset, isPartial, newline, streamOf, timeLength } from './record.ts';

export interface FramerOptions {
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** frames, as without a TTY; false: the bytes as they are */
  readonly framed: boolean;
  readonly timestamps?: boolean;
  /** text in front of each line, ending in a space: what `details` shows */
  readonly details?: string;
  /** the first time to show, in the log's own form; earlier records are left out until one is not earlier */
  readonly since?: string;
  /** the last time to show, in the log's own form; a later record ends the reading */
  readonly until?: string;
  /** the streams whose line is unfinished where the input begins: 1 standard output, 2 standard error, 3 both */
  readonly unfinished?: number;
}

const headerBytes = 8;
const zulu = 0x5a;
const space = 0x20;

export class LogFramer {
  readonly #options: FramerOptions;
  readonly #details: Buffer;
  #since: Buffer | undefined;
  readonly #until: Buffer | undefined;
  /** whether a line of that stream is unfinished: its next piece gets no time of its own */
  readonly #unfinished: boolean[];
  #done = false;

  constructor(options: FramerOptions) {
    this.#options = options;
    this.#details = Buffer.from(options.details ?? '');
    const unfinished = options.unfinished ?? 0;
    this.#unfinished = [false, (unfinished & 1) !== 0, (unfinished & 2) !== 0];
    this.#since = options.since === undefined ? undefined : Buffer.from(options.since, 'latin1');
    this.#until = options.until === undefined ? undefined : Buffer.from(options.until, 'latin1');
  }

  /** The streams whose line is unfinished behind what was converted. */
  get unfinished(): number {
    return (this.#unfinished[1] ? 1 : 0) + (this.#unfinished[2] ? 2 : 0);
  }

  /** Whether a record later than `until` was met: nothing more is to be shown. */
  get done(): boolean {
    return this.#done;
  }

  /**
   * Converts the whole records at the start of `input`.
   *
   * @returns the bytes for the client, and how many bytes of `input` were used (the rest is the beginning of a record).
   */
  convert(input: Buffer): { output: Buffer; used: number } {
    const { stdout, stderr, framed, timestamps = false } = this.#options;
    const details = this.#details;
    const until = this.#until;
    const prefixBytes = details.length + (timestamps ? timeLength + 2 : 0);
    // A record's own fields make room for header and time; only details may need more.
    let output: Buffer = Buffer.allocUnsafe(input.length + headerBytes);
    let out = 0;
    let start = 0;
    // The frame that a piece without an end left open, so that its line stays in one frame.
    let openFrame = -1;
    let openStream = 0;
    while (start < input.length) {
      const end = input.indexOf(newline, start);
      if (end < 0) break;
      if (end - start < bodyOffset) {
        // Not a record of ours (a torn write before a crash): skipped.
        start = end + 1;
        continue;
      }
      if (until !== undefined && input.compare(until, 0, timeLength, start, start + timeLength) > 0) {
        this.#done = true;
        break;
      }
      if (this.#since !== undefined) {
        if (input.compare(this.#since, 0, timeLength, start, start + timeLength) < 0) {
          start = end + 1;
          continue;
        }
        this.#since = undefined;
      }
      const stream = streamOf(input, start);
      const partial = isPartial(input, start);
      if (stream === 1 ? stdout : stderr) {
        const bodyStart = start + bodyOffset;
        const bodyEnd = partial ? end : end + 1;
        const needed = out + headerBytes + prefixBytes + (bodyEnd - bodyStart);
        if (needed > output.length) output = grown(output, out, needed + (input.length - end));
        if (framed && !(openFrame >= 0 && openStream === stream)) {
          if (openFrame >= 0) output.writeUInt32BE(out - openFrame - headerBytes, openFrame + 4);
          openFrame = out;
          openStream = stream;
          output.writeUInt32BE(stream * 0x1000000, out);
          out += headerBytes;
        }
        if (prefixBytes > 0 && !this.#unfinished[stream]) {
          if (timestamps) {
            out += input.copy(output, out, start, start + timeLength);
            output[out++] = zulu;
            output[out++] = space;
          }
          out += details.copy(output, out);
        }
        out += input.copy(output, out, bodyStart, bodyEnd);
        if (framed && !partial) {
          output.writeUInt32BE(out - openFrame - headerBytes, openFrame + 4);
          openFrame = -1;
        }
      }
      this.#unfinished[stream] = partial;
      start = end + 1;
    }
    if (openFrame >= 0) output.writeUInt32BE(out - openFrame - headerBytes, openFrame + 4);
    return { output: output.subarray(0, out), used: start };
  }
}

function grown(buffer: Buffer, used: number, needed: number): Buffer {
  const larger = Buffer.allocUnsafe(needed + Math.floor(buffer.length / 2));
  buffer.copy(larger, 0, 0, used);
  return larger;
}
