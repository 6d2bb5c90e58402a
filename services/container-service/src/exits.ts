/**
 * The ends of runs. conmon writes a container's exit code into a file when its log is complete; one watch on their directory sees all of them, and
 * a slow look at the processes finds the runs whose conmon was killed, and the files whose news was lost.
 */
import { existsSync, type FSWatcher, mkdirSync, readFileSync, statSync, watch } from 'node:fs';
import type { NetworkSettings } from '@flotilla/engine-api';
import { isConflict, isNotFound } from '@flotilla/errors';
import type { DomainEvent, Lease } from '@flotilla/records';
import type { Logger } from '@flotilla/service-kit';
import { formatNano, nowNano, parseNano } from './clock.ts';
import { type ContainerRecord, type Run, sharedContainer } from './container.ts';
import type { Paths } from './paths.ts';
import { isAlive, signalProcess } from './processes.ts';
import type { Remover } from './removal.ts';
import { shouldRestart } from './restartPolicy.ts';
import { type ContainerStore, containerEvent, execDied } from './store.ts';
import type { Teardown } from './teardown.ts';

export interface ExitsOptions {
  readonly logger: Logger;
  readonly paths: Paths;
  readonly store: ContainerStore;
  readonly teardown: Teardown;
  readonly remover: Remover;
  readonly bootId: string;
  /** whether the kernel has killed or stopped something of the run for want of memory. */
  readonly wasOutOfMemory: (run: Run) => boolean;
}

interface Ending {
  readonly exitCode: number;
  readonly atNano: bigint;
}

const sweepMs = 1_000;
const releaseAgainMs = 5_000;
const killedCode = 137;
/** What a container is said to have ended with when the machine went down under it. */
const rebootedCode = 255;

export class Exits {
  private readonly options: ExitsOptions;
  /** Ends that are being handled, by container. */
  private readonly handling = new Map<string, Promise<void>>();
  /** Containers that are being removed by force: they go in the commit that tells their end. */
  private readonly removals = new Map<string, { removeVolumes: boolean }>();
  private watcher: FSWatcher | undefined;
  private timer: NodeJS.Timeout | undefined;

  constructor(options: ExitsOptions) {
    this.options = options;
  }

  start(): void {
    mkdirSync(this.options.paths.exits, { recursive: true });
    this.watcher = watch(this.options.paths.exits, (_event, id) => {
      if (id !== null && /^[0-9a-f]{64}$/.test(id) && existsSync(this.options.paths.exit(id))) void this.handle(id);
    });
    this.watcher.on('error', (error) => this.options.logger.error({ error }, 'watching exits failed; they are seen a second later'));
    this.timer = setInterval(() => this.sweep(), sweepMs).unref();
  }

  /** Sees no more ends, and finishes those it has begun with. */
  async stop(): Promise<void> {
    this.watcher?.close();
    clearInterval(this.timer);
    await Promise.all(this.handling.values());
  }

  /** The container's next end removes it too, as `rm -f` wants. Answers a function that takes this back. */
  removeAtExit(id: string, removeVolumes: boolean): () => void {
    this.removals.set(id, { removeVolumes });
    return () => this.removals.delete(id);
  }

  /** Looks at every run: whether its end was missed. */
  private sweep(): void {
    for (const container of this.options.store.containers.values()) {
      const run = container.state.run;
      if (run === undefined) continue;
      if (this.endingOf(container.id, run) !== undefined) void this.handle(container.id);
      // Without a limit of its own it is told at the end; looking at every container every second would cost more than it tells.
      else if ((container.hostConfig.Memory ?? 0) > 0 && !container.state.oomKilled && this.options.wasOutOfMemory(run)) {
        void this.tellOutOfMemory(container.id, run.id);
      }
    }
  }

  /** The kernel has killed or stopped something in it, and its first process lives on. */
  private async tellOutOfMemory(id: string, runId: string): Promise<void> {
    try {
      await this.options.store.withContainer(id, async (container, lease) => {
        if (container.state.run?.id !== runId || container.state.oomKilled) return;
        await this.options.store.saveState(container, { ...container.state, oomKilled: true }, lease, [containerEvent(container, 'oom')]);
      });
    } catch (error) {
      if (!isNotFound(error)) this.options.logger.error({ containerId: id, error }, 'an out-of-memory kill could not be recorded');
    }
  }

  /** Handles the end of a container's run, if it has ended. Safe to call at any time. */
  handle(id: string): Promise<void> {
    const handled = this.handling.get(id) ?? this.handleOnce(id).finally(() => this.handling.delete(id));
    this.handling.set(id, handled);
    return handled;
  }

  private async handleOnce(id: string, isFirst = true): Promise<void> {
    try {
      await this.options.store.withContainer(id, async (container, lease) => {
        const run = container.state.run;
        const ending = run === undefined ? undefined : this.endingOf(id, run);
        if (run !== undefined && ending !== undefined) await this.finish(container, run, ending, lease);
      });
    } catch (error) {
      // An exec's own end was recorded meanwhile: it is not told again.
      if (isConflict(error) && isFirst) await this.handleOnce(id, false);
      else if (!isNotFound(error)) this.options.logger.error({ containerId: id, error }, 'handling its end failed; it is tried again');
    }
  }

