/** How long Redis has been away, for who would rather wait a moment for it than answer without it. */
import { setTimeout as pause } from 'node:timers/promises';
import type { Redis } from 'ioredis';

export class Absence {
  private current: { readonly sinceMs: number; readonly end: PromiseWithResolvers<void> } | undefined;

  constructor(redis: Pick<Redis, 'on'>) {
    redis.on('close', () => {
      this.current ??= { sinceMs: performance.now(), end: Promise.withResolvers<void>() };
    });
    redis.on('ready', () => {
      this.current?.end.resolve();
      this.current = undefined;
    });
  }

  /** Resolves when Redis is back, or has been away for `patienceMs` in all: nobody waits longer for one that does not come. */
  async over(patienceMs: number): Promise<void> {
    if (this.current === undefined) return;
    const { sinceMs, end } = this.current;
    const leftMs = sinceMs + patienceMs - performance.now();
    if (leftMs <= 0) return;
    const back = new AbortController();
    await Promise.race([end.promise, pause(leftMs, undefined, { signal: back.signal }).catch(() => undefined)]);
    back.abort();
  }
}
