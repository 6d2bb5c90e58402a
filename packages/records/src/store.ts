/**
 * A service's records: the truth in Redis, answers from memory.
 *
 * ```
 * flotilla:{<engine-id>:<service>}:records   hash    `<kind>/<id>` → JSON document
 *                                 :changes   stream  one entry a commit: i commit id, f changed fields, e events; its id is the revision
 *                                 :relayed   string  revision up to which events are in JetStream, and in which stream (eventRelay.ts)
 *                                 :lease:*   string  fencing token, with a time to live (leases.ts)
 *                                 :fence     counter of fencing tokens
 * ```
 *
 * The record `schema/version` tells the shape of the others (schema.ts). Every write is one script (commit.ts). Reads come from an index in memory that own
 * commits change at once and that follows the stream for the commits of other replicas; `fresh()` catches up before a read when there are any. While Redis is
 * away reads go on (those that may lack what another replica has answered wait a moment for it first), and writes throw Unavailable.
 *
 * A Redis that has forgotten what it had answered (its data is gone, it was put back to an older state, a replica took over that was behind) is given it again by
 * restorer.ts: it shows at an instance's next commit or connection at the latest, or at a start.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { Conflict, isConflict, System, Unavailable } from '@flotilla/errors';
import type { Health, Lifecycle, Logger } from '@flotilla/service-kit';
import { Absence } from './absence.ts';
import { ChangeMark } from './changeMark.ts';
import { Collection, type RecordDelete, type RecordPut, type RecordState } from './collection.ts';
import { connectRedis, type RecordConnection } from './connection.ts';
import { CopyKeeper } from './copyKeeper.ts';
import { type Lease, Leases } from './leases.ts';
import { Outbox } from './outbox.ts';
import { type CopiedRecord, readCopy } from './recordCopy.ts';
import type { RedisTarget } from './redisClient.ts';
import { areLost, copyPath, noteLost } from './restoration.ts';
import { Restorer } from './restorer.ts';
import { compareRevisions } from './revision.ts';
import { firstSchema, migrate, type Schema, schemaField, schemaId, schemaKind, splitField } from './schema.ts';

/** A past fact about one object, as `GET /events` shows it. */
export interface DomainEvent {
  readonly type: string;
  readonly action: string;
  readonly actorId: string;
  readonly attributes: Readonly<Record<string, string>>;
  /** Nanoseconds since the epoch. */
  readonly timeNano: bigint;
  /** Names of labels among the attributes that came with an image: rights do not go by them. */
  readonly inheritedLabels?: readonly string[];
}

export interface Commit {
  readonly puts?: readonly RecordPut[];
  readonly deletes?: readonly RecordDelete[];
  readonly events?: readonly DomainEvent[];
  /** The commit fails with Unavailable when this lease has been lost. */
  readonly lease?: Lease;
  /** The revision that it goes by: it is a Conflict when there is a newer one. */
  readonly at?: string;
  /** Records that it goes by: it is a Conflict when one of them is another, or gone, by now. */
  readonly unchanged?: readonly RecordState[];
}

export interface StoreOptions extends RedisTarget {
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
  /** Where the copy of the records is kept, and the directories whose entries only records explain; no copy when left out. */
  readonly copy?: { readonly directory: string; readonly explained: readonly string[] };
}

