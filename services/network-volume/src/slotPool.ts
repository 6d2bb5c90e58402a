/** Network namespaces made ahead, so that a start finds one ready. */
import type { Slot } from './hostNetwork.ts';

interface SlotMaker {
  makeSlot(): Slot;
  removeSlot(name: string): void;
}

const quietMs = 15;

export class SlotPool {
  private readonly maker: SlotMaker;
  private readonly size: number;
  private readonly onError: (error: unknown) => void;
  private readonly ready: Slot[] = [];
  private timer: NodeJS.Timeout | undefined;
  private closed = false;

  /** @param options.size - how many to keep ready; 0 makes each when it is asked for. */
  constructor(maker: SlotMaker, options: { size: number; onError: (error: unknown) => void }) {
    this.maker = maker;
    this.size = options.size;
    this.onError = options.onError;
  }

  /** A slot, from the pool or made now. */
  take(): Slot {
    const slot = this.ready.shift() ?? this.maker.makeSlot();
    this.refillLater();
    return slot;
  }

  /** Names of slots that nobody has taken. */
  idle(): string[] {
    return this.ready.map(({ name }) => name);
  }

  /** Fills the pool one slot at a time, when no slot has been asked for a while: making one takes some milliseconds that a start would wait. */
  refillLater(): void {
    if (this.closed || this.ready.length >= this.size) return;
    if (this.timer !== undefined) {
      this.timer.refresh();
      return;
    }
    this.timer = setTimeout(() => {
      this.timer = undefined;
      try {
        if (!this.closed) this.ready.push(this.maker.makeSlot());
        this.refillLater();
      } catch (error) {
        this.onError(error);
      }
    }, quietMs).unref();
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    for (const slot of this.ready.splice(0)) this.maker.removeSlot(slot.name);
  }
}
