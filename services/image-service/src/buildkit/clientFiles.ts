/** Directories of a client, each brought here when it is needed, and no more of it than that. */
import { existsSync } from 'node:fs';
import { Cancelled } from '@flotilla/errors';
import type { ContextPaths } from '../build/contextPaths.ts';
import type { DirectoryDigests } from '../build/copy/contentHash.ts';
import type { ContextCopies, ContextCopy } from './contextCopies.ts';
import { BegunSync, type SyncRequest, syncDirectory } from './fileSync.ts';
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
  /** What the client lists of it already. */
  readonly begun?: BegunSync | undefined;
}

const reportEveryMs = 100;

/**
 * Has the client list a directory before the Dockerfile is here: most builds of a directory need of it what the last one did. One that needs something else
 * asks for that, and this is taken back. Undefined where there was no last one.
 */
export function beginAsBefore(
  { session, copies, name }: Pick<ClientDirectoryOptions, 'session' | 'copies' | 'name'>,
  signal: AbortSignal,
): BegunSync | undefined {
  const request = session.sharedKey === '' ? undefined : copies.lastRequest(keyOf(session, name));
  return request === undefined ? undefined : new BegunSync(session.connection, request, signal);
}

function keyOf(session: Session, name: string): string {
  return `${session.sharedKey || session.id}\0${name}`;
}

export class ClientDirectory {
  private begun: BegunSync | undefined;
  private readonly options: ClientDirectoryOptions;
  private copy: ContextCopy | undefined;
  private covered: Set<string> | 'all' = new Set();
  private under: Promise<void> = Promise.resolve();
  private isWhole = true;
  private readonly released = new AbortController();

  constructor(options: ClientDirectoryOptions) {
    this.options = options;
    this.begun = options.begun;
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
    this.copy ??= copies.claim(keyOf(session, name));
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
    const { session, copies, progress, name, title, excludes, signal } = this.options;
    this.isWhole = false;
    const ended = AbortSignal.any([signal, this.released.signal]);
    await progress.during(title, async (vertex) => {
      let shown = 0;
      let last = 0;
      const bar = (bytes: number, isComplete: boolean): void =>
        vertex.bar({ id: `transferring ${name}:`, name: 'transferring', current: bytes, total: 0, isComplete });
      const request = { directory: name, paths, excludes };
      const begun = this.takeBegun(request);
      await syncDirectory(
        session.connection,
        request,
        this.claimed,
        (bytes) => {
          last = bytes;
          if (Date.now() - shown < reportEveryMs) return;
          shown = Date.now();
          bar(bytes, false);
        },
        ended,
        begun,
      );
      bar(last, true);
      if (session.sharedKey !== '') copies.noteRequest(keyOf(session, name), request);
    });
    this.isWhole = true;
  }

  /** What was begun, if it is this; it is used once, or taken back. */
  private takeBegun(request: SyncRequest): BegunSync | undefined {
    const { begun } = this;
    this.begun = undefined;
    if (begun?.isFor(request) === true) return begun;
    begun?.cancel();
    return undefined;
  }

  /** A step that a failure elsewhere has left behind brings no more of it, and what it brings is over before the copy is let go. */
  async release(): Promise<void> {
    this.released.abort(new Cancelled('the build has ended'));
    this.begun?.cancel();
    await this.under.catch(() => undefined);
    const { copy } = this;
    this.copy = undefined;
    if (copy !== undefined && existsSync(copy.path)) await copy.release(this.isWhole && this.options.session.sharedKey !== '');
  }
}
