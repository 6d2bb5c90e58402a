/** What a process has started and how it is stopped: in reverse order, within a deadline, every failure reported; or, where others take over, when nothing is under way any more. */
import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from './logger.ts';

interface Stopper {
  readonly name: string;
  readonly stop: () => Promise<void> | void;
}

/** What may be under way when an instance leaves others the work. */
export interface Drainable {
  readonly name: string;
  /** Takes nothing new. */
  readonly begin?: () => void;
  /** Sends on its way what can go on at another instance; called again and again. */
  readonly move?: () => void;
  readonly isBusy: () => boolean;
}

/** Callers hear within this time that an instance leaves; what they ask until then is answered. */
const heardMs = 500;
const lookEveryMs = 100;
/** An attached client may stay for days; a process of the old code should not. */
const longestDrainMs = 3_600_000;

export class Lifecycle {
  private readonly stoppers: Stopper[] = [];
  private readonly drainables: Drainable[] = [];
  private stopping: Promise<void> | undefined;
  private readonly logger: Logger;
  private readonly deadlineMs: number;

  constructor(logger: Logger, options: { deadlineMs?: number } = {}) {
    this.logger = logger;
    this.deadlineMs = options.deadlineMs ?? 10_000;
  }

  /** Registers what to do at the end; the last registered is done first. */
  onStop(name: string, stop: () => Promise<void> | void): void {
    this.stoppers.push({ name, stop });
  }

  /** Registers what a drain waits for; the last registered begins first. */
  onDrain(drainable: Drainable): void {
    this.drainables.push(drainable);
  }

  /** All that was registered, as one. */
  asDrainable(name: string): Required<Drainable> {
    return {
      name,
      begin: () => {
        for (const { begin } of this.drainables.toReversed()) begin?.();
      },
      move: () => {
        for (const { move } of this.drainables) move?.();
      },
      isBusy: () => this.drainables.some(({ isBusy }) => isBusy()),
    };
  }

  /** Leaves the work to other instances: takes nothing new, lets everything under way come to its end, then stops. */
  async drain(): Promise<void> {
    const deadline = performance.now() + longestDrainMs;
    const { begin, move, isBusy } = this.asDrainable('all');
    begin();
    await pause(heardMs);
    for (move(); this.stopping === undefined && isBusy(); move()) {
      if (performance.now() > deadline) {
        const busy = this.drainables.filter((drainable) => drainable.isBusy()).map(({ name }) => name);
        this.logger.warn({ busy }, 'not waited for any longer');
        break;
      }
      await pause(lookEveryMs);
    }
    await this.stop();
  }

  /** Stops all that was registered, once; later calls wait for the same end. A stopper that passes the deadline is left behind. */
  stop(): Promise<void> {
    this.stopping ??= this.stopAll();
    return this.stopping;
  }

  private async stopAll(): Promise<void> {
    const end = Date.now() + this.deadlineMs;
    for (const { name, stop } of this.stoppers.reverse()) {
      let timer: NodeJS.Timeout | undefined;
      try {
        const late = new Promise<'late'>((resolve) => {
          timer = setTimeout(resolve, Math.max(0, end - Date.now()), 'late');
        });
        if ((await Promise.race([stop(), late])) === 'late') this.logger.warn({ stopper: name }, 'not stopped within the deadline');
      } catch (error) {
        this.logger.error({ stopper: name, error }, 'failed to stop');
      } finally {
        clearTimeout(timer);
      }
    }
  }

  /** SIGTERM and SIGINT stop everything and exit 0; a second signal exits at once. SIGUSR2 drains, then stops. */
  handleSignals(): void {
    const onSignal = (signal: NodeJS.Signals): void => {
      if (this.stopping !== undefined) process.exit(130);
      this.logger.info({ signal }, 'stopping');
      void this.stop().then(() => process.exit(0));
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
    process.once('SIGUSR2', (signal) => {
      this.logger.info({ signal }, 'draining');
      // Sent again it changes nothing, and is not the end.
      process.on('SIGUSR2', () => undefined);
      void this.drain().then(() => process.exit(0));
    });
    // A service that reads files again on SIGHUP listens for itself; to the others it means nothing, and never the end.
    process.on('SIGHUP', () => undefined);
  }
}
