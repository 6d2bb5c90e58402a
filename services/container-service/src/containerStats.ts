/** `docker stats`: which samples a client asked for, of a container by its record. */
import type { ContainerStats as StatsDocument } from '@flotilla/engine-api';
import type { Group } from './cgroups/index.ts';
import type { ContainerRecord } from './container.ts';
import { type HostCounters, StatsSampler, type StatsTarget } from './stats.ts';
import type { ContainerStore } from './store.ts';

export interface ContainerStatsOptions {
  readonly store: Pick<ContainerStore, 'containers'>;
  readonly group: (cgroupPath: string) => Group;
  readonly host: HostCounters;
}

export class ContainerStats {
  readonly #options: ContainerStatsOptions;
  readonly #sampler: StatsSampler;

  constructor(options: ContainerStatsOptions) {
    this.#options = options;
    this.#sampler = new StatsSampler(options.host);
  }

  /** @see Engine API v1.50 ContainerStats */
  async *open(
    container: ContainerRecord,
    { stream, oneShot }: { stream: boolean; oneShot: boolean },
    signal: AbortSignal,
  ): AsyncGenerator<StatsDocument> {
    const target = this.#target(container);
    if (!stream) {
      yield oneShot ? this.#sampler.oneShot(target) : await this.#sampler.once(target, signal);
      return;
    }
    for await (const stats of this.#sampler.watch(target, signal)) {
      // A container that is gone has no more to say.
      if (this.#options.store.containers.get(container.id) === undefined) return;
      yield stats;
    }
  }

  stop(): void {
    this.#sampler.stop();
  }

  #target(container: ContainerRecord): StatsTarget {
    const { store, group } = this.#options;
    const { id } = container;
    return {
      id,
      name: () => `/${store.containers.get(id)?.name ?? container.name}`,
      running: () => {
        const run = store.containers.get(id)?.state.run;
        return run === undefined ? undefined : { group: group(run.cgroup), pid: run.pid, ownNetwork: run.netns !== '' };
      },
    };
  }
}
