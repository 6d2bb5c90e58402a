/**
 * A service's records: the truth in Redis, answers from memory.
 *
 * ```
 * flotilla:{<engine-id>:<service>}:records   hash    `<kind>/<id>` → JSON document
 *                                 :changes   stream  one entry a commit: i commit id, f changed fields, e events; its id is the revision
 *                                 :relayed   string  revision up to which events are in JetStream (eventRelay.ts)
 *                                 :lease:*   string  fencing token, with a time to live (leases.ts)
 *                                 :fence     counter of fencing tokens
 * ```
 *
 * The record `schema/version` tells the shape of the others (schema.ts). Every write is one script (commit.ts). Reads come from an index in memory that own
 * commits change at once and that follows the stream for the commits of other replicas; `fresh()` catches up before a read when there are any. While Redis is away reads go on, and writes throw Unavailable.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { Conflict, isConflict, System, Unavailable } from '@flotilla/errors';
import type { Health, Lifecycle, Logger } from '@flotilla/service-kit';
import { ChangeMark } from './changeMark.ts';
import { type ConnectionOptions, connectRedis, type RecordConnection } from './connection.ts';
import { type Lease, Leases } from './leases.ts';
import { firstSchema, migrate, type Schema, schemaField, schemaId, schemaKind } from './schema.ts';

/** A past fact about one object, as `GET /events` shows it. */
export interface DomainEvent {
  readonly type: string;
  readonly action: string;
  readonly actorId: string;
  readonly attributes: Readonly<Record<string, string>>;
  /** Nanoseconds since the epoch. */
  readonly timeNano: bigint;
}

interface RecordPut {
  readonly kind: string;
  readonly id: string;
  readonly document: unknown;
  readonly create: boolean;
}

interface RecordDelete {
  readonly kind: string;
  readonly id: string;
}

export interface Commit {
  readonly puts?: readonly RecordPut[];
  readonly deletes?: readonly RecordDelete[];
  readonly events?: readonly DomainEvent[];
  /** The commit fails with Unavailable when this lease has been lost. */
  readonly lease?: Lease;
  /** The revision that it goes by: it is a Conflict when there is a newer one. */
  readonly at?: string;
}

/** An entry of the change stream that carries events. */
export interface OutboxEntry {
  readonly revision: string;
  readonly events: readonly DomainEvent[];
}

export interface StoreOptions extends ConnectionOptions {
  readonly engineId: string;
  readonly service: string;
  readonly logger: Logger;
  readonly health?: Health;
  readonly lifecycle?: Lifecycle;
  /** Whether no other instance of the service is there, so that reads need not ask Redis. Default: yes. */
  readonly alone?: () => boolean;
  /** Default: the first. */
  readonly schema?: Schema;
  /** Path of a file that changes with every commit; none when left out. @see ChangeMark */
  readonly changeMark?: string;
}

const commitTimeoutMs = 5_000;
const mostMigrations = 100;

type Listener<T> = (id: string, now: T | undefined, before: T | undefined) => void;

/** The records of one kind, in memory. Documents are shared: never change one, put a new one. */
export class Collection<T> {
  private readonly kind: string;
  private readonly entries = new Map<string, { document: T; revision: string }>();
  private readonly listeners = new Set<Listener<T>>();

  constructor(kind: string) {
    this.kind = kind;
  }

  get(id: string): T | undefined {
    return this.entries.get(id)?.document;
  }

  has(id: string): boolean {
    return this.entries.has(id);
  }

  get size(): number {
    return this.entries.size;
  }

  ids(): Iterable<string> {
    return this.entries.keys();
  }

  *values(): Generator<T> {
    for (const entry of this.entries.values()) yield entry.document;
  }

  /** A change for `commit`; with `create` the commit is a Conflict when the id is taken. */
  put(id: string, document: T, options: { create?: boolean } = {}): RecordPut {
    return { kind: this.kind, id, document, create: options.create ?? false };
  }

  delete(id: string): RecordDelete {
    return { kind: this.kind, id };
  }

  /** Calls `listener` after a record has changed, by us or by a replica; answers a function that ends it. */
  onChange(listener: Listener<T>): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Takes over what the store holds. An older revision than the one in memory changes nothing. */
  apply(id: string, document: T | undefined, revision: string): void {
    const before = this.entries.get(id);
    if (before !== undefined && compareRevisions(revision, before.revision) < 0) return;
    if (document === undefined) this.entries.delete(id);
    else this.entries.set(id, { document, revision });
    if (document === undefined && before === undefined) return;
    for (const listener of this.listeners) listener(id, document, before?.document);
  }
}

