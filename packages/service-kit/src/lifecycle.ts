/** What a process has started and how it is stopped: in reverse order, within a deadline, every failure reported. */
import type { Logger } from './logger.ts';

interface Stopper {
  readonly name: string;
  readonly stop: () => Promise<void> | void;
}

export class Lifecycle {
  private readonly stoppers: Stopper[] = [];
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

  /** SIGTERM and SIGINT stop everything and exit 0; a second signal exits at once. */
  handleSignals(): void {
    const onSignal = (signal: NodeJS.Signals): void => {
      if (this.stopping !== undefined) process.exit(130);
      this.logger.info({ signal }, 'stopping');
      void this.stop().then(() => process.exit(0));
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
    // A service that reads files again on SIGHUP listens for itself; to the others it means nothing, and never the end.
    process.on('SIGHUP', () => undefined);
  }
}
