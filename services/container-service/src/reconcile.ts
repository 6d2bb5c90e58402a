/**
 * When the service starts: the records against what the machine has, both ways. Ends that nobody saw are handled, runs that go on are followed again, starts that
 * were cut off are finished or undone, and what no record knows (bundles, mounts, snapshots, sandboxes, volume uses) is taken away, but where records were lost.
 * It may be cut off anywhere and run again.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isNotFound } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
import { type ContainerRecord, isRunning } from './container.ts';
import { Drafts } from './drafts.ts';
import type { Execs } from './exec.ts';
import type { Exits } from './exits.ts';
import { isMakerAlive } from './madeBy.ts';
import type { Neighbours } from './neighbours.ts';
import type { Paths } from './paths.ts';
import { signalProcess, startTimeOf } from './processes.ts';
import type { Remover } from './removal.ts';
import { shouldStartWithEngine } from './restartPolicy.ts';
import type { Starter } from './start.ts';
import { readPid } from './startedRun.ts';
import type { ContainerStore } from './store.ts';
import type { Teardown } from './teardown.ts';

export interface ReconcilerOptions {
  readonly logger: Logger;
  readonly paths: Paths;
  readonly bootId: string;
  readonly store: ContainerStore;
  readonly neighbours: Neighbours;
  readonly teardown: Teardown;
  readonly starter: Pick<Starter, 'finishCutOff'>;
  readonly exits: Exits;
  readonly execs: Execs;
  readonly remover: Remover;
  /** whether no other instance of this service is heard. */
  readonly isAlone: () => boolean;
  /** freezes what a record calls paused, and thaws what it does not. */
  readonly wake: (container: ContainerRecord) => Promise<void>;
  /** starts a container that should run: a restart that was cut off, or a policy after a reboot. */
  readonly startAgain: (id: string) => Promise<void>;
}

const sigcont = 18;
/** Every instance is heard once a second. */
const hearMs = 1_600;
const retainDeadlineMs = 10_000;

export class Reconciler {
  private readonly options: ReconcilerOptions;

  constructor(options: ReconcilerOptions) {
    this.options = options;
  }

  /** What must be right before the first call is answered: it asks nobody else. */
  async local(): Promise<void> {
    const { store, paths, teardown } = this.options;
    for (const directory of [paths.data, paths.runs, paths.exits, paths.execs, paths.drafts])
      mkdirSync(directory, { recursive: true, mode: 0o711 });
    for (const container of store.containers.values()) {
      const run = container.state.run;
      if (run === undefined || run.bootId !== this.options.bootId) continue;
      signalProcess(run.monitorPid, run.monitorStart, sigcont);
      await this.wake(container);
    }
    // What another instance begins right now has its record before it has files: so files are listed first.
    const [runs = [], exits = [], execs = []] = [paths.runs, paths.exits, paths.execs].map((directory) => readdirSync(directory));
    await store.fresh(true);
    if (store.areLost) {
      this.options.logger.error({ runs: runs.length }, 'records are missing: what none of them knows is left as it is');
      return;
    }
    // Bundles of containers that exist and do not run may be starts that another instance is making: those are looked at under their leases.
    const strays = runs.filter((id) => !store.containers.has(id));
    if (strays.length > 0) teardown.endStarters(strays);
    for (const id of strays) {
      this.endStray(id);
      await teardown.endStray(id);
      teardown.removeRunFiles(id);
    }
    for (const id of exits) {
      const known = store.containers.get(id);
      // Without a record of the run, and without a bundle of one that was cut off, it is of an end that is told.
      if (known === undefined || (!isRunning(known) && !existsSync(paths.bundle(id)))) teardown.forgetExit(id);
    }
    for (const id of execs) {
      if ((store.execs.get(id)?.state ?? 'exited') === 'exited' && !isMakerAlive(id))
        rmSync(paths.execDirectory(id), { recursive: true, force: true });
    }
  }

  /** A run whose end was being handled has no control group any more; one container's fault never keeps the service from starting. */
  private async wake(container: ContainerRecord): Promise<void> {
    try {
      await this.options.wake(container);
    } catch (error) {
      this.options.logger.warn({ containerId: container.id, error }, 'it could not be woken; it may have ended');
    }
  }

  /** The container is gone, and these processes of it are not. */
  private endStray(id: string): void {
    const { paths, logger } = this.options;
    for (const file of ['pid', 'monitor.pid']) {
      const pid = readPid(join(paths.bundle(id), file));
      const start = pid === undefined ? undefined : startTimeOf(pid);
      if (pid === undefined || start === undefined || !belongsTo(pid, id)) continue;
      logger.warn({ containerId: id, pid }, 'ending a process that no record knows');
      signalProcess(pid, start, 9);
    }
  }

