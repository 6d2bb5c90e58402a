/** Work that holds up this process, a piece each turn of its event loop: between two of them answers of Redis are read, however many wait. */
import { setImmediate } from 'node:timers/promises';

export class LoopTurns {
  private last: Promise<void> = Promise.resolve();

  /** @returns in a turn of one's own. */
  next(): Promise<void> {
    this.last = this.last.then(() => setImmediate());
    return this.last;
  }
}