export class RecordStore {
  private readonly redis: RecordConnection;
  private readonly followRedis: RecordConnection;
  private readonly leases: Leases;
  private readonly logger: Logger;
  private readonly alone: () => boolean;
  private readonly collections = new Map<string, Collection<unknown>>();
  /** Commits of ours that are not answered yet, and those that are and are still to come by the change stream. */
  private readonly inFlight = new Map<string, Commit>();
  private readonly applied = new Set<string>();
  private readonly outboxListeners = new Set<(revision: string) => void>();
  private readonly keys: { records: string; changes: string; relayed: string };
  private readonly changeMark: ChangeMark | undefined;
  private readonly service: string;
  private readonly schema: Schema;
  private revision = '0-0';
  private closed = false;

  private constructor(options: StoreOptions) {
    const prefix = `flotilla:{${options.engineId}:${options.service}}`;
    this.keys = { records: `${prefix}:records`, changes: `${prefix}:changes`, relayed: `${prefix}:relayed` };
    this.redis = connectRedis(options);
    this.followRedis = connectRedis(options);
    this.leases = new Leases(this.redis, prefix);
    this.logger = options.logger;
    this.alone = options.alone ?? (() => true);
    this.service = options.service;
    this.schema = options.schema ?? firstSchema;
    this.changeMark = options.changeMark === undefined ? undefined : new ChangeMark(options.changeMark);
    options.health?.addCheck('redis', () => {
      if (this.redis.status !== 'ready') throw new Unavailable(`connection is ${this.redis.status}`);
    });
    options.health?.addCheck('records', () => {
      if (this.isOutdated) throw new Unavailable('they were taken over by a newer version of this service');
    });
    options.lifecycle?.onStop('records', () => this.close());
  }

  /**
   * Connects (waits for a Redis that is not there yet), brings older records to this version's schema, reads every record, and starts to follow the change stream.
   *
   * @throws System when the records are of a newer schema.
   */
  static async open(options: StoreOptions): Promise<RecordStore> {
    const store = new RecordStore(options);
    try {
      await store.takeOver();
    } catch (error) {
      await store.close();
      throw error;
    }
    await store.load();
    store.changeMark?.change();
    void store.follow();
    return store;
  }

  /** The records of one kind. Call it once a kind, before the first commit. */
  collection<T>(kind: string): Collection<T> {
    const collection = this.collections.get(kind) ?? new Collection<unknown>(kind);
    this.collections.set(kind, collection);
    return collection as Collection<T>;
  }

  /** Sees to it that the records are of our schema: one instance changes them, the others wait for it. */
  private async takeOver(): Promise<void> {
    const found = await this.redis.hget(this.keys.records, schemaField);
    if (found === String(this.schema.version)) return;
    await this.withLease(schemaKind, async (lease) => {
      for (let attempt = 1; ; attempt++) {
        try {
          await this.migrate(lease);
          return;
        } catch (error) {
          // Replicas of the older version go on writing until then.
          if (!isConflict(error) || attempt === mostMigrations) throw error;
        }
      }
    });
  }

  private async migrate(lease: Lease): Promise<void> {
    const { revision, documents } = await this.readAll();
    const version = Number(documents[schemaField] ?? 1);
    if (version > this.schema.version) {
      throw new System(
        `the records of ${this.service} are of schema ${version}, written by a newer version; this one knows them up to ${this.schema.version}`,
      );
    }
    // The first, so that an instance of the older version sees it before what it does not understand.
    const puts: RecordPut[] = [{ kind: schemaKind, id: schemaId, document: this.schema.version, create: false }];
    const deletes: RecordDelete[] = [];
    for (const [field, json] of Object.entries(documents)) {
      const [kind, id] = splitField(field);
      if (version === this.schema.version || kind === schemaKind) continue;
      const document = migrate(this.schema, version, kind, JSON.parse(json));
      if (document === undefined) deletes.push({ kind, id });
      else puts.push({ kind, id, document, create: false });
    }
    await this.commit({ puts, deletes, lease, at: revision });
    if (puts.length > 1 || deletes.length > 0) this.logger.info({ from: version, to: this.schema.version }, 'records migrated');
  }

  /** A newer version of this service has brought the records to its schema: this instance can neither read nor write them any more. */
  private get isOutdated(): boolean {
    return (this.collection<number>(schemaKind).get(schemaId) ?? 0) > this.schema.version;
  }

  private takenOver(): Unavailable {
    return new Unavailable(`the records of ${this.service} were taken over by a newer version`);
  }

  private async readAll(): Promise<{ revision: string; documents: Record<string, string> }> {
    const answers = await this.redis.multi().xrevrange(this.keys.changes, '+', '-', 'COUNT', 1).hgetall(this.keys.records).exec();
    const newest = answers?.[0]?.[1] as [string, string[]][] | undefined;
    return { revision: newest?.[0]?.[0] ?? '0-0', documents: (answers?.[1]?.[1] ?? {}) as Record<string, string> };
  }

