/**
 * Keeps rotation from eating an attached reader's bytes: a pinned reader holds its segment and every newer one.
 *
 * Pins live in memory: a reader dies with this process, and so do its pins. Those of other instances' readers are read from their claims (logClaims.ts).
 */

/** One reader's claim; its `inode` follows the reader, 0 while it has not opened a file yet. */
export interface Pin {
  inode: number;
  /** bytes of that file already delivered */
  offset: number;
  release(): void;
}

export class LogPins {
  readonly #pins = new Map<string, Set<Pin>>();
  readonly #listeners = new Map<string, Set<() => void>>();

  /** Claims the log at `path` from a position on. */
  pin(path: string, inode: number, offset: number): Pin {
    const pins = this.#pins.get(path) ?? new Set<Pin>();
    this.#pins.set(path, pins);
    const pin: Pin = {
      inode,
      offset,
      release: () => {
        pins.delete(pin);
        if (pins.size === 0) this.#pins.delete(path);
        for (const listener of this.#listeners.get(path) ?? []) listener();
      },
    };
    pins.add(pin);
    return pin;
  }

  /** The claims on a log. */
  of(path: string): readonly Pin[] {
    return [...(this.#pins.get(path) ?? [])];
  }

  /** Calls back whenever a claim on a log is given up. */
  onRelease(path: string, listener: () => void): () => void {
    const listeners = this.#listeners.get(path) ?? new Set();
    this.#listeners.set(path, listeners);
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#listeners.delete(path);
    };
  }
}
