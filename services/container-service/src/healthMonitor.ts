/**
 * Looks after the health of running containers: probes each at its interval, keeps the results in its record, tells of changes. It follows
 * the records, so that a container started, paused or gone by whatever way is probed, or not, and another instance of this
 * service goes on where one has ended.
 */
import { type Health, type HealthcheckResult, randomId } from '@flotilla/engine-api';
import { errorMessage, isNotFound } from '@flotilla/errors';
import type { DomainEvent } from '@flotilla/records';
import type { Logger } from '@flotilla/service-kit';
import { formatNano, longestTimerMs, nowNano, parseNano } from './clock.ts';
import type { ContainerRecord } from './container.ts';
import { commandText } from './execRecord.ts';
import { type HealthCheck, healthAfter, healthCheckOf, nextIntervalMs } from './health.ts';
import { ProbeTimer } from './probeTimer.ts';
import { type ContainerStore, containerEvent, execDied } from './store.ts';

export interface ProbeOutcome {
  readonly exitCode: number;
  readonly output: string;
}

export interface HealthMonitorOptions {
  readonly logger: Logger;
  readonly store: ContainerStore;
  /** Runs a command in a container, and tells when it runs. Rejects when it cannot be started; when the signal fires its process is killed. */
  readonly probe: (
    container: ContainerRecord,
    command: readonly string[],
    signal: AbortSignal,
    started: () => void,
  ) => Promise<ProbeOutcome>;
  /** Restarts a container that asks for it by {@link restartLabel}. */
  readonly restart: (id: string) => Promise<void>;
  /** Whether this instance of the service is the one that looks after a container; see {@link HealthMonitor.recheck}. */
  readonly owns: (id: string) => boolean;
}

/** A container with this label, set to `true`, is restarted when it becomes unhealthy. */
export const restartLabel = 'flotilla.restart-unhealthy';
const largestOutput = 4096;
/** As dockerd: a start that takes longer is given up. */
const longestStartMs = 30_000;

interface Watch {
  readonly runId: string;
  readonly check: HealthCheck;
  readonly abort: AbortController;
  timer: NodeJS.Timeout | undefined;
}

export class HealthMonitor {
  readonly #options: HealthMonitorOptions;
  readonly #watches = new Map<string, Watch>();
  #stopped = false;