  /** How a run has ended; undefined while it goes on. */
  private endingOf(id: string, run: Run): Ending | undefined {
    if (run.bootId !== this.options.bootId) return { exitCode: rebootedCode, atNano: nowNano() };
    const written = this.readExitFile(id);
    if (written !== undefined) return written;
    if (isAlive(run.monitorPid, run.monitorStart)) return undefined;
    // It may have written the file between the two looks.
    const late = this.readExitFile(id);
    if (late !== undefined) return late;
    // conmon was killed: nobody holds the container's output any more, and its exit code could not be known.
    signalProcess(run.pid, run.pidStart, 9);
    return { exitCode: killedCode, atNano: nowNano() };
  }

  private readExitFile(id: string): Ending | undefined {
    const path = this.options.paths.exit(id);
    const status = statSync(path, { bigint: true, throwIfNoEntry: false });
    if (status === undefined) return undefined;
    const exitCode = Number.parseInt(readFileSync(path, 'utf8'), 10);
    return { exitCode: Number.isNaN(exitCode) ? killedCode : exitCode, atNano: status.mtimeNs };
  }

  private async finish(container: ContainerRecord, run: Run, ending: Ending, lease: Lease): Promise<void> {
    const { teardown, store, remover, logger } = this.options;
    const told = container.state.oomKilled;
    const outOfMemory = told || this.options.wasOutOfMemory(run);
    const forced = this.removals.get(container.id);
    const goes = forced !== undefined || (container.hostConfig.AutoRemove === true && !container.restartRequested);
    const removeVolumes = forced?.removeVolumes ?? true;
    const settings = goes ? undefined : await teardown.afterRun(container);
    if (goes) await teardown.afterLastRun(container, removeVolumes);
    else if (settings === undefined && sharedContainer(container.hostConfig.NetworkMode) === undefined) this.releaseLater(container.id);
    const ranMs = Number((ending.atNano - parseNano(container.state.startedAt)) / 1_000_000n);
    const again = !goes && shouldRestart(container.hostConfig.RestartPolicy, { ...container, exitCode: ending.exitCode });
    const ended = this.ended(container, ending, outOfMemory, again, settings);
    const execs = [...store.execs.values()].filter((exec) => exec.containerId === container.id);
    // What ran beside the first process has ended with it.
    const died = execs.filter((exec) => exec.state === 'running');
    const unchanged = died.map((exec) => store.execs.is(exec.id, exec));
    const events: DomainEvent[] = [
      ...died.map((exec) => execDied(ended, exec.id, killedCode)),
      ...(outOfMemory && !told ? [containerEvent(ended, 'oom')] : []),
      containerEvent(ended, 'die', {
        execDuration: `${Math.max(0, Math.floor(ranMs / 1000))}`,
        exitCode: `${ending.exitCode}`,
      }),
      ...(container.stopRequested ? [containerEvent(ended, 'stop')] : []),
    ];
    logger.debug({ containerId: container.id, exitCode: ending.exitCode }, 'ended');
    if (goes) {
      await remover.remove(ended, lease, removeVolumes, { events, unchanged }, 'all');
    } else {
      await store.commit({
        puts: [
          store.containers.put(ended.id, ended),
          ...died.map((exec) => store.execs.put(exec.id, { ...exec, state: 'exited', exitCode: killedCode })),
        ],
        // Those that ran in it stay until the next has ended: their clients ask now how they ended. What has not been started can be no more.
        deletes: execs.filter((exec) => exec.runId !== run.id || exec.state === 'created').map((exec) => store.execs.delete(exec.id)),
        events,
        unchanged,
        lease,
      });
    }
    teardown.forgetExit(container.id);
  }

  /** network-volume was away when the run ended: its ports and addresses are given back when it is there again. */
  private releaseLater(id: string): void {
    setTimeout(() => {
      this.options.store
        .withContainer(id, async (container) => {
          if (container.state.run !== undefined) return;
          if ((await this.options.teardown.releaseSandbox(container, false)) === undefined) this.releaseLater(id);
        })
        .catch(() => undefined);
    }, releaseAgainMs).unref();
  }

  private ended(
    container: ContainerRecord,
    ending: Ending,
    outOfMemory: boolean,
    again: boolean,
    settings: NetworkSettings | undefined,
  ): ContainerRecord {
    const { run: _over, health, ...state } = container.state;
    const { stopRequested: _told, ...kept } = container;
    return {
      ...kept,
      ...(settings === undefined ? {} : { networkSettings: settings }),
      restartCount: again ? container.restartCount + 1 : container.restartCount,
      state: {
        ...state,
        status: again ? 'restarting' : 'exited',
        exitCode: ending.exitCode,
        oomKilled: outOfMemory,
        finishedAt: formatNano(ending.atNano),
        ...(health === undefined ? {} : { health: { ...health, Status: 'unhealthy' } }),
      },
    };
  }
}
