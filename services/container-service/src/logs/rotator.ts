/**
 * Looks after the logs of running containers: rotates them when they have grown to their size, and holds a container back that is too
 * far ahead of an attached reader, so that neither the disk nor a byte is lost.
 *
 * One timer for all: a stat a container and second, sooner for a log that grows so fast that something is due before then, and for one that is new:
 * how fast it grows is not known yet.
 */
import type { Logger } from '@flotilla/service-kit';
import { holdBytes, lagBytes, resumeBytes } from './lag.ts';
import { type RotateOptions, rotateLog, trimLog } from './rotate.ts';
import { statIfExists } from './segments.ts';

/** The process that writes a log, and its container. */
export interface LogWriter {
  /** Makes it stop where it stands: the container then waits with its next output. */
  pause(): void;
  /** Lets it go on. Harmless when it does already. */
  resume(): void;
  /** Whether the container's process is there. Its end is only told by a writer that runs. */
  alive(): boolean;
}

export interface RotatedLog extends RotateOptions {
  /** absent: the container is never held back */
  readonly writer?: LogWriter;
}

interface Watched {
  readonly log: RotatedLog;
  readonly forgetPins: () => void;
  sizeBytes: number;
  checkedAt: number;
  dueAt: number;
  /** How long the log is left alone at most: twice as long each time. */
  patienceMs: number;
  busy: boolean;
  held: boolean;
}

const slowestMs = 1_000;
const fastestMs = 20;
const heldMs = 50;

export class LogRotator {
  readonly #logger: Logger;
  readonly #logs = new Map<string, Watched>();
  #timer: NodeJS.Timeout | undefined;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Looks after the log of a running container from now on. */
  add(containerId: string, log: RotatedLog): void {
    this.remove(containerId);
    // A crash may have left it stopped.
    log.writer?.resume();
    const forgetPins =
      log.pins?.onRelease(log.path, () => {
        const watched = this.#logs.get(containerId);
        if (watched === undefined) return;
        watched.dueAt = 0;
        this.#schedule();
      }) ?? ((): void => undefined);
    const now = Date.now();
    this.#logs.set(containerId, {
      log,
      forgetPins,
      sizeBytes: 0,
      checkedAt: now,
      dueAt: now,
      patienceMs: fastestMs,
      busy: false,
      held: false,
    });
    this.#schedule();
  }

  remove(containerId: string): void {
    const watched = this.#logs.get(containerId);
    if (watched === undefined) return;
    this.#logs.delete(containerId);
    watched.forgetPins();
    if (watched.held) watched.log.writer?.resume();
  }

  /** Leaves nothing held back. */
  stop(): void {
    clearTimeout(this.#timer);
    for (const containerId of [...this.#logs.keys()]) this.remove(containerId);
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    const waiting = [...this.#logs.values()].filter((watched) => !watched.busy);
    if (waiting.length === 0) return;
    const wait = Math.min(...waiting.map((watched) => watched.dueAt)) - Date.now();
    this.#timer = setTimeout(() => this.#check(), Math.min(Math.max(wait, fastestMs), slowestMs));
    this.#timer.unref();
  }

  #check(): void {
    const now = Date.now();
    for (const [containerId, watched] of this.#logs) {
      if (watched.busy || watched.dueAt > now) continue;
      watched.busy = true;
      this.#checkOne(watched)
        .catch((error: unknown) => {
          watched.dueAt = Date.now() + slowestMs;
          this.#logger.error({ error, containerId }, 'looking after a log failed');
        })
        .finally(() => {
          watched.busy = false;
          this.#schedule();
        });
    }
    this.#schedule();
  }

  async #checkOne(watched: Watched): Promise<void> {
    const { path, maxSizeBytes, pins } = watched.log;
    const lag = pins === undefined ? 0 : lagBytes(path, pins);
    this.#holdBack(watched, lag);
    // A writer that is stopped cannot open a new file.
    if (watched.held) {
      watched.dueAt = Date.now() + heldMs;
      return;
    }
    const sizeBytes = statIfExists(path)?.sizeBytes ?? 0;
    const now = Date.now();
    const rate = Math.max(0, sizeBytes - watched.sizeBytes) / Math.max(1, now - watched.checkedAt);
    const rotated = sizeBytes >= maxSizeBytes && (await rotateLog(watched.log));
    // Segments that a reader held on to are let go of here too.
    if (!rotated && pins !== undefined) await trimLog(watched.log);
    watched.sizeBytes = rotated ? 0 : sizeBytes;
    watched.checkedAt = now;
    const room = Math.min(maxSizeBytes - watched.sizeBytes, lag > 0 ? holdBytes - lag : Number.POSITIVE_INFINITY);
    const dueMs = rate > 0 ? Math.max(room / rate, fastestMs) : slowestMs;
    watched.dueAt = now + Math.min(dueMs, watched.patienceMs);
    watched.patienceMs = Math.min(2 * watched.patienceMs, slowestMs);
  }

  #holdBack(watched: Watched, lag: number): void {
    const { writer } = watched.log;
    if (writer === undefined) return;
    if (!watched.held && lag > holdBytes && writer.alive()) {
      watched.held = true;
      writer.pause();
    } else if (watched.held && (lag < resumeBytes || !writer.alive())) {
      watched.held = false;
      writer.resume();
    }
  }
}
