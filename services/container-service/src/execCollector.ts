/**
 * Forgets execs five to ten minutes after their end, as dockerd does: until then their clients have asked how they ended, and a container that runs for months would
 * keep a record of each.
 */
import { errorMessage } from '@flotilla/errors';
import type { Collection } from '@flotilla/records';
import type { Logger } from '@flotilla/service-kit';
import type { Ownership } from './duties.ts';
import type { ExecRecord } from './execRecord.ts';
import type { ContainerStore } from './store.ts';

export interface ExecCollectorOptions {
  readonly store: Pick<ContainerStore, 'commit'> & { readonly execs: Pick<Collection<ExecRecord>, 'values' | 'delete'> };
  readonly ownership: Pick<Ownership, 'isMine'>;
  readonly logger: Logger;
}

const lookMs = 5 * 60_000;

export class ExecCollector {
  private readonly options: ExecCollectorOptions;
  /** Those that had ended when it last looked. */
  private ended: ReadonlySet<string> = new Set();
  private timer: NodeJS.Timeout | undefined;

  constructor(options: ExecCollectorOptions) {
    this.options = options;
  }

  start(): void {
    this.timer = setInterval(() => void this.look(), lookMs).unref();
  }

  stop(): void {
    clearInterval(this.timer);
  }

  /** Forgets those of our containers that had ended at the last look too. */
  async look(): Promise<void> {
    const { store, ownership, logger } = this.options;
    const ended = [...store.execs.values()].filter((exec) => exec.state === 'exited' && ownership.isMine(exec.containerId));
    const due = ended.filter((exec) => this.ended.has(exec.id));
    this.ended = new Set(ended.map((exec) => exec.id));
    if (due.length === 0) return;
    try {
      await store.commit({ deletes: due.map((exec) => store.execs.delete(exec.id)) });
    } catch (error) {
      logger.debug({ reason: errorMessage(error) }, 'execs that have ended could not be forgotten; they are at the next look');
    }
  }
}
