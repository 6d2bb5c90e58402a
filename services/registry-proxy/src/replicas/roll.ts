/** The replicas that are alive, and in which order they answer for a piece of content: the highest hash of data root and key first. */
import { createHash } from 'node:crypto';
import { errorMessage } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
import type { Replica, ReplicaStore } from './redis.ts';

const beatMs = 1_000;
/** Longer than a busy machine keeps a process waiting; one that is killed is noticed at once by its closed port. */
const lifeMs = 10_000;
/** One that could not be reached is left alone for so long. */
const downMs = 5_000;

export class Roll {
  readonly self: Replica;
  private readonly certificate: () => string | undefined;
  private readonly store: ReplicaStore;
  private readonly logger: Logger;
  private readonly onGone: (id: string) => void;
  private others: readonly Replica[] = [];
  private readonly down = new Map<string, number>();
  private timer: NodeJS.Timeout | undefined;
  private isKnown = true;

  constructor(parts: {
    store: ReplicaStore;
    self: Replica;
    certificate: () => string | undefined;
    logger: Logger;
    onGone: (id: string) => void;
  }) {
    this.certificate = parts.certificate;
    this.store = parts.store;
    this.self = parts.self;
    this.logger = parts.logger;
    this.onGone = parts.onGone;
  }

  /** The first look; then one every second. */
  async start(): Promise<void> {
    await this.store.ready().catch(() => undefined);
    await this.beat();
    this.timer = setInterval(() => void this.beat(), beatMs).unref();
  }

  private async beat(): Promise<void> {
    try {
      const members = await this.store.beat(this.described(), lifeMs);
      const before = this.others;
      // One that has a new certificate is listed twice for a moment: the later counts.
      const byId = new Map(members.map((member) => [member.id, member]));
      byId.delete(this.self.id);
      this.others = [...byId.values()];
      for (const { id } of before) if (this.get(id) === undefined) this.forget(id);
      if (!this.isKnown) this.logger.info({ replicas: this.size }, 'replicas are known again');
      this.isKnown = true;
    } catch (error) {
      // Who was there a moment ago is most likely there still.
      if (this.isKnown) this.logger.warn({ reason: errorMessage(error) }, 'Redis is away: replicas are as last known');
      this.isKnown = false;
    }
  }

  private forget(id: string): void {
    this.down.delete(id);
    this.onGone(id);
  }

  private described(): Replica {
    const certificate = this.certificate();
    return certificate === undefined ? this.self : { ...this.self, certificate };
  }

  /** How many there are, ourselves among them. */
  get size(): number {
    return this.others.length + 1;
  }

  get(id: string): Replica | undefined {
    return this.others.find((other) => other.id === id);
  }

  /** Could not be reached just now. */
  noteDown(replica: Replica): void {
    this.down.set(replica.id, Date.now() + downMs);
    this.logger.warn({ replica: replica.url }, 'a replica cannot be reached');
  }

  isUp(replica: Replica): boolean {
    const until = this.down.get(replica.id);
    if (until === undefined) return true;
    if (until > Date.now()) return false;
    this.down.delete(replica.id);
    return true;
  }

  /** Those of other data roots that answer for a key before us. Empty: it is ours. */
  before(key: string): readonly Replica[] {
    const rank = (store: string): string => createHash('sha256').update(`${store} ${key}`).digest('hex');
    const own = rank(this.self.store);
    return this.others
      .filter((other) => this.isUp(other))
      .map((other) => ({ other, rank: rank(other.store) }))
      .filter(({ other, rank: theirs }) => other.store !== this.self.store && theirs > own)
      .sort((a, b) => (a.rank < b.rank ? 1 : -1))
      .map(({ other }) => other);
  }

  async leave(): Promise<void> {
    clearInterval(this.timer);
    await this.store.leave(this.described()).catch(() => undefined);
  }
}
