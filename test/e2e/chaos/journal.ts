/** What clients were told and what was done to the stack meanwhile: from both, who saw which harm. */

export interface Call {
  readonly what: string;
  readonly beganMs: number;
  readonly endedMs: number;
  /** What the client was told instead of a success. */
  readonly error?: string;
}

export interface Harm {
  /** As in `kill gateway`. */
  readonly what: string;
  readonly beganMs: number;
  /** When the stack was whole again, as a client sees it. */
  readonly recoveredMs: number;
  /** From the end of the harm (a stopped process that goes on, a link that is mended) until then. */
  readonly tookMs: number;
}

export class Journal {
  readonly calls: Call[] = [];
  readonly harms: Harm[] = [];
  /** What must never happen, in words. */
  readonly violations: string[] = [];
  /** Processes that were killed. One that was stopped is not among them, however long: what its clients hold may wait for it, and not end. */
  readonly killed = new Set<number>();
  /** The harm that is done right now, or was last. */
  private current: { what: string; beganMs: number } | undefined;

  call(what: string, beganMs: number, error?: string): void {
    this.calls.push({ what, beganMs, endedMs: performance.now(), ...(error === undefined ? {} : { error }) });
  }

  violated(what: string): void {
    this.violations.push(`${what} [${this.current?.what ?? 'before any harm'}]`);
  }

  begin(what: string): void {
    this.current = { what, beganMs: performance.now() };
  }

  recovered(endOfHarmMs: number): void {
    if (this.current === undefined) return;
    const recoveredMs = performance.now();
    this.harms.push({ ...this.current, recoveredMs, tookMs: recoveredMs - endOfHarmMs });
  }

  /** Whether a gateway was killed, and with it connections, since then. */
  lostConnectionsSince(beganMs: number): boolean {
    const cuts = (what: string): boolean => what === 'kill gateway';
    return (
      this.harms.some((harm) => cuts(harm.what) && harm.recoveredMs >= beganMs) || (this.current !== undefined && cuts(this.current.what))
    );
  }

  /** Failed calls that overlap with the harm. */
  seenBy(harm: Harm): readonly Call[] {
    return this.calls.filter((call) => call.error !== undefined && call.endedMs >= harm.beganMs && call.beganMs <= harm.recoveredMs);
  }
}