  constructor(options: HealthMonitorOptions) {
    this.#options = options;
    options.store.containers.onChange((id, now) => this.#consider(id, now));
  }

  /** Takes up the containers that run already. */
  start(): void {
    this.recheck();
  }

  /** Looks at every container anew: after a change of who looks after which. */
  recheck(): void {
    for (const container of this.#options.store.containers.values()) this.#consider(container.id, container);
  }

  stop(): void {
    this.#stopped = true;
    for (const id of [...this.#watches.keys()]) this.#forget(id);
  }

  #consider(id: string, container: ContainerRecord | undefined): void {
    const run = container?.state.status === 'running' && this.#options.owns(id) ? container.state.run : undefined;
    const existing = this.#watches.get(id);
    if (existing !== undefined && existing.runId === run?.id) return;
    this.#forget(id);
    const check = container === undefined || run === undefined || this.#stopped ? undefined : healthCheckOf(container.config);
    if (container === undefined || run === undefined || check === undefined) return;
    const watch: Watch = { runId: run.id, check, abort: new AbortController(), timer: undefined };
    this.#watches.set(id, watch);
    this.#schedule(container, watch);
  }

  #forget(id: string): void {
    const watch = this.#watches.get(id);
    if (watch === undefined) return;
    this.#watches.delete(id);
    clearTimeout(watch.timer);
    watch.abort.abort();
  }

  #schedule(container: ContainerRecord, watch: Watch): void {
    const health = healthOf(container);
    const startedMs = milliseconds(container.state.startedAt);
    // A result of an earlier run says nothing of when this one was looked at.
    const lastMs = Math.max(startedMs, ...(health.Log ?? []).map((result) => milliseconds(result.End)));
    const dueMs = lastMs + nextIntervalMs(health, watch.check, Date.now() - startedMs);
    watch.timer = setTimeout(() => void this.#look(container.id, watch), Math.min(Math.max(dueMs - Date.now(), 0), longestTimerMs));
    watch.timer.unref();
  }

  async #look(id: string, watch: Watch): Promise<void> {
    const { store, logger } = this.#options;
    try {
      const container = store.containers.get(id);
      if (container === undefined || watch.abort.signal.aborted) return;
      const execId = await this.#tellBegin(container, watch.check.command);
      const result = await this.#probe(container, watch);
      const updated = await this.#record(id, watch, result, execId);
      if (updated !== undefined && this.#watches.get(id) === watch) this.#schedule(updated, watch);
    } catch (error) {
      if (isNotFound(error) || watch.abort.signal.aborted) return;
      logger.error({ containerId: id, error }, 'a health check could not be recorded');
      const container = store.containers.get(id);
      if (container !== undefined && this.#watches.get(id) === watch) this.#schedule(container, watch);
    }
  }

  /** To those who listen a probe is an exec like any other. @returns the id that its events carry. */
  async #tellBegin(container: ContainerRecord, command: readonly string[]): Promise<string> {
    const execID = randomId();
    const tell = (action: string): DomainEvent => containerEvent(container, `${action}: ${commandText(command)}`, { execID });
    await this.#options.store.commit({ events: [tell('exec_create'), tell('exec_start')] });
    return execID;
  }

  async #probe(container: ContainerRecord, { check, abort }: Watch): Promise<HealthcheckResult> {
    const timer = new ProbeTimer(longestStartMs, check.timeoutMs);
    const Start = formatNano(nowNano());
    const result = (ExitCode: number, output: string): HealthcheckResult => ({
      Start,
      End: formatNano(nowNano()),
      ExitCode,
      Output: cut(output),
    });
    const tooLong = (output: string): HealthcheckResult =>
      timer.expired === 'starting'
        ? result(-1, `timed out starting health check for container ${container.id}`)
        : result(-1, `Health check exceeded timeout (${goDuration(check.timeoutMs)})${output === '' ? '' : `: ${output}`}`);
    try {
      const signal = AbortSignal.any([timer.signal, abort.signal]);
      const { exitCode, output } = await this.#options.probe(container, check.command, signal, timer.started);
      return timer.expired === undefined ? result(exitCode, output) : tooLong(output);
    } catch (error) {
      return timer.expired === undefined ? result(-1, errorMessage(error)) : tooLong('');
    } finally {
      timer.stop();
    }
  }

  /** @returns the container as it is now; undefined when the run that was probed is over, or paused. */
  async #record(id: string, watch: Watch, result: HealthcheckResult, execId: string): Promise<ContainerRecord | undefined> {
    const { store, restart, logger } = this.#options;
    let becameUnhealthy = false;
    const updated = await store.withContainer(id, async (container, lease) => {
      const { state } = container;
      const died = execDied(container, execId, result.ExitCode);
      if (state.run?.id !== watch.runId || state.status !== 'running') {
        await store.commit({ events: [died], lease });
        return undefined;
      }
      const before = healthOf(container);
      const health = healthAfter(before, result, watch.check, milliseconds(result.Start) - milliseconds(state.startedAt));
      const changed = health.Status !== before.Status;
      becameUnhealthy = changed && health.Status === 'unhealthy';
      return await store.saveState(
        container,
        { ...state, health },
        lease,
        changed ? [died, containerEvent(container, `health_status: ${health.Status}`)] : [died],
      );
    });
    if (becameUnhealthy && updated?.config.Labels?.[restartLabel] === 'true') {
      restart(id).catch((error: unknown) => logger.warn({ containerId: id, error }, 'restarting an unhealthy container failed'));
    }
    return updated;
  }
}

function healthOf(container: ContainerRecord): Health {
  return container.state.health ?? { Status: 'starting', FailingStreak: 0, Log: [] };
}

function milliseconds(time: string): number {
  return Number(parseNano(time) / 1_000_000n);
}

function cut(output: string): string {
  const bytes = Buffer.from(output);
  return bytes.length <= largestOutput ? output : `${bytes.toString('utf8', 0, largestOutput)}...`;
}

/** A duration as Go prints it: `30s`, `1m0s`, `1.5s`, `500ms`. */
function goDuration(durationMs: number): string {
  if (durationMs < 1000) return `${durationMs}ms`;
  const seconds = durationMs / 1000;
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60), Number((seconds % 60).toFixed(9))];
  return `${hours > 0 ? `${hours}h` : ''}${hours > 0 || minutes > 0 ? `${minutes}m` : ''}${rest}s`;
}
