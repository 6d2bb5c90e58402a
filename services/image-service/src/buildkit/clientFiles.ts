/** Directories of a client, each brought here when it is needed, and no more of it than that. */
import { existsSync } from 'node:fs';
import { Cancelled } from '@flotilla/errors';
import type { ContextPaths } from '../build/contextPaths.ts';
import type { DirectoryDigests } from '../build/copy/contentHash.ts';
import type { ContextCopies, ContextCopy } from './contextCopies.ts';
import { syncDirectory } from './fileSync.ts';
import type { Progress } from './progress.ts';
import type { Session } from './session.ts';

export interface ClientDirectoryOptions {
  readonly session: Session;
  readonly copies: ContextCopies;
  readonly progress: Progress;
  /** The client's name for it. */
  readonly name: string;
  /** What is shown: `[internal] load build context`. */
  readonly title: string;
  readonly excludes: readonly string[];
  readonly signal: AbortSignal;
}

const reportEveryMs = 100;

export class ClientDirectory {
  private readonly options: ClientDirectoryOptions;
  private copy: ContextCopy | undefined;
  private covered: Set<string> | 'all' = new Set();
  private under: Promise<void> = Promise.resolve();
  private isWhole = true;
  private readonly released = new AbortController();

  constructor(options: ClientDirectoryOptions) {
    this.options = options;
  }

  /** The directory with at least these paths. What came before stays. */
  async files(paths: ContextPaths): Promise<string> {
    if (this.covers(paths)) {
      await this.under;
      return this.root;
    }
    // What is asked for a second time is not known in full: all of it, then.
    const wanted = this.covered !== 'all' && this.covered.size === 0 ? paths : undefined;
    this.covered = wanted === undefined ? 'all' : new Set(wanted);
    this.under = this.under.then(() => this.bring(wanted ?? []));
    this.under.catch(() => undefined);
    await this.under;
    return this.root;
  }

  private get root(): string {
    return this.claimed.path;
  }

  private get claimed(): ContextCopy {
    this.released.signal.throwIfAborted();
    const { copies, session, name } = this.options;
    this.copy ??= copies.claim(`${session.sharedKey || session.id}\0${name}`);
    return this.copy;
  }

  /** Of its directories, as far as they are known; undefined as long as nothing of it was brought. */
  get digests(): DirectoryDigests | undefined {
    return this.copy?.known;
  }

  private covers(paths: ContextPaths): boolean {
    const { covered } = this;
    return covered === 'all' || (paths !== undefined && covered.size > 0 && paths.every((path) => covered.has(path)));
  }

  private async bring(paths: readonly string[]): Promise<void> {
    const { session, progress, name, title, excludes, signal } = this.options;
    this.isWhole = false;
    const ended = AbortSignal.any([signal, this.released.signal]);
    await progress.during(title, async (vertex) => {
      let shown = 0;
      let last = 0;
      const bar = (bytes: number, isComplete: boolean): void =>
        vertex.bar({ id: `transferring ${name}:`, name: 'transferring', current: bytes, total: 0, isComplete });
      await syncDirectory(
        session.connection,
        { directory: name, paths, excludes },
        this.claimed,
        (bytes) => {
          last = bytes;
          if (Date.now() - shown < reportEveryMs) return;
          shown = Date.now();
          bar(bytes, false);
        },
        ended,
      );
      bar(last, true);
    });
    this.isWhole = true;
  }

  /** A step that a failure elsewhere has left behind brings no more of it, and what it brings is over before the copy is let go. */
  async release(): Promise<void> {
    this.released.abort(new Cancelled('the build has ended'));
    await this.under.catch(() => undefined);
    const { copy } = this;
    this.copy = undefined;
    if (copy !== undefined && existsSync(copy.path)) await copy.release(this.isWhole && this.options.session.sharedKey !== '');
  }
}
