/**
 * A list of containers, kept as bytes, whose ages (`5 seconds` of `Up 5 seconds`) go on: the service says where they stand, and they are written anew when
 * the list is asked for.
 */
import type { ListedAge } from '@flotilla/contracts/flotilla/container/v1/containers';
import { humanDuration } from '@flotilla/engine-api';

/** An age may be this much late. */
const lateMs = 100;

export class AgeingList {
  /** What lies between the ages. */
  private readonly parts: readonly Uint8Array[];
  private readonly since: readonly number[];
  private readonly shape: (json: Uint8Array) => Uint8Array;
  private readonly now: () => number;
  private words: readonly string[];
  private current: Uint8Array;
  private until: number;

  /** @param shape - makes of the service's document the one that is shown. */
  constructor(json: Uint8Array, ages: readonly ListedAge[], shape: (json: Uint8Array) => Uint8Array, now: () => number = Date.now) {
    let end = 0;
    const parts: Uint8Array[] = [];
    const words: string[] = [];
    for (const { offset, length } of ages) {
      parts.push(json.subarray(end, offset));
      end = offset + length;
      words.push(Buffer.from(json.subarray(offset, end)).toString('latin1'));
    }
    parts.push(json.subarray(end));
    this.parts = parts;
    this.since = ages.map(({ sinceMs }) => sinceMs);
    this.words = words;
    this.shape = shape;
    this.now = now;
    this.current = shape(json);
    this.until = now() + lateMs;
  }

  /** The document now. */
  bytes(): Uint8Array {
    const now = this.now();
    // A clock that was set back is a reason to look again too.
    if (now < this.until && now > this.until - 2 * lateMs) return this.current;
    this.until = now + lateMs;
    const words = this.since.map((since) => humanDuration(now - since));
    if (words.every((word, index) => word === this.words[index])) return this.current;
    this.words = words;
    this.current = this.shape(
      Buffer.concat(
        this.parts.flatMap((part, index) => (index < words.length ? [part, Buffer.from(words[index] ?? '', 'latin1')] : [part])),
      ),
    );
    return this.current;
  }

  /** Bytes it takes in memory. */
  get length(): number {
    return this.parts.reduce((sum, part) => sum + part.length, 0) + this.current.length;
  }
}
