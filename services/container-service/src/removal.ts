/** Removing a container: names, ports and references are free before the answer; its files are deleted after it. */
import { Conflict } from '@flotilla/errors';
import type { Commit, Lease } from '@flotilla/records';
import type { Logger } from '@flotilla/service-kit';
import type { ContainerRecord, TrashRecord } from './container.ts';
import type { LogClaims } from './logClaims.ts';
import { type ContainerStore, containerEvent } from './store.ts';
import type { Teardown } from './teardown.ts';
import type { ContainerChanges } from './waiting.ts';

export interface RemoverOptions {
  readonly logger: Logger;
  readonly store: ContainerStore;
  readonly changes: ContainerChanges;
  readonly teardown: Teardown;
  readonly claims: Pick<LogClaims, 'whenUnread'>;
}

export class Remover {
  private readonly options: RemoverOptions;

  constructor(options: RemoverOptions) {
    this.options = options;
  }

  /**
   * Removes a container that does not run. The caller holds its lease.
   *
   * @param told - told before `destroy`, in the same commit, and the records that this goes by.
   * @param released - how much of what it holds is free already: nothing, its endpoints, or all.
   */
  async remove(
    container: ContainerRecord,
    lease: Lease,
    removeVolumes: boolean,
    told: Pick<Commit, 'events' | 'unchanged'> = {},
    released: 'nothing' | 'sandbox' | 'all' = 'nothing',
  ): Promise<void> {
    const { store, changes, teardown } = this.options;
    if (container.state.run !== undefined) throw new Conflict(`container ${container.id} is running`);
    const trash: TrashRecord = { container, exitCode: container.state.exitCode, removeVolumes };
    await changes.announceRemovalAfter(container.id, container, async () => {
      await store.commit({
        puts: [store.trash.put(container.id, trash)],
        deletes: [
          store.containers.delete(container.id),
          store.names.delete(container.name),
          ...this.execsOf(container.id).map((id) => store.execs.delete(id)),
        ],
        events: [...(told.events ?? []), containerEvent(container, 'destroy')],
        unchanged: told.unchanged ?? [],
        lease,
      });
      if (released !== 'all') await teardown.releaseHoldings(container, removeVolumes, released === 'sandbox');
    });
    setImmediate(() => void this.empty(trash));
  }

  /** Deletes what is left of a removed container, and forgets it. */
  async empty(trash: TrashRecord): Promise<void> {
    const { store, teardown, logger } = this.options;
    const { id } = trash.container;
    await this.options.claims.whenUnread(id);
    try {
      teardown.deleteFiles(id);
      await store.commit({ deletes: [store.trash.delete(id)] });
    } catch (error) {
      logger.warn({ containerId: id, error }, 'its files could not be deleted; the next start of this service tries again');
    }
  }

  /** Finishes the removals that a killed instance left. */
  async emptyAll(): Promise<void> {
    for (const trash of [...this.options.store.trash.values()]) {
      await this.options.teardown.releaseHoldings(trash.container, trash.removeVolumes);
      // What is still read keeps nobody waiting.
      void this.empty(trash);
    }
  }

  private execsOf(containerId: string): string[] {
    return [...this.options.store.execs.values()].filter((exec) => exec.containerId === containerId).map((exec) => exec.id);
  }
}
