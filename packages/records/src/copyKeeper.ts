/** Keeps the copy of a service's records (recordCopy.ts) as long as the service runs: one replica does, by lease. */
import { rm } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { isUnavailable } from '@flotilla/errors';
import { aborted, type Logger } from '@flotilla/service-kit';
import type { Lease } from './leases.ts';
import { type CopiedRecord, RecordCopy } from './recordCopy.ts';

const retryMs = 2_000;

export interface CopyKeeperOptions {
  readonly path: string;
  readonly owner: string;
  readonly all: () => { at: string; records: CopiedRecord[] };
  readonly withLease: (work: (lease: Lease) => Promise<void>, signal: AbortSignal) => Promise<void>;
  readonly logger: Logger;
}

export class CopyKeeper {
  private readonly options: CopyKeeperOptions;
  private readonly stopped = new AbortController();
  private readonly running: Promise<void>;
  private copy: RecordCopy | undefined;

  constructor(options: CopyKeeperOptions) {
    this.options = options;
    this.running = this.run();
  }

  /** A record has changed. */
  note(record: CopiedRecord): void {
    this.copy?.note(record);
  }

  private async run(): Promise<void> {
    const { signal } = this.stopped;
    while (!signal.aborted) {
      try {
        await this.options.withLease((lease) => this.keep(lease.signal), signal);
      } catch (error) {
        if (signal.aborted) return;
        // Another instance keeps it.
        if (!isUnavailable(error)) this.options.logger.warn({ error }, 'the copy of the records cannot be kept; trying again');
        await pause(retryMs, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  private async keep(lost: AbortSignal): Promise<void> {
    const { path, owner, all } = this.options;
    const done = AbortSignal.any([lost, this.stopped.signal]);
    if (done.aborted) return;
    const failed = new AbortController();
    const fail = (error: unknown): void => failed.abort(error);
    const over = AbortSignal.any([done, failed.signal]);
    const copy = new RecordCopy({ path, owner, all, isOurs: () => !over.aborted, onError: fail });
    this.copy = copy;
    await copy.begin().catch(fail);
    await aborted(over);
    copy.close();
    this.copy = undefined;
    if (!failed.signal.aborted) return;
    // A copy that lacks a change is not to be taken for the records later. If another instance keeps one by now, it makes a new one.
    await rm(path, { force: true });
    throw failed.signal.reason;
  }

  /** Writes what is still to be written, and leaves the copy to other instances. */
  async close(): Promise<void> {
    this.stopped.abort();
    await this.running;
  }
}
