/**
 * Gives Redis again what it has forgotten of a service's records: from the memory of an instance that runs, or at a start from the copy in the data root.
 *
 * One instance does it, by lease. It first hears of all that Redis still has, then writes what differs in parts, and brings the revision up with the last of them. Each
 * is refused when anything has come since Redis was read, and all is compared anew then: so also when this is cut off anywhere.
 */
import { isConflict, System } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
import type { RecordPut } from './collection.ts';
import type { Lease } from './leases.ts';
import type { CopiedRecord, FoundCopy } from './recordCopy.ts';
import { isPutBack, noteRestored, type Restoration } from './restoration.ts';
import { compareRevisions, nextRevision } from './revision.ts';
import { type Schema, schemaField, schemaId, schemaKind, splitField } from './schema.ts';
import type { Commit } from './store.ts';

/** All that Redis has, at one moment. */
export interface FoundRecords {
  readonly revision: string;
  readonly documents: Readonly<Record<string, string>>;
}

/** The store, as its restoration needs it. */
export interface Restorable {
  /** Up to which revision all has come by the change stream, and the newest that Redis has answered. */
  revisions(): { heard: string; seen: string };
  /** Every record in memory. */
  memory(): Iterable<CopiedRecord>;
  /** Hears of all that has come by the change stream. @throws Unavailable when the records are of a newer schema by now. */
  catchUp(): Promise<void>;
  /** Whether Redis has forgotten the newest revision that it has answered. */
  hasForgotten(): Promise<boolean>;
  readAll(): Promise<FoundRecords>;
  /** Reads every record anew. */
  load(): Promise<void>;
  /** Writes records that nobody hears of yet. @throws Conflict when there is anything newer than `at`. */
  writePart(commit: Commit): Promise<void>;
  /** Writes records as the entry `revision` of the change stream: others load all of them anew. @throws Conflict when there is anything newer than `at`. */
  conclude(commit: Commit, revision: string): Promise<void>;
  holdLeasesAgain(): Promise<void>;
}

const fieldsPerPart = 500;
const mostAttempts = 100;

export class Restorer {
  private readonly store: Restorable;
  private readonly schema: Schema;
  private readonly directory: string | undefined;
  private readonly logger: Logger;
  private readonly withLease: (work: (lease: Lease) => Promise<void>) => Promise<void>;
  private running: Promise<void> | undefined;
  private isLost = false;

  /** @param options.directory - where what became of it is noted. */
  constructor(options: {
    store: Restorable;
    schema: Schema;
    directory: string | undefined;
    logger: Logger;
    withLease: (work: (lease: Lease) => Promise<void>) => Promise<void>;
  }) {
    this.store = options.store;
    this.schema = options.schema;
    this.directory = options.directory;
    this.logger = options.logger;
    this.withLease = options.withLease;
  }

  /** Redis lacks something that it had answered, whatever it answers later. */
  suspect(): void {
    this.isLost = true;
  }

  /** All that Redis has counts. */
  settle(): void {
    this.isLost = false;
  }

  /** Whether Redis is known to lack anything. */
  get isDue(): boolean {
    return this.isLost;
  }

  /** Gives what is known to be missing; resolves when that has ended, in whatever way. */
  async giveDue(): Promise<void> {
    if (this.isLost || this.running !== undefined) await this.restore().catch(() => undefined);
  }

  /** From memory, if Redis has forgotten anything. */
  restore(): Promise<void> {
    this.running ??= this.withLease((lease) => this.restoreFromMemory(lease)).finally(() => {
      this.running = undefined;
    });
    return this.running;
  }

  private async restoreFromMemory(lease: Lease): Promise<void> {
    await this.store.holdLeasesAgain();
    await untilUnmoved(async () => {
      // What is heard afterwards hides it.
      if (await this.store.hasForgotten()) this.suspect();
      // What Redis still has of others' counts as well.
      await this.store.catchUp();
      if (!this.isLost) return true;
      const found = await this.store.readAll();
      const { heard, seen } = this.store.revisions();
      if (compareRevisions(found.revision, heard) > 0) return false;
      if (this.directory !== undefined && isPutBack(this.directory, found.revision)) {
        await this.adopt(found, seen, lease);
      } else {
        const documents = new Map<string, string>();
        for (const { field, document } of this.store.memory()) documents.set(field, JSON.stringify(document));
        await this.writeBack(found, { newest: seen, documents }, lease, 'memory');
      }
      this.settle();
      return true;
    });
  }

  /** At a start, if Redis is behind it. */
  async restoreFromCopy(copy: FoundCopy, lease: Lease): Promise<void> {
    await untilUnmoved(async () => {
      const found = await this.store.readAll();
      if (compareRevisions(found.revision, copy.newest) < 0) await this.writeBack(found, copy, lease, 'copy');
      return true;
    });
  }

  /** The data that were lost are there again: they count, and not what was made without them. */
  private async adopt(found: FoundRecords, seen: string, lease: Lease): Promise<void> {
    const version = Number(found.documents[schemaField] ?? 1);
    if (version !== this.schema.version)
      throw new System(`Redis was given back records of schema ${version}: the service has to be started anew`);
    await this.store.conclude({ puts: [schemaPut(version)], lease, at: found.revision }, nextRevision(later(seen, found.revision)));
    await this.store.load();
    this.logger.warn('Redis was given back the records that it had lost: they count, and not what was made without them');
  }

  /** Makes Redis hold these documents and no others. */
  private async writeBack(found: FoundRecords, wanted: FoundCopy, lease: Lease, from: Restoration['from']): Promise<void> {
    const at = found.revision;
    const puts = [...wanted.documents].filter(([field, json]) => field !== schemaField && found.documents[field] !== json);
    const deletes = Object.keys(found.documents).filter((field) => field !== schemaField && !wanted.documents.has(field));
    for (const part of inParts(puts)) {
      await this.store.writePart({
        puts: part.map(([field, json]) => ({ ...namesOf(field), document: JSON.parse(json), create: false })),
        lease,
        at,
      });
    }
    for (const part of inParts(deletes)) await this.store.writePart({ deletes: part.map(namesOf), lease, at });
    const version = Number(wanted.documents.get(schemaField) ?? this.schema.version);
    await this.store.conclude({ puts: [schemaPut(version)], lease, at }, nextRevision(later(wanted.newest, at)));
    const records = puts.length + deletes.length;
    this.logger.warn({ written: puts.length, deleted: deletes.length, from }, 'Redis had lost records; they were given to it again');
    if (this.directory !== undefined) noteRestored(this.directory, { at: new Date().toISOString(), records, from });
  }
}

/** Does it again as long as somebody else changes records in the middle of it, or it answers false. */
async function untilUnmoved(work: () => Promise<boolean>): Promise<void> {
  for (let attempt = 1; attempt <= mostAttempts; attempt++) {
    try {
      if (await work()) return;
    } catch (error) {
      if (!isConflict(error)) throw error;
    }
  }
  throw new System('the records change too quickly to be restored');
}

function schemaPut(version: number): RecordPut {
  return { kind: schemaKind, id: schemaId, document: version, create: false };
}

function namesOf(field: string): { kind: string; id: string } {
  const [kind, id] = splitField(field);
  return { kind, id };
}

function later(a: string, b: string): string {
  return compareRevisions(a, b) > 0 ? a : b;
}

function* inParts<T>(items: readonly T[]): Generator<T[]> {
  for (let from = 0; from < items.length; from += fieldsPerPart) yield items.slice(from, from + fieldsPerPart);
}