const commitTimeoutMs = 5_000;
/** Since Redis went; a restart takes less. */
const freshPatienceMs = 3_000;
const mostMigrations = 100;
const mostRestorations = 3;

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
  /** Events on their way to who relays them. */
  readonly outbox: Outbox;
  private readonly keys: { records: string; changes: string; relayed: string };
  private readonly absence: Absence;
  private readonly changeMark: ChangeMark | undefined;
  private readonly service: string;
  private readonly schema: Schema;
  private readonly owner: string;
  private readonly copy: StoreOptions['copy'];
  private readonly restorer: Restorer;
  private keeper: CopyKeeper | undefined;
  /** All up to here has come by the change stream. */
  private revision = '0-0';
  /** The newest that Redis has answered. */
  private seen = '0-0';
  private hasReconnected = false;
  /** How many of other instances we have heard of. */
  private restorations = 0;
  private closed = false;

  private constructor(options: StoreOptions) {
    const prefix = `flotilla:{${options.engineId}:${options.service}}`;
    this.keys = { records: `${prefix}:records`, changes: `${prefix}:changes`, relayed: `${prefix}:relayed` };
    this.redis = connectRedis(options);
    this.followRedis = connectRedis(options);
    this.absence = new Absence(this.redis);
    this.outbox = new Outbox(this.redis, this.keys);
    this.leases = new Leases(this.redis, prefix, () => this.findLeases());
    this.logger = options.logger;
    this.alone = options.alone ?? (() => true);
    this.service = options.service;
    this.schema = options.schema ?? firstSchema;
    this.owner = `${options.engineId}:${options.service}`;
    this.copy = options.copy;
    this.restorer = new Restorer({
      store: {
        revisions: () => ({ heard: this.revision, seen: this.seen }),
        memory: () => this.copied(),
        catchUp: () => this.catchUpOrLeave(),
        hasForgotten: () => this.hasForgotten(),
        readAll: () => this.readAll(),
        load: () => this.load(),
        writePart: (commit) => this.writePart(commit),
        conclude: async (commit, revision) => void (await this.send(commit, revision)),
        holdLeasesAgain: () => this.leases.holdAgain(),
      },
      schema: this.schema,
      directory: this.copy?.directory,
      logger: this.logger,
      withLease: (work) => this.withLease(schemaKind, work),
    });
    this.changeMark = options.changeMark === undefined ? undefined : new ChangeMark(options.changeMark);
    options.health?.addCheck('redis', () => {
      if (!this.isConnected) throw new Unavailable(`connection is ${this.redis.status}`);
    });
    options.health?.addCheck('records', () => {
      if (this.isOutdated) throw new Unavailable('they were taken over by a newer version of this service');
    });
    let told = '';
    this.redis.on('error', (error: Error) => {
      if (error.message !== told) this.logger.warn({ reason: error.message }, 'Redis cannot be used');
      told = error.message;
    });
    this.redis.on('ready', () => {
      told = '';
      this.hasReconnected = true;
      void this.lookForLoss();
    });
    this.followRedis.on('ready', () => {
      this.hasReconnected = true;
    });
    options.lifecycle?.onStop('records', () => this.close());
    // Who stays hears of all that is still written here.
    options.lifecycle?.onDrain({ name: 'copy of the records', begin: () => void this.keeper?.close(), isBusy: () => false });
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
    store.keepCopy();
    return store;
  }

  /** Records are missing that nothing tells any more: what no record knows is not to be taken for a leftover. */
  get areLost(): boolean {
    return this.copy !== undefined && areLost(this.copy.directory);
  }

  private keepCopy(): void {
    if (this.copy === undefined) return;
    if (this.areLost) {
      // It would know of nothing that was lost, and be newer than data that are put back.
      rmSync(copyPath(this.copy.directory), { force: true });
      return;
    }
    this.keeper = new CopyKeeper({
      path: copyPath(this.copy.directory),
      owner: this.owner,
      all: () => ({ at: this.revision, records: [...this.copied()] }),
      withLease: (work, signal) => this.withLease('record-copy', work, { waitMs: 0, signal }),
      logger: this.logger,
    });
  }

  private *copied(): Generator<CopiedRecord> {
    for (const [kind, collection] of this.collections) {
      for (const [id, { document, revision }] of collection.all()) yield { field: `${kind}/${id}`, revision, document };
    }
  }

  /** The records of one kind. Call it once a kind, before the first commit. */
  collection<T>(kind: string): Collection<T> {
    const collection = this.collections.get(kind) ?? new Collection<unknown>(kind);
    this.collections.set(kind, collection);
    return collection as Collection<T>;
  }

  /** Sees to it that the records are of our schema: one instance changes them, the others wait for it. */
  private async takeOver(): Promise<void> {
    // The copy first: it is never ahead of a Redis that has lost nothing.
    const copy = await this.readCopy();
    const found = await this.redis.hget(this.keys.records, schemaField);
    const isBehind = copy !== undefined && compareRevisions(await this.newestRevision(), copy.newest) < 0;
    if (found === String(this.schema.version) && !isBehind) return;
    await this.withLease(schemaKind, async (lease) => {
      await this.restoreAtStart(lease);
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

  private readCopy(): ReturnType<typeof readCopy> {
    return this.copy === undefined || this.areLost ? Promise.resolve(undefined) : readCopy(copyPath(this.copy.directory), this.owner);
  }

  private async hasForgotten(): Promise<boolean> {
    return (await this.redis.flotillaForgotten(this.keys.changes, this.seen)) === 1;
  }

  private async newestRevision(): Promise<string> {
    return (await this.redis.xrevrange(this.keys.changes, '+', '-', 'COUNT', 1))[0]?.[0] ?? '0-0';
  }

  private async restoreAtStart(lease: Lease): Promise<void> {
    const copy = await this.readCopy();
    if (copy !== undefined) {
      await this.restorer.restoreFromCopy(copy, lease);
    } else if (this.copy?.explained.some(holdsAnything) === true && !this.areLost && (await this.newestRevision()) === '0-0') {
      this.logger.error('the records are gone, and there is no copy of them: what they told of is left as it is');
      const [seconds = 0, microseconds = 0] = (await this.redis.time()).map(Number);
      noteLost(this.copy.directory, seconds * 1000 + Math.floor(microseconds / 1000));
    }
  }

  /** Redis may have forgotten what it had answered. */
  private async lookForLoss(): Promise<void> {
    try {
      if (this.closed || this.isOutdated) return;
      if (this.restorer.isDue || (await this.hasForgotten())) await this.restorer.restore();
    } catch (error) {
      if (!this.closed) this.logger.error({ error }, 'records that Redis has lost could not be given to it again');
    }
  }

  /** Whoever restored records before us knows nothing of our leases: we note them again when we hear of it. */
  private async findLeases(): Promise<void> {
    await this.lookForLoss();
    await this.catchUp();
  }

  private async catchUpOrLeave(): Promise<void> {
    await this.catchUp();
    if (this.isOutdated) throw this.takenOver();
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
    if (compareRevisions(revision, this.revision) > 0) this.revision = revision;
    this.see(revision);
    for (const [field, json] of Object.entries(documents)) this.applyField(field, json, revision);
    // What vanished in a gap of the stream is dropped too.
    for (const [kind, collection] of this.collections) {
      for (const id of [...collection.ids()]) if (documents[`${kind}/${id}`] === undefined) this.note(kind, id, undefined, revision);
    }
  }

  private applyField(field: string, json: string | null, revision: string): void {
    const [kind, id] = splitField(field);
    this.note(kind, id, json === null ? undefined : JSON.parse(json), revision);
  }

  /**
   * Writes records and events together; in memory when it resolves.
   *
   * @returns the revision.
   * @throws Conflict when a `create` finds its id taken, there is a newer revision than `at`, or a record is not `unchanged`; Unavailable when Redis is away for 5 s or the lease is lost. Nothing
   *   was written then, but for a Redis that was lost in the middle: whether it was then shows in the collection once Redis is back.
   */
  commit(commit: Commit): Promise<string> {
    return this.send(commit);
  }

  /** @param restoredAt - the entry's id, when it tells Redis of what it has lost. */
  private async send(commit: Commit, restoredAt?: string): Promise<string> {
    const commitId = randomBytes(9).toString('base64url');
    let isTaken = false;
    this.inFlight.set(commitId, commit);
    const written =
      restoredAt === undefined ? this.untilRestored(() => this.write(commitId, commit)) : this.write(commitId, commit, restoredAt);
    const answer = await written.finally(() => {
      isTaken = !this.inFlight.delete(commitId);
    });
    this.refuse(answer);
    this.see(answer);
    if (!isTaken) {
      if (compareRevisions(answer, this.revision) > 0) this.applied.add(commitId);
      this.take(commit, answer);
    }
    if (commit.events !== undefined && commit.events.length > 0) this.outbox.announce(answer);
    return answer;
  }

  /** Writes what no entry of the change stream tells yet: part of what Redis has lost. */
  private async writePart(commit: Commit): Promise<void> {
    this.refuse(await this.write(randomBytes(9).toString('base64url'), commit, ''));
  }

  /** @param restoredAt - the entry's id, when it tells Redis of what it has lost; empty for a part of that. */
  private write(commitId: string, commit: Commit, restoredAt?: string): Promise<string> {
    const args: string[] = [];
    const fields: string[] = [];
    for (const { kind, id, document } of commit.unchanged ?? []) args.push('unchanged', `${kind}/${id}`, JSON.stringify(document));
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
    return this.within(
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
        restoredAt === undefined ? this.seen : '0-0',
        restoredAt ?? '*',
        ...args,
      ),
    );
  }

  private refuse(answer: string): void {
    if (answer === '!lost') throw new Unavailable('the record store has lost records');
    if (answer === '!lease') throw new Unavailable('the lease was lost to another instance');
    if (answer === '!moved') throw new Conflict(`the records of ${this.service} have changed meanwhile`);
    if (answer === '!schema') throw this.takenOver();
    if (answer.startsWith('!changed ')) throw new Conflict(`${answer.slice('!changed '.length)} has changed meanwhile`);
    if (answer.startsWith('!conflict ')) throw new Conflict(`${answer.slice('!conflict '.length)} exists already`);
  }

  /** A write that finds Redis without what it had answered, or without our lease since another gave it that again, mends this first. */
  private async untilRestored(write: () => Promise<string>): Promise<string> {
    for (let attempt = 1; ; attempt++) {
      await this.within(this.restorer.giveDue());
      const answer = await write();
      if (attempt > mostRestorations) return answer;
      if (answer === '!lost') await this.within(this.restorer.restore());
      else if (answer !== '!lease' || !(await this.hasHeardOfRestoration())) return answer;
    }
  }

  private async hasHeardOfRestoration(): Promise<boolean> {
    const { restorations } = this;
    await this.within(this.catchUp());
    return this.restorations > restorations;
  }

  private see(revision: string): void {
    if (compareRevisions(revision, this.seen) > 0) this.seen = revision;
  }

  private note(kind: string, id: string, document: unknown, revision: string): void {
    this.collection<unknown>(kind).apply(id, document, revision);
    // A copy of ours does not say that it is of a newer schema.
    if (!this.isOutdated) this.keeper?.note({ field: `${kind}/${id}`, revision, document });
  }

  /** Applies a commit of ours. */
  private take({ puts = [], deletes = [] }: Commit, revision: string): void {
    for (const put of puts) this.note(put.kind, put.id, put.document, revision);
    for (const remove of deletes) this.note(remove.kind, remove.id, undefined, revision);
    this.changeMark?.change();
  }

  /** One object, one change at a time, across replicas. @see Leases.withLease */
  withLease<T>(name: string, work: (lease: Lease) => Promise<T>, options?: { waitMs?: number; signal?: AbortSignal }): Promise<T> {
    return this.leases.withLease(name, work, options);
  }

  /** Names of the leases that this process holds. */
  heldLeases(): Iterable<string> {
    return this.leases.held.keys();
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
    if (isAlone && !evenAlone) return;
    if (!this.isConnected) {
      // Another replica may have answered just before Redis went: what it made would not be there.
      if (this.changeMark?.isAsKnown() !== true) await this.absence.over(freshPatienceMs);
      if (!this.isConnected) return;
    }
    const late = new AbortController();
    try {
      // A question that Redis has heard and not answered is put again when it is back, however long that takes.
      await Promise.race([this.lookForNewer(), pause(freshPatienceMs, undefined, { signal: late.signal })]);
    } finally {
      late.abort();
    }
  }

  private async lookForNewer(): Promise<void> {
    const mark = this.changeMark?.read();
    const newest = await this.newestRevision();
    if (compareRevisions(newest, this.revision) > 0) await this.catchUp();
    else if (compareRevisions(newest, this.seen) < 0) void this.lookForLoss();
    if (mark !== undefined) this.changeMark?.know(mark);
  }

  private get isConnected(): boolean {
    return this.redis.status === 'ready';
  }

  private async within<T>(write: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Unavailable('the record store is not available')), commitTimeoutMs);
    });
    try {
      return await Promise.race([write, late]);
    } catch (error) {
      if (error instanceof Error && error.name === 'ReplyError' && !isPassing(error))
        throw new System('the record store refused a write', { cause: error });
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
        if (this.restorer.isDue) void this.lookForLoss();
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
    if (this.hasReconnected) {
      this.hasReconnected = false;
      // What comes now is newer than what was forgotten, which shows no more afterwards.
      if (await this.hasForgotten()) this.restorer.suspect();
    }
    for (const [revision, values] of entries) {
      const [, commitId = '', , fieldsJson = '[]', , eventsJson = '[]'] = values;
      const ours = this.inFlight.get(commitId);
      if (ours !== undefined) {
        // The change stream was quicker than the answer.
        this.inFlight.delete(commitId);
        this.take(ours, revision);
      } else if (!this.applied.delete(commitId)) {
        const fields = JSON.parse(fieldsJson) as string[];
        if (fields.length === 1 && fields[0] === schemaField) {
          await this.hearOfRestoration(revision);
          if (this.isOutdated) return this.leave();
        } else if (fields.length > 0) {
          const documents = await this.redis.hmget(this.keys.records, ...fields);
          for (const [index, field] of fields.entries()) {
            this.applyField(field, documents[index] ?? null, revision);
            // What follows is of a shape that nobody here understands.
            if (this.isOutdated) return this.leave();
          }
          // Also a commit of ours whose answer was lost.
          this.changeMark?.change();
        }
      }
      if (compareRevisions(revision, this.revision) > 0) this.revision = revision;
      this.see(revision);
      if (eventsJson !== '[]') this.outbox.announce(revision);
    }
  }

  /** Another instance has given Redis what it had lost: it may have known what we had not heard of, and the other way round. */
  private async hearOfRestoration(revision: string): Promise<void> {
    const before = new Set(Array.from(this.copied(), ({ field }) => field));
    await this.load();
    for (const { field } of this.copied()) before.delete(field);
    if (before.size > 0) {
      const records = [...before];
      this.logger.warn(
        { revision, records },
        'records are gone: an instance that gave Redis back what it had lost had removed them, or not heard of them',
      );
    }
    this.applied.clear();
    this.restorer.settle();
    this.changeMark?.change();
    await this.leases.holdAgain();
    this.restorations++;
  }

  /** The records are not ours any more: who has taken them over keeps their copy. */
  private leave(): void {
    void this.keeper?.close();
  }

  async close(): Promise<void> {
    this.closed = true;
    const kept = this.keeper?.close();
    if (this.isConnected) await Promise.race([kept, pause(1000)]);
    this.followRedis.disconnect();
    // Writes already sent are answered first; a Redis that is away, or hangs up with something of ours unread, is not waited for.
    if (this.isConnected) await Promise.race([this.redis.quit().catch(() => undefined), pause(1000)]);
    this.redis.disconnect();
    this.changeMark?.close();
  }
}

/** What a Redis says that is between two masters, or has too few replicas at hand. */
function isPassing(error: Error): boolean {
  return /^(NOREPLICAS|CLUSTERDOWN|READONLY|MASTERDOWN|LOADING|TRYAGAIN|UNBLOCKED)/.test(error.message);
}

function holdsAnything(directory: string): boolean {
  return existsSync(directory) && readdirSync(directory).length > 0;
}
