/**
 * Who was let in where, and when: for each repository and hash of credentials the time of the last yes from upstream. A fresh yes spares
 * asking again; an old one counts only while the upstream cannot be asked. Kept in `access.json`, which holds no secret and which replicas share.
 */
import { join } from 'node:path';
import { readDocument, writeDurably } from './durableFile.ts';

export interface AccessSettings {
  /** Milliseconds for which a yes is not asked for again. */
  readonly freshMs: number;
  /** Milliseconds for which a yes counts while the upstream is away. */
  readonly graceMs: number;
}

const maxGrants = 20_000;
const saveAfterMs = 2_000;

export class AccessBook {
  private readonly path: string;
  private readonly settings: AccessSettings;
  /** repository and credentials' key → milliseconds since the epoch; oldest first. */
  private readonly grants: Map<string, number>;
  /** Refused since the file was written: a replica's yes from before counts no more. */
  private readonly revoked = new Set<string>();
  private timer: NodeJS.Timeout | undefined;
  private saving: Promise<void> = Promise.resolve();
  private closed = false;

  private constructor(path: string, settings: AccessSettings, grants: Map<string, number>) {
    this.path = path;
    this.settings = settings;
    this.grants = grants;
  }

  static async open(root: string, settings: AccessSettings): Promise<AccessBook> {
    const path = join(root, 'access.json');
    const book = new AccessBook(path, settings, new Map());
    await book.refresh();
    return book;
  }

  /** Takes over what replicas know. */
  async refresh(): Promise<void> {
    const oldest = Date.now() - this.settings.graceMs;
    const written = await readDocument(this.path, (document) =>
      Object.entries(document as object).filter((pair): pair is [string, number] => typeof pair[1] === 'number' && pair[1] > oldest),
    );
    for (const [key, at] of written ?? []) {
      if (!this.revoked.has(key) && at > (this.grants.get(key) ?? 0)) this.grants.set(key, at);
    }
  }

  private key(repository: string, credentials: string): string {
    return `${repository} ${credentials}`;
  }

  /** The upstream has let these credentials read this repository. */
  grant(repository: string, credentials: string): void {
    const key = this.key(repository, credentials);
    this.revoked.delete(key);
    this.grants.delete(key);
    this.grants.set(key, Date.now());
    if (this.grants.size > maxGrants) {
      const [oldest] = this.grants.keys();
      if (oldest !== undefined) this.grants.delete(oldest);
    }
    this.saveSoon();
  }

  /** The upstream has refused them. */
  revoke(repository: string, credentials: string): void {
    const key = this.key(repository, credentials);
    this.grants.delete(key);
    this.revoked.add(key);
    this.saveSoon();
  }

  /** Let in a moment ago: no need to ask. */
  isFresh(repository: string, credentials: string): boolean {
    return this.age(repository, credentials) <= this.settings.freshMs;
  }

  /** Let in once, not too long ago: good enough while nobody can be asked. */
  isKnown(repository: string, credentials: string): boolean {
    return this.age(repository, credentials) <= this.settings.graceMs;
  }

  private age(repository: string, credentials: string): number {
    const at = this.grants.get(this.key(repository, credentials));
    return at === undefined ? Number.POSITIVE_INFINITY : Date.now() - at;
  }

  private saveSoon(): void {
    if (this.closed) return;
    this.timer ??= setTimeout(() => void this.save(), saveAfterMs);
    this.timer.unref();
  }

  /** Writes what has changed. A failure costs only that a restart without network asks for what it cannot have. */
  async save(): Promise<void> {
    if (this.timer === undefined) return this.saving;
    clearTimeout(this.timer);
    this.timer = undefined;
    this.saving = this.saving.then(() => this.write()).catch(() => undefined);
    return this.saving;
  }

  /** Writes what is owed; what a request that still ends is let in for is nobody's. */
  async close(): Promise<void> {
    this.closed = true;
    await this.save();
  }

  private async write(): Promise<void> {
    await this.refresh();
    const written = [...this.revoked];
    await writeDurably(this.path, JSON.stringify(Object.fromEntries(this.grants)));
    // Not those refused meanwhile: the file still says yes to them.
    for (const key of written) this.revoked.delete(key);
  }
}
