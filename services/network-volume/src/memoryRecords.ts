/** Records in memory: what unit tests give the domain in place of Redis. */

import { Conflict } from '@flotilla/errors';
import { Collection, type Commit, type DomainEvent } from '@flotilla/records';
import { KeyedQueue } from '@flotilla/service-kit';
import { type Records, recordsOf } from './records.ts';

export interface MemoryRecords extends Records {
  readonly events: DomainEvent[];
}

export function memoryRecords(): MemoryRecords {
  const collections = new Map<string, Collection<unknown>>();
  const events: DomainEvent[] = [];
  const queue = new KeyedQueue();
  let revision = 0;
  const collection = <T>(kind: string): Collection<T> => {
    const found = collections.get(kind) ?? new Collection<unknown>(kind);
    collections.set(kind, found);
    return found as Collection<T>;
  };
  const commit = async (change: Commit): Promise<void> => {
    const taken = change.puts?.find(({ create, kind, id }) => create && collection(kind).has(id));
    if (taken !== undefined) throw new Conflict(`${taken.kind}/${taken.id} exists already`);
    const changed = change.unchanged?.find(({ kind, id, document }) => collection(kind).get(id) !== document);
    if (changed !== undefined) throw new Conflict(`${changed.kind}/${changed.id} has changed meanwhile`);
    revision += 1;
    for (const { kind, id, document } of change.puts ?? []) collection(kind).apply(id, document, `${revision}-0`);
    for (const { kind, id } of change.deletes ?? []) collection(kind).apply(id, undefined, `${revision}-0`);
    events.push(...(change.events ?? []));
  };
  return { ...recordsOf({ collection, commit, fresh: async () => undefined, withLease: (name, work) => queue.run(name, work) }), events };
}
