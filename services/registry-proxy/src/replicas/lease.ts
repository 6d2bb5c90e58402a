/** One replica at a time asks an upstream for a blob, also in the moment in which replicas do not yet agree on who is there. */
import { errorMessage } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
import type { ReplicaStore } from './redis.ts';

const ttlMs = 10_000;
const renewMs = 2_000;

export class Leases {
  private readonly store: ReplicaStore;
  private readonly id: string;
  private readonly logger: Logger;

  constructor(parts: { store: ReplicaStore; id: string; logger: Logger }) {
    this.store = parts.store;
    this.id = parts.id;
    this.logger = parts.logger;
  }

  /**
   * Takes the lease of a blob, if nobody has it.
   *
   * @param dead - a holder that is known to be gone.
   * @returns what gives it back, or the id of the one who has it.
   */
  async take(key: string, dead: string): Promise<{ release: () => void } | { holder: string }> {
    let holder: string;
    try {
      holder = await this.store.take(key, this.id, ttlMs, dead);
    } catch (error) {
      // Without Redis two may fetch the same: better than none.
      this.logger.warn({ key, reason: errorMessage(error) }, 'no lease, Redis is away');
      return { release: () => undefined };
    }
    if (holder !== this.id) return { holder };
    const timer = setInterval(() => void this.store.renew(key, this.id, ttlMs).catch(() => undefined), renewMs).unref();
    return {
      release: () => {
        clearInterval(timer);
        void this.store.release(key, this.id).catch(() => undefined);
      },
    };
  }
}