  private async load(): Promise<void> {
    const { revision, documents } = await this.readAll();
    this.revision = revision;
    for (const [field, json] of Object.entries(documents)) this.applyField(field, json, this.revision);
    // After a gap in the stream, records that vanished meanwhile are dropped too.
    for (const [kind, collection] of this.collections) {
      for (const id of [...collection.ids()]) if (documents[`${kind}/${id}`] === undefined) collection.apply(id, undefined, this.revision);
    }
  }

  private applyField(field: string, json: string | null, revision: string): void {
    const [kind, id] = splitField(field);
    this.collection<unknown>(kind).apply(id, json === null ? undefined : JSON.parse(json), revision);
  }

  /**
   * Writes records and events together; in memory when it resolves.
   *
   * @returns the revision.
   * @throws Conflict when a `create` finds its id taken, or there is a newer revision than `at`; Unavailable when Redis is away for 5 s or the lease is lost. Nothing was written then,
   *   but for a Redis that was lost in the middle: whether it was then shows in the collection once Redis is back.
   */
  async commit(commit: Commit): Promise<string> {
    const commitId = randomBytes(9).toString('base64url');
    const args: string[] = [];
    const fields: string[] = [];
    for (const put of commit.puts ?? []) {
      const field = `${put.kind}/${put.id}`;
      fields.push(field);
      args.push(put.create ? 'create' : 'put', field, JSON.stringify(put.document));
    }
    for (const remove of commit.deletes ?? []) {
      const field = `${remove.kind}/${remove.id}`;
      fields.push(field);
      args.push('delete', field, '');
    }
    const events = (commit.events ?? []).map((event) => ({ ...event, timeNano: event.timeNano.toString() }));
    let isTaken = false;
    this.inFlight.set(commitId, commit);
    const answer = await this.within(
      this.redis.flotillaCommit(
        this.keys.records,
        this.keys.changes,
        commitId,
        commit.lease?.key ?? '',
        commit.lease?.token ?? '',
        JSON.stringify(events),
        JSON.stringify(fields),
        String(this.schema.version),
        commit.at ?? '',
        ...args,
      ),
    ).finally(() => {
      isTaken = !this.inFlight.delete(commitId);
    });
    if (answer === '!lease') throw new Unavailable('the lease was lost to another instance');
    if (answer === '!moved') throw new Conflict(`the records of ${this.service} have changed meanwhile`);
    if (answer === '!schema') throw this.takenOver();
    if (answer.startsWith('!conflict ')) throw new Conflict(`${answer.slice('!conflict '.length)} exists already`);
    if (!isTaken) {
      if (compareRevisions(answer, this.revision) > 0) this.applied.add(commitId);
      this.take(commit, answer);
    }
    if (events.length > 0) this.announceOutbox(answer);
    return answer;
  }

  /** Applies a commit of ours. */
  private take({ puts = [], deletes = [] }: Commit, revision: string): void {
    for (const put of puts) this.collection(put.kind).apply(put.id, put.document, revision);
    for (const remove of deletes) this.collection(remove.kind).apply(remove.id, undefined, revision);
    this.changeMark?.change();
  }

  /** One object, one change at a time, across replicas. @see Leases.withLease */
  withLease<T>(name: string, work: (lease: Lease) => Promise<T>, options?: { waitMs?: number; signal?: AbortSignal }): Promise<T> {
    return this.leases.withLease(name, work, options);
  }

  /** Names of the leases that this process holds. */
  heldLeases(): Iterable<string> {
    return this.leases.held;
  }

  /**
   * Makes sure that a read sees every commit that was answered anywhere before now. Costs next to nothing while we are alone.
   *
   * @param evenAlone - for who has just started and may not have heard of the others yet.
   */
  async fresh(evenAlone = false): Promise<void> {
    if (this.isOutdated) throw this.takenOver();
    // Another replica may have answered before we heard of it: the mark shows that at once.
    const isAlone = this.alone() && this.changeMark?.isAsKnown() !== false;
    if ((isAlone && !evenAlone) || this.redis.status !== 'ready') return;
    const mark = this.changeMark?.read();
    const newest = (await this.redis.xrevrange(this.keys.changes, '+', '-', 'COUNT', 1))[0]?.[0];
    if (newest !== undefined && compareRevisions(newest, this.revision) > 0) await this.catchUp();
    if (mark !== undefined) this.changeMark?.know(mark);
  }

