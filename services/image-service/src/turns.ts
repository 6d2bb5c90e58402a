/** A long loop of quick system calls shares its thread with requests: it works a few milliseconds at a time. */
import { setImmediate as nextTurn } from 'node:timers/promises';

const turnMs = 5;

export class Turns {
  private endsAtMs = performance.now() + turnMs;
  private readonly signal: AbortSignal | undefined;

  /** @param signal - ends the loop: looked at when others have been let in, for they alone can have fired it. */
  constructor(signal?: AbortSignal) {
    this.signal = signal;
  }

  /** To be awaited between two steps: lets others in when this turn has been long enough. @throws what the signal was fired with. */
  async pass(): Promise<void> {
    if (performance.now() < this.endsAtMs) return;
    await nextTurn();
    this.endsAtMs = performance.now() + turnMs;
    this.signal?.throwIfAborted();
  }
}
