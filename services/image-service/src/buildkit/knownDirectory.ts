/**
 * What is known of a directory of the client that stands here, so that what is as it was costs no look at the disk: the client's list that it was brought to,
 * and digests of what is in its directories. Good as long as nobody else writes there.
 */
import type { DirectoryDigests } from '../build/copy/contentHash.ts';

const lengthBytes = 4;

/** What is known of directories, all together: a list that is larger is not kept. */
export const mostKnownBytes = 16 * 1024 * 1024;

/** Messages one after the other, as they came. */
export class Listing {
  private bytes: Buffer;
  private end = 0;
  private position = 0;
  /** Whether it is of no use, since what was appended is more than is kept. */
  isTooLarge = false;

  constructor(bytes = Buffer.alloc(0)) {
    this.bytes = bytes;
    this.end = bytes.length;
  }

  get sizeBytes(): number {
    return this.bytes.length;
  }

  /** Holds nothing any more once it is larger than what is kept of one. */
  append(message: Buffer): void {
    const end = this.end + lengthBytes + message.length;
    if (this.isTooLarge || end > mostKnownBytes) {
      this.isTooLarge = true;
      this.bytes = Buffer.alloc(0);
      this.end = 0;
      return;
    }
    if (end > this.bytes.length) {
      const larger = Buffer.alloc(Math.min(Math.max(end, 2 * this.bytes.length, 4096), mostKnownBytes));
      this.bytes.copy(larger, 0, 0, this.end);
      this.bytes = larger;
    }
    this.bytes.writeUInt32LE(message.length, this.end);
    message.copy(this.bytes, this.end + lengthBytes);
    this.end = end;
  }

  /** What the reader has not passed yet. */
  get remainingBytes(): number {
    return this.end - this.position;
  }

  rewind(): void {
    this.position = 0;
  }

  /** The message that a reader is at; undefined at the end. */
  head(): Buffer | undefined {
    const { position } = this;
    if (position >= this.end) return undefined;
    return this.bytes.subarray(position + lengthBytes, position + lengthBytes + this.bytes.readUInt32LE(position));
  }

  next(): void {
    if (this.position < this.end) this.position += lengthBytes + this.bytes.readUInt32LE(this.position);
  }

  /** Whether the reader is at just this message, which is passed then. */
  pass(message: Buffer): boolean {
    const { bytes, position } = this;
    const from = position + lengthBytes;
    if (position >= this.end || bytes.readUInt32LE(position) !== message.length) return false;
    if (message.compare(bytes, from, from + message.length) !== 0) return false;
    this.position = from + message.length;
    return true;
  }

  /** What the reader has passed. */
  passed(): Listing {
    return new Listing(Buffer.from(this.bytes.subarray(0, this.position)));
  }
}

export class KnownDirectory implements DirectoryDigests {
  /** Undefined until it has once been brought here, and for one too large to be kept. */
  listing: Listing | undefined;
  private readonly digests = new Map<string, string>();
  private state = 0;
  private isChanging = false;

  /** Until `settle`, no digest is taken. */
  begin(): void {
    this.isChanging = true;
    // What goes of a directory without a list is told to nobody.
    if (this.listing === undefined) this.digests.clear();
    this.state++;
  }

  settle(listing: Listing): void {
    this.listing = listing.isTooLarge ? undefined : listing;
    this.isChanging = false;
    this.state++;
  }

  /** Forgets what stands on a path. */
  changed(path: string): void {
    for (let at = path.length; at >= 0; at = at === 0 ? -1 : Math.max(path.lastIndexOf('/', at - 1), 0))
      this.digests.delete(path.slice(0, at));
  }

  now(): number {
    return this.state;
  }

  get(path: string): string | undefined {
    return this.isChanging ? undefined : this.digests.get(path);
  }

  set(path: string, digest: string, asOf: number): void {
    if (!this.isChanging && asOf === this.state) this.digests.set(path, digest);
  }

  get sizeBytes(): number {
    return (this.listing?.sizeBytes ?? 0) + this.digests.size * digestBytes;
  }
}

/** About what a digest and its path take. */
const digestBytes = 300;