  private async within<T>(write: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Unavailable('the record store is not available')), commitTimeoutMs);
    });
    try {
      return await Promise.race([write, late]);
    } catch (error) {
      if (error instanceof Error && error.name === 'ReplyError') throw new System('the record store refused a write', { cause: error });
      throw error instanceof Unavailable ? error : new Unavailable('the record store is not available', { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }

  private async follow(): Promise<void> {
    while (!this.closed && !this.isOutdated) {
      try {
        const answer = await this.followRedis.xread('COUNT', 500, 'BLOCK', 0, 'STREAMS', this.keys.changes, this.revision);
        if (answer !== null) await this.applyEntries(answer[0]?.[1] ?? []);
      } catch (error) {
        if (this.closed) return;
        this.logger.warn({ error }, 'following the change stream failed');
        await pause(100);
      }
    }
  }

  private async catchUp(): Promise<void> {
    const entries = await this.redis.xrange(this.keys.changes, `(${this.revision}`, '+');
    await this.applyEntries(entries);
  }

  private async applyEntries(entries: readonly [string, string[]][]): Promise<void> {
    for (const [revision, values] of entries) {
      const [, commitId = '', , fieldsJson = '[]', , eventsJson = '[]'] = values;
      const ours = this.inFlight.get(commitId);
      if (ours !== undefined) {
        // The change stream was quicker than the answer.
        this.inFlight.delete(commitId);
        this.take(ours, revision);
      } else if (!this.applied.delete(commitId)) {
        const fields = JSON.parse(fieldsJson) as string[];
        if (fields.length > 0) {
          const documents = await this.redis.hmget(this.keys.records, ...fields);
          for (const [index, field] of fields.entries()) {
            this.applyField(field, documents[index] ?? null, revision);
            // What follows is of a shape that nobody here understands.
            if (this.isOutdated) return;
          }
          // Also a commit of ours whose answer was lost.
          this.changeMark?.change();
        }
      }
      if (compareRevisions(revision, this.revision) > 0) this.revision = revision;
      if (eventsJson !== '[]') this.announceOutbox(revision);
    }
  }

  /** Calls `listener` when there may be new events to relay, up to a revision. It may be told of one more than once. */
  onOutbox(listener: (revision: string) => void): () => void {
    this.outboxListeners.add(listener);
    return () => this.outboxListeners.delete(listener);
  }

  private announceOutbox(revision: string): void {
    for (const listener of this.outboxListeners) listener(revision);
  }

  /** Entries with events after `revision`, oldest first, of at most `count` changes; `last` is where to go on, if that was not all. */
  async outbox(revision: string, count: number): Promise<{ entries: OutboxEntry[]; last: string; isAll: boolean }> {
    const found = await this.redis.xrange(this.keys.changes, `(${revision}`, '+', 'COUNT', count);
    const entries: OutboxEntry[] = [];
    for (const [id, values] of found) {
      const events = JSON.parse(values[5] ?? '[]') as (Omit<DomainEvent, 'timeNano'> & { timeNano: string })[];
      if (events.length > 0)
        entries.push({ revision: id, events: events.map((event) => ({ ...event, timeNano: BigInt(event.timeNano) })) });
    }
    return { entries, last: found.at(-1)?.[0] ?? revision, isAll: found.length < count };
  }

  async relayedRevision(): Promise<string> {
    return (await this.redis.get(this.keys.relayed)) ?? '0-0';
  }

  /** Remembers how far events are relayed, and lets go of what is older but for a tail that replicas may still follow. */
  async saveRelayedRevision(revision: string): Promise<void> {
    await this.redis.set(this.keys.relayed, revision);
    if ((await this.redis.xlen(this.keys.changes)) > 4000) {
      const tail = await this.redis.xrevrange(this.keys.changes, revision, '-', 'COUNT', 1000);
      const oldest = tail.at(-1)?.[0];
      if (oldest !== undefined) await this.redis.xtrim(this.keys.changes, 'MINID', '~', oldest);
    }
  }

  async close(): Promise<void> {
    this.closed = true;
    this.followRedis.disconnect();
    // Writes already sent are answered first; a Redis that is away is not waited for.
    if (this.redis.status === 'ready') await Promise.race([this.redis.quit(), pause(1000)]);
    this.redis.disconnect();
    this.changeMark?.close();
  }
}

function splitField(field: string): [kind: string, id: string] {
  const slash = field.indexOf('/');
  return [field.slice(0, slash), field.slice(slash + 1)];
}

/** Orders stream ids `<ms>-<sequence>`. */
export function compareRevisions(a: string, b: string): number {
  const [aMs = '0', aSequence = '0'] = a.split('-');
  const [bMs = '0', bSequence = '0'] = b.split('-');
  return Number(aMs) - Number(bMs) || Number(aSequence) - Number(bSequence);
}
