/** Things that are asked for by name before they are there. */
import { NotFound } from '@flotilla/errors';

/** How long a call waits for what it names. */
const patienceMs = 10_000;

export class WaitingRoom<T> {
  private readonly present = new Map<string, T>();
  private readonly waiting = new Map<string, Set<(thing: T) => void>>();

  has(name: string): boolean {
    return this.present.has(name);
  }

  get(name: string): T | undefined {
    return this.present.get(name);
  }

  enter(name: string, thing: T): void {
    this.present.set(name, thing);
    for (const give of this.waiting.get(name) ?? []) give(thing);
    this.waiting.delete(name);
  }

  leave(name: string, thing: T): void {
    if (this.present.get(name) === thing) this.present.delete(name);
  }

  /** @throws NotFound with `complaint` when it does not come. */
  async wait(name: string, complaint: string, signal: AbortSignal): Promise<T> {
    const known = this.present.get(name);
    if (known !== undefined) return known;
    signal.throwIfAborted();
    const waiting = this.waiting.get(name) ?? new Set();
    this.waiting.set(name, waiting);
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', giveUp);
        waiting.delete(give);
        if (waiting.size === 0 && this.waiting.get(name) === waiting) this.waiting.delete(name);
      };
      const give = (thing: T): void => {
        settle();
        resolve(thing);
      };
      const giveUp = (): void => {
        settle();
        reject(signal.reason);
      };
      const timer = setTimeout(() => {
        settle();
        reject(new NotFound(complaint));
      }, patienceMs);
      waiting.add(give);
      signal.addEventListener('abort', giveUp, { once: true });
    });
  }
}
