/** The events of a service's records, which are in the change stream until somebody has relayed them (eventRelay.ts). */
import { keptEntries } from './commit.ts';
import type { RecordConnection } from './connection.ts';
import type { DomainEvent } from './store.ts';

/** An entry of the change stream that carries events. */
export interface OutboxEntry {
  readonly revision: string;
  readonly events: readonly DomainEvent[];
}

/** From so many entries on the change stream lets go of what is relayed. */
const trimmedFrom = 4_000;

export class Outbox {
  private readonly redis: RecordConnection;
  private readonly keys: { readonly changes: string; readonly relayed: string };
  private readonly listeners = new Set<(revision: string) => void>();

  constructor(redis: RecordConnection, keys: { readonly changes: string; readonly relayed: string }) {
    this.redis = redis;
    this.keys = keys;
  }

  /** Calls `listener` when there may be new events to relay, up to a revision. It may be told of one more than once. */
  onEvents(listener: (revision: string) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  announce(revision: string): void {
    for (const listener of this.listeners) listener(revision);
  }

  /** Entries with events after `revision`, oldest first, of at most `count` changes; `last` is where to go on, if that was not all. */
  async read(revision: string, count: number): Promise<{ entries: OutboxEntry[]; last: string; isAll: boolean }> {
    const found = await this.redis.xrange(this.keys.changes, `(${revision}`, '+', 'COUNT', count);
    const entries: OutboxEntry[] = [];
    for (const [id, values] of found) {
      const events = JSON.parse(values[5] ?? '[]') as (Omit<DomainEvent, 'timeNano'> & { timeNano: string })[];
      if (events.length > 0)
        entries.push({ revision: id, events: events.map((event) => ({ ...event, timeNano: BigInt(event.timeNano) })) });
    }
    return { entries, last: found.at(-1)?.[0] ?? revision, isAll: found.length < count };
  }

  /** How far events are relayed, and to which stream; undefined before the first, or by an older version. */
  async relayed(): Promise<{ revision: string; stream: string | undefined }> {
    const [revision = '0-0', stream] = ((await this.redis.get(this.keys.relayed)) ?? '0-0').split(' ');
    return { revision, stream };
  }

  /** Remembers how far events are relayed, and lets go of what is older but for a tail that replicas may still follow. */
  async saveRelayed(revision: string, stream = ''): Promise<void> {
    await this.redis.set(this.keys.relayed, stream === '' ? revision : `${revision} ${stream}`);
    if ((await this.redis.xlen(this.keys.changes)) > trimmedFrom) {
      const tail = await this.redis.xrevrange(this.keys.changes, revision, '-', 'COUNT', keptEntries);
      const oldest = tail.at(-1)?.[0];
      if (oldest !== undefined) await this.redis.xtrim(this.keys.changes, 'MINID', '~', oldest);
    }
  }
}
