/** Answers of upstream servers, for as long as they say. */
import { aged, keepSeconds } from './messageTtl.ts';

const maxEntries = 5_000;
const maxKeepSeconds = 3_600;

interface Entry {
  readonly answer: Buffer;
  readonly storedMs: number;
  readonly untilMs: number;
}

export class AnswerCache {
  private readonly entries = new Map<string, Entry>();
  private readonly now: () => number;

  /** @param now - milliseconds; another clock only in tests. */
  constructor(now: () => number = () => performance.now()) {
    this.now = now;
  }

  get(key: string): Buffer | undefined {
    const entry = this.entries.get(key);
    if (entry === undefined) return undefined;
    const now = this.now();
    if (now < entry.untilMs) return aged(entry.answer, Math.floor((now - entry.storedMs) / 1_000));
    this.entries.delete(key);
    return undefined;
  }

  put(key: string, answer: Buffer): void {
    const seconds = Math.min(keepSeconds(answer), maxKeepSeconds);
    if (seconds === 0) return;
    const storedMs = this.now();
    this.entries.delete(key);
    this.entries.set(key, { answer: Buffer.from(answer), storedMs, untilMs: storedMs + seconds * 1_000 });
    // The oldest goes first.
    for (const oldest of this.entries.keys()) {
      if (this.entries.size <= maxEntries) break;
      this.entries.delete(oldest);
    }
  }
}
