/** Starts containers again by their policy, after the delay that grows with each short run. */
import { isNotFound } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
import type { ContainerRecord } from './container.ts';
import { RestartDelay } from './restartPolicy.ts';
import { type Starter, StartFailed } from './start.ts';
import type { ContainerStore } from './store.ts';

export interface RestarterOptions {
  readonly logger: Logger;
  readonly store: ContainerStore;
  readonly starter: Pick<Starter, 'start'>;
}

export class Restarter {
  private readonly options: RestarterOptions;
  private readonly delays = new Map<string, RestartDelay>();
  private readonly timers = new Map<string, NodeJS.Timeout>();

  constructor(options: RestarterOptions) {
    this.options = options;
  }

  /** @param ranMs - how long the run that ended had lasted. */
  schedule(container: ContainerRecord, ranMs: number): void {
    const { id } = container;
    const delay = this.delays.get(id) ?? new RestartDelay();
    this.delays.set(id, delay);
    this.cancel(id);
    this.timers.set(
      id,
      setTimeout(() => {
        this.timers.delete(id);
        void this.restart(id);
      }, delay.next(ranMs)),
    );
  }

  /** A client has stopped or started it: the next delay is the first again. */
  forget(id: string): void {
    this.cancel(id);
    this.delays.delete(id);
  }

  /** It is not to be started any more, or another instance does it. */
  cancel(id: string): void {
    clearTimeout(this.timers.get(id));
    this.timers.delete(id);
  }

  stop(): void {
    for (const timer of this.timers.values()) clearTimeout(timer);
    this.timers.clear();
  }

  private async restart(id: string): Promise<void> {
    const { store, starter, logger } = this.options;
    try {
      await store.withContainer(id, async (container, lease) => {
        if (container.state.status !== 'restarting') return;
        await starter.start(container, lease, true);
      });
    } catch (error) {
      if (isNotFound(error)) return;
      if (error instanceof StartFailed) logger.warn({ containerId: id, reason: error.message }, 'a restart by policy failed');
      else logger.error({ containerId: id, error }, 'a restart by policy failed');
    }
  }
}