  /** What needs the other services; it goes on while calls are answered already. */
  async remote(): Promise<void> {
    const { store, paths, exits, execs, remover, logger } = this.options;
    const steps: [string, () => Promise<void>][] = [
      // Their clients wait, and nobody else is asked for it.
      ['following execs', async () => execs.followAbandoned()],
      [
        'handling ends',
        async () => void (await Promise.all([...store.containers.values()].filter(isRunning).map(({ id }) => exits.handle(id)))),
      ],
      ['finishing cut-off starts', async () => void (await Promise.all(readdirSync(paths.runs).map((id) => this.finishCutOff(id))))],
      ['emptying the trash', () => remover.emptyAll()],
      ['starting again', () => this.startAgain()],
    ];
    for (const [what, step] of steps) {
      try {
        await step();
      } catch (error) {
        logger.error({ error }, `reconciling: ${what} failed`);
      }
    }
  }

  /** What came up is followed, and may have ended by now; the rest is undone. */
  private async finishCutOff(id: string): Promise<void> {
    const { store, starter, exits } = this.options;
    const known = store.containers.get(id);
    if (known === undefined || isRunning(known)) return;
    try {
      await store.withContainer(id, async (container, lease) => {
        if (!isRunning(container)) await starter.finishCutOff(container, lease);
      });
      await exits.handle(id);
    } catch (error) {
      if (!isNotFound(error)) this.options.logger.error({ containerId: id, error }, 'a start that was cut off could not be finished');
    }
  }

  /**
   * Has what belongs to no container removed, here and in the other services. A container that is being created has no record yet, so nobody may create one
   * meanwhile: this instance waits with it until this is done. Where there are others only what instances that are gone had begun is removed.
   */
  async retain(): Promise<void> {
    const { store, neighbours, isAlone, logger } = this.options;
    if (store.areLost) return;
    await new Promise((resolve) => setTimeout(resolve, hearMs));
    await this.endAbandonedDrafts();
    if (!isAlone()) return;
    const containers = [...store.containers.values()];
    const known = containers.map(({ id }) => id);
    const call = { idempotent: true, deadlineMs: retainDeadlineMs };
    const results = await Promise.allSettled([
      neighbours.snapshots.retain({ keys: [...known, ...containers.flatMap(({ imageMounts = {} }) => Object.keys(imageMounts))] }, call),
      // What a known container holds is freed under its lease, by its end or its cut-off start.
      neighbours.sandboxes.retain({ known, running: known }, call),
      neighbours.volumes.retain({ known }, call),
    ]);
    for (const result of results)
      if (result.status === 'rejected') logger.warn({ error: result.reason }, 'another service could not be told');
    try {
      this.removeStrayDirectories();
    } catch (error) {
      logger.warn({ error }, 'directories of containers that are gone could not be deleted');
    }
  }

  /** Takes away what a killed instance had begun to make, or one that lives has begun and could not take back. Others may go on making theirs. */
  async endAbandonedDrafts(): Promise<void> {
    const { store, neighbours, paths, logger } = this.options;
    const drafts = new Drafts(paths);
    for (const { id, volumes, snapshots } of drafts.abandoned()) {
      try {
        if (await store.isGone(id)) {
          const call = { idempotent: true, deadlineMs: retainDeadlineMs };
          for (const key of [id, ...snapshots]) await neighbours.snapshots.remove({ key }, call);
          for (const { name, created } of volumes) await neighbours.volumes.release({ name, user: id, removeAnonymous: created }, call);
          rmSync(paths.containerDirectory(id), { recursive: true, force: true });
        }
        drafts.end(id);
      } catch (error) {
        logger.warn({ containerId: id, error }, 'what was begun to be made could not be removed yet');
      }
    }
  }

  private removeStrayDirectories(): void {
    const { paths, store } = this.options;
    const directory = paths.containers;
    if (!existsSync(directory)) return;
    for (const id of readdirSync(directory)) {
      if (!store.containers.has(id) && !store.trash.has(id)) rmSync(paths.containerDirectory(id), { recursive: true, force: true });
    }
  }

  /** Whether the machine has come up anew since this service last looked: containers that a client stopped and a policy calls back are started then. */
  private rebooted(): boolean {
    return readText(this.options.paths.bootMark) !== this.options.bootId;
  }

  private rememberBoot(): void {
    writeFileSync(this.options.paths.bootMark, this.options.bootId);
  }

  private async startAgain(): Promise<void> {
    const { store } = this.options;
    const rebooted = this.rebooted();
    for (const container of [...store.containers.values()]) {
      const { hostConfig, state } = container;
      const wanted =
        container.restartRequested ||
        (rebooted &&
          state.status === 'exited' &&
          shouldStartWithEngine(hostConfig.RestartPolicy, { ...container, exitCode: state.exitCode }));
      if (!wanted || isRunning(container)) continue;
      try {
        await this.options.startAgain(container.id);
      } catch (error) {
        this.options.logger.warn({ containerId: container.id, error }, 'it could not be started again');
      }
    }
    this.rememberBoot();
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** Whether a process is the container's own or its conmon: a number in an old file may be anybody's by now. */
function belongsTo(pid: number, containerId: string): boolean {
  try {
    return (
      readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(containerId) ||
      readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(containerId)
    );
  } catch {
    return false;
  }
}
