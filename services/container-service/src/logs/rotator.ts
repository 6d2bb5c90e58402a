/**
 * Watches the sizes of running containers' logs and rotates them. One timer for all: a stat a container and second, sooner for
 * a log that grows fast enough to pass its size before then.
 */
import type { Logger } from '@flotilla/service-kit';
import { type RotateOptions, rotateLog } from './rotate.ts';
import { statIfExists } from './segments.ts';

interface Watched {
  readonly options: RotateOptions;
  sizeBytes: number;
  checkedAt: number;
  dueAt: number;
  busy: boolean;
}

const slowestMs = 1_000;
const fastestMs = 20;

export class LogRotator {
  readonly #logger: Logger;
  readonly #logs = new Map<string, Watched>();
  #timer: NodeJS.Timeout | undefined;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Keeps the log of a running container within its size from now on. */
  add(containerId: string, options: RotateOptions): void {
    this.#logs.set(containerId, { options, sizeBytes: 0, checkedAt: Date.now(), dueAt: Date.now(), busy: false });
    this.#schedule();
  }

  remove(containerId: string): void {
    this.#logs.delete(containerId);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#logs.clear();
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    if (this.#logs.size === 0) return;
    const next = Math.min(...[...this.#logs.values()].filter((log) => !log.busy).map((log) => log.dueAt));
    const wait = Number.isFinite(next) ? Math.min(Math.max(next - Date.now(), fastestMs), slowestMs) : slowestMs;
    this.#timer = setTimeout(() => this.#check(), wait);
    this.#timer.unref();
  }

  #check(): void {
    const now = Date.now();
    for (const [containerId, log] of this.#logs) {
      if (log.busy || log.dueAt > now) continue;
      log.busy = true;
      this.#checkOne(log)
        .catch((error: unknown) => this.#logger.error({ err: error, containerId }, 'log rotation failed'))
        .finally(() => {
          log.busy = false;
          this.#schedule();
        });
    }
    this.#schedule();
  }

  async #checkOne(log: Watched): Promise<void> {
    const { path, maxSizeBytes } = log.options;
    const sizeBytes = (await statIfExists(path))?.sizeBytes ?? 0;
    const now = Date.now();
    const rate = Math.max(0, sizeBytes - log.sizeBytes) / Math.max(1, now - log.checkedAt);
    const rotated = sizeBytes >= maxSizeBytes && (await rotateLog(log.options));
    log.sizeBytes = rotated ? 0 : sizeBytes;
    log.checkedAt = now;
    const untilFull = rate > 0 ? (maxSizeBytes - log.sizeBytes) / rate : slowestMs;
    log.dueAt = now + Math.min(Math.max(untilFull, fastestMs), slowestMs);
  }
}
