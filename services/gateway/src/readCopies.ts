/**
 * Copies of answers to reads that are asked for again and again: list and inspect. A copy is used only while the service's change mark (packages/records)
 * is the one that was read before the copy was fetched, so a client never sees less than what it was told. Looking at the mark costs a
 * microsecond or two, asking the service a call.
 *
 * Where there is no mark to be read (another host, a service without records) nothing is kept.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { AgeingList } from './ageingList.ts';

const markBytes = 16;
/** How often it is checked that the open mark still is the file at its path. */
const checkEveryMs = 1000;

/** An answer as it is kept: bytes, or what has other bytes as time goes by. */
export type Kept = Uint8Array | AgeingList;

export const bytesOf = (kept: Kept): Uint8Array => (kept instanceof AgeingList ? kept.bytes() : kept);

interface Copy {
  readonly mark: string;
  readonly answer: Promise<Kept>;
  /** undefined until the answer is there */
  kept: Kept | undefined;
  /** 0 until the answer is there */
  bytes: number;
}

export interface ReadCopiesOptions {
  /** The paths of the marks of the services that the answers depend on; undefined while one is not known. */
  readonly markPaths: readonly (() => string | undefined)[];
  /** All copies together. */
  readonly limitBytes?: number;
  readonly now?: () => number;
}

export class ReadCopies {
  private readonly limitBytes: number;
  private readonly marks: readonly MarkReader[];
  private readonly copies = new Map<string, Copy>();
  private bytes = 0;

  constructor(options: ReadCopiesOptions) {
    this.limitBytes = options.limitBytes ?? 16 * 1024 * 1024;
    const now = options.now ?? (() => performance.now());
    this.marks = options.markPaths.map((path) => new MarkReader(path, now));
  }

  /** @param key - all that the answer depends on but the service's records. */
  async read(key: string, fetch: () => Promise<Kept>): Promise<Uint8Array> {
    return bytesOf(await this.copy(key, fetch));
  }

  /** The answer that {@link read} would give at once; undefined when it would have to wait. */
  ready(key: string): Uint8Array | undefined {
    const known = this.copies.get(key);
    return known?.kept === undefined || known.mark !== this.readMark() ? undefined : bytesOf(known.kept);
  }

  private copy(key: string, fetch: () => Promise<Kept>): Promise<Kept> {
    const mark = this.readMark();
    if (mark === undefined) return fetch();
    const known = this.copies.get(key);
    if (known !== undefined && known.mark === mark) return known.answer;
    if (known !== undefined) this.drop(key, known);
    const copy: Copy = { mark, answer: fetch(), kept: undefined, bytes: 0 };
    this.copies.set(key, copy);
    copy.answer.then(
      (answer) => this.keep(key, copy, answer),
      () => this.drop(key, copy),
    );
    return copy.answer;
  }

  private keep(key: string, copy: Copy, kept: Kept): void {
    if (this.copies.get(key) !== copy) return;
    copy.kept = kept;
    copy.bytes = kept.length + key.length;
    this.bytes += copy.bytes;
    // The oldest go first; they are the first in the map.
    for (const [oldest, other] of this.copies) {
      if (this.bytes <= this.limitBytes) break;
      if (other.bytes > 0) this.drop(oldest, other);
    }
  }

  private drop(key: string, copy: Copy): void {
    if (this.copies.get(key) !== copy) return;
    this.copies.delete(key);
    this.bytes -= copy.bytes;
  }

  private readMark(): string | undefined {
    let marks = '';
    for (const each of this.marks) {
      const mark = each.read();
      if (mark === undefined) return undefined;
      marks += mark;
    }
    return marks;
  }

  close(): void {
    for (const mark of this.marks) mark.close();
  }
}

class MarkReader {
  private readonly path: () => string | undefined;
  private readonly now: () => number;
  private readonly buffer = Buffer.alloc(markBytes);
  private fd: number | undefined;
  private checkAt = 0;

  constructor(path: () => string | undefined, now: () => number) {
    this.path = path;
    this.now = now;
  }

  read(): string | undefined {
    try {
      const now = this.now();
      if (now >= this.checkAt) {
        this.checkAt = now + checkEveryMs;
        if (this.fd !== undefined && fstatSync(this.fd).nlink === 0) this.close();
        if (this.fd === undefined) {
          const path = this.path();
          this.fd = path === undefined ? undefined : openSync(path, 'r');
        }
      }
      if (this.fd === undefined) return undefined;
      return readSync(this.fd, this.buffer, 0, markBytes, 0) === markBytes ? this.buffer.toString('latin1') : undefined;
    } catch {
      this.close();
      return undefined;
    }
  }

  close(): void {
    if (this.fd !== undefined) closeSync(this.fd);
    this.fd = undefined;
  }
}
