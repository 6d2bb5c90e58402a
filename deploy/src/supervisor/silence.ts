/**
 * How long a process has said nothing, in time that its supervisor has lived through too. While the machine is frozen (a virtual machine that is moved, or gets no
 * time) or so busy that the supervisor itself hardly runs, nobody has asked: after that whoever is asked gets the chance to answer.
 */

export class Silence {
  private readonly mostBetweenLooksMs: number;
  private lookedMs: number;
  private totalMs = 0;

  /** @param mostBetweenLooksMs - the longest that can be between two looks when the supervisor runs. */
  constructor(nowMs: number, mostBetweenLooksMs: number) {
    this.lookedMs = nowMs;
    this.mostBetweenLooksMs = mostBetweenLooksMs;
  }

  /** @returns for how long there has been no answer. */
  look(nowMs: number, answered: boolean): number {
    const passedMs = Math.min(nowMs - this.lookedMs, this.mostBetweenLooksMs);
    this.lookedMs = nowMs;
    this.totalMs = answered ? 0 : this.totalMs + passedMs;
    return this.totalMs;
  }
}
