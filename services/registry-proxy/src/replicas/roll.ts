/** The replicas that are alive, and in which order they answer for a piece of content: the highest hash of data root and key first. */
import { createHash } from 'node:crypto';
import { errorMessage } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
import type { OwnHome } from './ownHome.ts';
import type { Replica, ReplicaStore } from './redis.ts';

const beatMs = 1_000;
/** Longer than a busy machine keeps a process waiting; one that is killed is noticed at once by its closed port. */
const lifeMs = 10_000;
/** One that could not be reached is left alone for so long. */
const downMs = 5_000;

export class Roll {
  readonly self: Replica;
  private readonly home: OwnHome;
  private readonly certificate: () => string | undefined;
  private readonly store: ReplicaStore;
  private readonly logger: Logger;
  private readonly onGone: (id: string) => void;
  private others: readonly Replica[] = [];
  private readonly down = new Map<string, number>();
  private readonly keys = new Map<string, Buffer>();
  private timer: NodeJS.Timeout | undefined;
  private isKnown = true;

  constructor(parts: {
    store: ReplicaStore;
    self: Replica;
    home: OwnHome;
    certificate: () => string | undefined;
    logger: Logger;
    onGone: (id: string) => void;
  }) {
    this.certificate = parts.certificate;
    this.store = parts.store;
    this.self = parts.self;
    this.home = parts.home;
    this.logger = parts.logger;
    this.onGone = parts.onGone;
  }

  /** The first look; then one every second. @throws InvalidParameter when we cannot be one of them (ownHome.ts). */
  async start(): Promise<void> {
    await this.store.ready().catch(() => undefined);
    const home = await this.beat();
    if (home !== undefined && (await this.home.hear(home))) await this.noteHome();
    this.timer = setInterval(() => void this.beat().then((named) => this.heard(named)), beatMs).unref();
  }

  private async heard(home: string | undefined): Promise<void> {
    try {
      if (home !== undefined && (await this.home.hear(home))) await this.noteHome();
    } catch (error) {
      this.logger.error({ reason: errorMessage(error) }, 'own repositories are kept on two data roots');
    }
  }

  /** Should it fail, the next beat tells again that Redis is wrong. */
  private async noteHome(): Promise<void> {
    await this.store.noteHome(this.self.store).catch(() => undefined);
  }

  /** @returns the data root that keeps the own repositories, if Redis could say. */
  private async beat(): Promise<string | undefined> {
    try {
      const { home, members } = await this.store.beat(this.described(), lifeMs, this.home.candidate);
      const before = this.others;
      // One that has a new certificate is listed twice for a moment: the later counts.
      const byId = new Map(members.map((member) => [member.id, member]));
      byId.delete(this.self.id);
      for (const { store, uploadKey } of byId.values()) this.keys.set(store, Buffer.from(uploadKey, 'base64url'));
      this.others = [...byId.values()];
      for (const { id } of before) if (this.get(id) === undefined) this.forget(id);
      if (!this.isKnown) this.logger.info({ replicas: this.size }, 'replicas are known again');
      this.isKnown = true;
      return home;
    } catch (error) {
      // Who was there a moment ago is most likely there still.
      if (this.isKnown) this.logger.warn({ reason: errorMessage(error) }, 'Redis is away: replicas are as last known');
      this.isKnown = false;
      return undefined;
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

  /** Whether the own repositories are on our data root. */
  get keepsOwn(): boolean {
    return this.home.isHere;
  }

  /** Those that keep the own repositories, when we do not. Undefined: nobody has said who does. */
  keepers(): readonly Replica[] | undefined {
    const { store } = this.home;
    return store === undefined ? undefined : this.others.filter((other) => other.store === store && this.isUp(other));
  }

  /** What signs the places of uploads on other data roots, also on those whose replicas have gone meanwhile. */
  get uploadKeys(): readonly Buffer[] {
    return [...this.keys.values()];
  }

  async leave(): Promise<void> {
    clearInterval(this.timer);
    await this.store.leave(this.described()).catch(() => undefined);
  }
}
