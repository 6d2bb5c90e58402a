/** At most so many pieces of work at a time for each key; the rest wait in the order they came. */
export class Slots {
  private readonly limitOf: (key: string) => number;
  private readonly held = new Map<string, number>();
  private readonly waiting = new Map<string, (() => void)[]>();

  constructor(limitOf: (key: string) => number) {
    this.limitOf = limitOf;
  }

  /** Waits for a slot. @returns what gives it back. */
  async take(key: string): Promise<() => void> {
    const held = this.held.get(key) ?? 0;
    if (held < this.limitOf(key)) this.held.set(key, held + 1);
    else {
      await new Promise<void>((resolve) => {
        const queue = this.waiting.get(key) ?? [];
        queue.push(resolve);
        this.waiting.set(key, queue);
      });
    }
    let given = false;
    return () => {
      if (!given) this.give(key);
      given = true;
    };
  }

  private give(key: string): void {
    const queue = this.waiting.get(key);
    const next = queue?.shift();
    if (queue?.length === 0) this.waiting.delete(key);
    // The slot passes on as it is held.
    if (next !== undefined) {
      next();
      return;
    }
    const held = (this.held.get(key) ?? 1) - 1;
    if (held <= 0) this.held.delete(key);
    else this.held.set(key, held);
  }
}
