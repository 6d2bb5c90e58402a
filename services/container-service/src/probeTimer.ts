/** How long a health check's process may take to come up, and then to run: the first is the engine's time, not the check's. */
export class ProbeTimer {
  readonly #runMs: number;
  readonly #abort = new AbortController();
  #timer: NodeJS.Timeout;
  #expired: 'starting' | 'running' | undefined;
  #running = false;

  constructor(startMs: number, runMs: number) {
    this.#runMs = runMs;
    this.#timer = this.#after(startMs, 'starting');
  }

  /** Fires when one of the times is over. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Which time is over. */
  get expired(): 'starting' | 'running' | undefined {
    return this.#expired;
  }

  /** The process runs. */
  readonly started = (): void => {
    if (this.#running || this.#expired !== undefined) return;
    this.#running = true;
    clearTimeout(this.#timer);
    this.#timer = this.#after(this.#runMs, 'running');
  };

  stop(): void {
    clearTimeout(this.#timer);
  }

  #after(ms: number, which: 'starting' | 'running'): NodeJS.Timeout {
    return setTimeout(() => {
      this.#expired = which;
      this.#abort.abort();
    }, ms).unref();
  }
}
