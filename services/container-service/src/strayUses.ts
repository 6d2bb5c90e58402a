/**
 * Uses of volumes by containers that are not there, which would keep a volume from being removed for ever: an answer that was lost, a call that came late (its
 * instance of network-volume had been stopped, and the container was gone when it went on), a release that failed. Every instance looks for them now and then, whoever else lives.
 */
import { errorMessage } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
import type { Drafts } from './drafts.ts';
import type { Neighbours } from './neighbours.ts';
import type { ContainerStore } from './store.ts';

export interface StrayUsesOptions {
  readonly store: Pick<ContainerStore, 'areLost' | 'isGone'> & {
    readonly trash: { get(id: string): { readonly removeVolumes: boolean } | undefined };
  };
  readonly drafts: Pick<Drafts, 'has'>;
  readonly volumes: Pick<Neighbours['volumes'], 'listUses' | 'release'>;
  /** Takes away what creates that were given up have left. */
  readonly endAbandonedDrafts: () => Promise<void>;
  readonly logger: Logger;
}

/** One that is seen at two looks running is given back. */
const lookMs = 15_000;
const callDeadlineMs = 10_000;
const containerId = /^[0-9a-f]{64}$/;

export class StrayUses {
  private readonly options: StrayUsesOptions;
  private timer: NodeJS.Timeout | undefined;
  private looking = false;
  /** Those of the last look: a container's removal may be about to give them back. */
  private seen: ReadonlySet<string> = new Set();

  constructor(options: StrayUsesOptions) {
    this.options = options;
  }

  start(): void {
    this.timer = setInterval(() => void this.look(), lookMs).unref();
  }

  stop(): void {
    clearInterval(this.timer);
  }

  async look(): Promise<void> {
    const { store, logger, endAbandonedDrafts } = this.options;
    if (this.looking || store.areLost) return;
    this.looking = true;
    try {
      await endAbandonedDrafts();
      await this.giveBack();
    } catch (error) {
      logger.debug({ reason: errorMessage(error) }, 'uses of volumes could not be compared with containers; they are at the next look');
    } finally {
      this.looking = false;
    }
  }

  /** Uses are listed first: whoever has one had begun its draft before, and ends that when it has its record. No id is used again. */
  private async giveBack(): Promise<void> {
    const { store, drafts, volumes, logger } = this.options;
    const call = { idempotent: true, deadlineMs: callDeadlineMs };
    const { uses } = await volumes.listUses({}, call);
    const strays = new Set<string>();
    for (const { name, user } of uses) {
      if (!containerId.test(user) || drafts.has(user) || !(await store.isGone(user))) continue;
      const use = `${name} ${user}`;
      if (!this.seen.has(use)) {
        strays.add(use);
        continue;
      }
      logger.warn({ containerId: user, volume: name }, 'a volume was held by a container that does not exist');
      await volumes.release({ name, user, removeAnonymous: store.trash.get(user)?.removeVolumes ?? false }, call);
    }
    this.seen = strays;
  }
}
