/**
 * One object, one change at a time, across replicas: first a queue in this process, then a lease in Redis with a fencing token that the
 * commit script compares. A lease is renewed while it is held; a holder that was stopped for longer than its time loses its next commit if another has taken
 * the lease meanwhile.
 */
import { Unavailable } from '@flotilla/errors';
import { KeyedQueue } from '@flotilla/service-kit';
import type { RecordConnection } from './connection.ts';
import { isGone, thisHolder } from './leaseHolder.ts';

export interface Lease {
  readonly key: string;
  readonly token: string;
  /** Fires when the lease was lost to another. */
  readonly signal: AbortSignal;
}

const lastsMs = 10_000;
/** A process without a turn for longer than its lease (a busy machine) keeps it unless another has asked for it. */
const keptMs = 90_000;
const renewEveryMs = 3_000;
const firstPauseMs = 4;
const longestPauseMs = 60;

export class Leases {
  private readonly redis: RecordConnection;
  private readonly prefix: string;
  private readonly holder = thisHolder();
  private readonly queue = new KeyedQueue();
  /** Name → token of those that are held now; in this process each is held once at a time. */
  readonly held = new Map<string, string>();
  private readonly lookForLoss: () => Promise<void>;

  /** @param lookForLoss - calls `holdAgain` if Redis has forgotten what it had. */
  constructor(redis: RecordConnection, prefix: string, lookForLoss: () => Promise<void>) {
    this.redis = redis;
    this.prefix = prefix;
    this.lookForLoss = lookForLoss;
  }

  /**
   * Runs `work` while holding the lease called `name`; waits for its turn.
   *
   * @throws Unavailable when the lease cannot be had within `waitMs` (default 60,000); whatever `work` throws.
   */
  withLease<T>(name: string, work: (lease: Lease) => Promise<T>, options: { waitMs?: number; signal?: AbortSignal } = {}): Promise<T> {
    return this.queue.run(name, async () => {
      options.signal?.throwIfAborted();
      return this.hold(name, work, options);
    });
  }

  /** Redis has forgotten who holds what: what is ours is noted again where nobody else has taken it meanwhile. */
  async holdAgain(): Promise<void> {
    for (const [name, token] of [...this.held]) await this.redis.set(`${this.prefix}:lease:${name}`, token, 'PX', keptMs, 'NX');
  }

  private async hold<T>(name: string, work: (lease: Lease) => Promise<T>, options: { waitMs?: number; signal?: AbortSignal }): Promise<T> {
    const key = `${this.prefix}:lease:${name}`;
    const token = await this.acquire(key, name, options);
    const lost = new AbortController();
    this.held.set(name, token);
    const timer = setInterval(() => {
      this.renew(key, token).then(
        (isHeld) => {
          if (isHeld || this.held.get(name) !== token) return;
          this.held.delete(name);
          lost.abort(new Unavailable(`the lease ${name} was lost`));
        },
        () => undefined,
      );
    }, renewEveryMs).unref();
    try {
      return await work({ key, token, signal: lost.signal });
    } finally {
      clearInterval(timer);
      this.held.delete(name);
      // Not waited for: the next acquirer of this process comes later on the same connection, and others poll.
      this.redis.flotillaRelease(key, token).catch(() => undefined);
    }
  }

  /** A Redis without its data has no lease of anybody: those are noted again before one is taken for lost. */
  private async renew(key: string, token: string): Promise<boolean> {
    if ((await this.redis.flotillaRenew(key, token, keptMs)) === 1) return true;
    await this.lookForLoss();
    return (await this.redis.flotillaRenew(key, token, keptMs)) === 1;
  }

  private async acquire(key: string, name: string, options: { waitMs?: number; signal?: AbortSignal }): Promise<string> {
    const end = Date.now() + (options.waitMs ?? 60_000);
    for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
      const answer = await this.redis.flotillaAcquire(key, `${this.prefix}:fence`, keptMs, lastsMs, this.holder);
      if (!answer.startsWith('!')) return answer;
      const held = answer.slice(1);
      // Only if it is still the same one: another may have seen the death first and hold it by now.
      if (isGone(held) && (await this.redis.flotillaRelease(key, held)) === 1) continue;
      options.signal?.throwIfAborted();
      if (Date.now() >= end) throw new Unavailable(`${name} is being changed by another request`);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }
}
