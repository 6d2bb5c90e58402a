/** The records of one kind, in memory, and the changes of them that a commit is made of. */
import { compareRevisions } from './revision.ts';

export interface RecordPut {
  readonly kind: string;
  readonly id: string;
  readonly document: unknown;
  readonly create: boolean;
}

/** A record as it is known. */
export interface RecordState {
  readonly kind: string;
  readonly id: string;
  readonly document: unknown;
}

export interface RecordDelete {
  readonly kind: string;
  readonly id: string;
}

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

  /** Every record with the revision that it is of. */
  all(): Iterable<[string, { readonly document: T; readonly revision: string }]> {
    return this.entries;
  }

  /** A change for `commit`; with `create` the commit is a Conflict when the id is taken. */
  put(id: string, document: T, options: { create?: boolean } = {}): RecordPut {
    return { kind: this.kind, id, document, create: options.create ?? false };
  }

  /** For `unchanged` of a commit: the record as it was read here. */
  is(id: string, document: T): RecordState {
    return { kind: this.kind, id, document };
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
