/** What clients do to containers: start, stop, kill, restart, pause, rename, remove. */
import { Conflict, errorMessage, InvalidParameter, isNotFound, NotFound, NotModified, System } from '@flotilla/errors';
import type { Lease } from '@flotilla/records';
import { longestTimerMs, parseNano } from './clock.ts';
import { assertRunning, assertStartable, type ContainerRecord, isPaused, isRunning, type Run } from './container.ts';
import type { Exits } from './exits.ts';
import { withoutLink } from './links.ts';
import { findContainer } from './lookup.ts';
import { nameConflict, parseName } from './names.ts';
import type { Neighbours } from './neighbours.ts';
import { signalProcess } from './processes.ts';
import type { Remover } from './removal.ts';
import type { Restarter } from './restarter.ts';
import { parseSignal } from './signals.ts';
import { type Starter, StartFailed } from './start.ts';
import { type ContainerStore, containerEvent } from './store.ts';
import type { ContainerChanges } from './waiting.ts';

/** The part of a control group that stops processes where they stand. */
export interface Freezer {
  freeze(): Promise<void>;
  thaw(): Promise<void>;
}

export interface LifecycleOptions {
  readonly store: ContainerStore;
  readonly changes: ContainerChanges;
  readonly starter: Starter;
  readonly exits: Exits;
  readonly restarter: Restarter;
  readonly remover: Remover;
  readonly neighbours: Pick<Neighbours, 'sandboxes'>;
  readonly freezerOf: (run: Run) => Freezer;
}

const defaultStopTimeoutSeconds = 10;
const sigkill = 9;
const notAllocated = 'Error when allocating new name: ';
/** How long a process may take to go after SIGKILL: it may have to wait for a disk. */
const killDeadlineMs = 60_000;
/** How often a forced removal kills what comes up again. */
const removalAttempts = 5;

export class ContainerLifecycle {
  private readonly options: LifecycleOptions;

  constructor(options: LifecycleOptions) {
    this.options = options;
  }

  /**
   * @param askedAtNano - a run that began since then is what was asked for, whether it goes on or is over.
   * @throws NotFound, NotModified when it runs, Conflict when its state forbids it, or what made the start fail.
   * @see Engine API v1.50 ContainerStart
   */
  async start(reference: string, askedAtNano?: bigint): Promise<void> {
    const { store, restarter, starter } = this.options;
    const before = findContainer(store, reference);
    const { id } = before;
    const wasCutOff = !isRunning(before) && starter.isCutOff(id);
    await store.withContainer(id, async (container, lease) => {
      // Reconcile has finished that start, and its run is over by now: who asks again does not ask for a second one.
      if (wasCutOff && !isRunning(container) && container.state.startedAt !== before.state.startedAt) return;
      if (askedAtNano !== undefined && parseNano(container.state.startedAt) >= askedAtNano) return;
      assertStartable(container);
      if (container.state.status === 'restarting') throw new NotModified('container is already running');
      restarter.forget(id);
      await this.startHere(container, lease);
    });
  }

  private async startHere(container: ContainerRecord, lease: Lease): Promise<void> {
    try {
      await this.options.starter.start(container, lease);
    } catch (error) {
      if (!(error instanceof StartFailed)) throw error;
      if (container.hostConfig.AutoRemove) await this.options.remover.remove(error.container, lease, true);
      throw error.failure;
    }
  }

  /** The container when no start of it is under way any more, so that a running one is not taken for one that is not. @throws NotFound */
  private async settled(reference: string): Promise<ContainerRecord> {
    const { store, starter } = this.options;
    const found = findContainer(store, reference);
    if (isRunning(found) || !starter.isBegun(found.id)) return found;
    return await store.withContainer(found.id, async (container, lease) =>
      isRunning(container) ? container : ((await starter.finishCutOff(container, lease)) ?? container),
    );
  }

  /**
   * Stops a container: sends its stop signal, waits, then kills.
   *
   * @param timeoutSeconds - how long to wait before SIGKILL; -1 waits for ever, 0 kills at once; undefined: the container's own.
   * @throws NotFound for an unknown one; NotModified when it is not running.
   * @see Engine API v1.50 ContainerStop
   */
  async stop(reference: string, signal: string, timeoutSeconds: number | undefined): Promise<void> {
    const { store } = this.options;
    const { id, state } = await this.settled(reference);
    if (state.status === 'restarting' && (await this.cancelRestart(id))) return;
    const container = findContainer(store, id);
    if (!isRunning(container)) throw new NotModified('container is already stopped');
    const runId = await this.signalToStop(id, signal, false);
    if (runId !== undefined) await this.endRun(container, runId, timeoutSeconds);
    else if (await this.cancelRestart(id)) return;
  }

  /** Sends the stop signal and remembers that a client wanted it. @returns the run that was told; undefined when there is none any more. */
  private async signalToStop(id: string, signal: string, restartRequested: boolean): Promise<string | undefined> {
    const { store } = this.options;
    return await store.withContainer(id, async (container, lease) => {
      const run = container.state.run;
      if (run === undefined) return undefined;
      const number = parseSignal(signal || container.config.StopSignal || 'SIGTERM');
      await this.tellSignal({ ...container, stoppedByUser: true, stopRequested: true, restartRequested }, lease, number, true);
      return run.id;
    });
  }

  /** Waits for a run that has had its signal, and kills it when its time is over. */
  private async endRun(container: ContainerRecord, runId: string, timeoutSeconds: number | undefined): Promise<void> {
    const seconds = timeoutSeconds ?? container.config.StopTimeout ?? defaultStopTimeoutSeconds;
    if (await this.runEnds(container.id, runId, seconds < 0 ? undefined : seconds * 1000)) return;
    await this.killRun(container.id, runId);
  }

  private async killRun(id: string, runId: string): Promise<void> {
    const { store } = this.options;
    await this.ifStillThere(async () => {
      await store.withContainer(id, async (container, lease) => {
        if (container.state.run?.id === runId) await this.signal(container, lease, sigkill);
      });
    });
    if (!(await this.runEnds(id, runId, killDeadlineMs))) throw new System(`tried to kill container, but did not receive an exit event`);
  }

  private async ifStillThere(act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  /** Whether the run is over within the time; undefined: however long it takes. */
  private async runEnds(id: string, runId: string, withinMs: number | undefined): Promise<boolean> {
    const { store, changes } = this.options;
    const over = (container: ContainerRecord | undefined): boolean => container?.state.run?.id !== runId;
    // What waits longer waits without a timer.
    const bounded = withinMs !== undefined && withinMs <= longestTimerMs;
    await changes.when(id, store.containers.get(id), over, bounded ? AbortSignal.timeout(withinMs) : undefined);
    return over(store.containers.get(id));
  }

  /** @returns false when it does not wait for its restart any more: it may have been started at this very moment. */
  private async cancelRestart(id: string): Promise<boolean> {
    const { store, restarter } = this.options;
    restarter.forget(id);
    return await store.withContainer(id, async (container, lease) => {
      if (container.state.status !== 'restarting') return false;
      const stopped: ContainerRecord = { ...container, stoppedByUser: true, state: { ...container.state, status: 'exited' } };
      await store.save(stopped, lease, [containerEvent(stopped, 'stop')]);
      return true;
    });
  }

  /** @throws NotFound; Conflict when it is not running; InvalidParameter for no signal. @see Engine API v1.50 ContainerKill */
  async kill(reference: string, signal: string): Promise<void> {
    const { store } = this.options;
    const number = parseSignal(signal || 'SIGKILL');
    const { id, name, state } = await this.settled(reference);
    if (state.status === 'restarting' && (await this.cancelRestart(id))) return;
    const notRunning = (): Conflict =>
      new Conflict(`cannot kill container: ${reference.replace(/^\//, '') || name}: container ${id} is not running`);
    const runId = await store.withContainer(id, async (container, lease) => {
      if (container.state.run === undefined) throw notRunning();
      await this.signal(container, lease, number);
      return container.state.run.id;
    });
    if (number === sigkill && !(await this.runEnds(id, runId, killDeadlineMs))) {
      throw new System('tried to kill container, but did not receive an exit event');
    }
  }

  /**
   * Sends a signal to the first process. One that is meant to end it also wakes it, and keeps the restart policy away; so does any other, unless the
   * container has said which signal is to stop it.
   */
  private async signal(container: ContainerRecord, lease: Lease, number: number): Promise<void> {
    const { config, hostConfig } = container;
    const stops = number === sigkill || number === parseSignal(config.StopSignal || 'SIGTERM');
    const stoppedByUser = stops || !config.StopSignal || hostConfig.RestartPolicy?.Name === 'unless-stopped' || container.stoppedByUser;
    await this.tellSignal({ ...container, stoppedByUser }, lease, number, stops);
  }

  /** The record first: what is cut off here, reconcile finishes. */
  private async tellSignal(container: ContainerRecord, lease: Lease, number: number, wakes: boolean): Promise<void> {
    const run = assertRunning(container);
    const woken = wakes && isPaused(container);
    const told: ContainerRecord = woken ? { ...container, state: { ...container.state, status: 'running' } } : container;
    const events = [containerEvent(told, 'kill', { signal: `${number}` }), ...(woken ? [containerEvent(told, 'unpause')] : [])];
    await this.options.store.save(told, lease, events);
    signalProcess(run.pid, run.pidStart, number);
    if (woken) await this.options.freezerOf(run).thaw();
  }

  /** @see Engine API v1.50 ContainerRestart */
  async restart(reference: string, signal: string, timeoutSeconds: number | undefined): Promise<void> {
    const { store, restarter } = this.options;
    const before = findContainer(store, reference);
    restarter.forget(before.id);
    const runId = isRunning(before) ? await this.signalToStop(before.id, signal, true) : undefined;
    if (runId !== undefined) await this.endRun(before, runId, timeoutSeconds);
    await store.withContainer(before.id, async (container, lease) => {
      if (!isRunning(container)) await this.startHere(container, lease);
      await store.commit({ events: [containerEvent(container, 'restart')] });
    });
  }

  /** @throws Conflict when it is paused or not running. @see Engine API v1.50 ContainerPause */
  async pause(reference: string): Promise<void> {
    const { store } = this.options;
    const { id } = findContainer(store, reference);
    await store.withContainer(id, async (container, lease) => {
      const run = assertRunning(container);
      if (isPaused(container)) throw new Conflict(`container ${id} is already paused`);
      const freezer = this.options.freezerOf(run);
      try {
        await freezer.freeze();
      } catch (error) {
        throw new System(`cannot pause container ${id}: ${errorMessage(error)}`, { cause: error });
      }
      try {
        await store.saveState(container, { ...container.state, status: 'paused' }, lease, [containerEvent(container, 'pause')]);
      } catch (error) {
        // If that fails too it stays frozen until this service starts again; what is told is why it could not be paused.
        await freezer.thaw().catch(() => undefined);
        throw error;
      }
      // An instance that has just started may have thawed it: its record did not call it paused yet.
      await freezer.freeze();
    });
  }

  /** @throws Conflict when it is not paused. @see Engine API v1.50 ContainerUnpause */
  async unpause(reference: string): Promise<void> {
    const { store } = this.options;
    const { id } = findContainer(store, reference);
    await store.withContainer(id, async (container, lease) => {
      const run = container.state.run;
      if (run === undefined || !isPaused(container)) throw new Conflict(`Container ${id} is not paused`);
      await this.options.freezerOf(run).thaw();
      await store.saveState(container, { ...container.state, status: 'running' }, lease, [containerEvent(container, 'unpause')]);
    });
  }

  /** @throws InvalidParameter for a name that cannot be; Conflict when it is taken. @see Engine API v1.50 ContainerRename */
  async rename(reference: string, newName: string): Promise<void> {
    const { store, neighbours } = this.options;
    if (newName === '') throw new InvalidParameter('Neither old nor new names may be empty');
    const { id } = findContainer(store, reference);
    const name = parseName(newName.startsWith('/') ? newName : `/${newName}`, notAllocated);
    await store.withContainer(id, async (container, lease) => {
      if (name === container.name) throw new InvalidParameter('Renaming a container with the same name as its current name');
      const holder = store.names.get(name);
      if (holder !== undefined) throw new Conflict(`${notAllocated}${nameConflict(name, holder.id)}`);
      const renamed = { ...container, name };
      await store.commit({
        puts: [store.containers.put(id, renamed), store.names.put(name, { id }, { create: true })],
        deletes: [store.names.delete(container.name)],
        events: [containerEvent(renamed, 'rename', { oldName: `/${container.name}` })],
        lease,
      });
      await neighbours.sandboxes.rename({ containerId: id, newName: name }, { idempotent: true });
    });
  }

  /** @see Engine API v1.50 ContainerDelete */
  async remove(reference: string, options: { force: boolean; removeVolumes: boolean }): Promise<void> {
    const { store, remover, restarter } = this.options;
    const before = await this.settled(reference);
    const { id } = before;
    if ((isRunning(before) || before.state.status === 'restarting') && !options.force) throw removalRefused(before);
    restarter.forget(id);
    await this.ifStillThere(async () => {
      for (let attempt = 1; ; attempt++) {
        const run = store.containers.get(id)?.state.run;
        if (run !== undefined && options.force) await this.killToRemove(id, run, options.removeVolumes);
        const removed = await store.withContainer(id, async (container, lease) => {
          // A restart by policy that was under way, or another client, has brought up a new run.
          if (isRunning(container) && options.force && attempt < removalAttempts) return false;
          if (isRunning(container)) throw removalRefused(container);
          await remover.remove(container, lease, options.removeVolumes);
          return true;
        });
        if (removed) return;
      }
    });
  }

  private async killToRemove(id: string, run: Run, removeVolumes: boolean): Promise<void> {
    const keep = this.options.exits.removeAtExit(id, removeVolumes);
    try {
      await this.killRun(id, run.id);
      await this.whenGoneOrReleased(id);
    } finally {
      keep();
    }
  }

  /** `rm --link parent/alias`: the parent forgets the link; nothing else is removed. */
  async removeLink(reference: string): Promise<void> {
    const { store } = this.options;
    const [parentName = '', alias] = reference.replace(/^\//, '').split('/');
    if (alias === undefined) throw new Conflict('Conflict, cannot remove the default link name of the container');
    const { id } = findContainer(store, parentName);
    await store.withContainer(id, async (container, lease) => {
      const left = withoutLink(container, alias);
      if (left.length === container.hostConfig.Links?.length) throw new NotFound(`Cannot get parent ${parentName} for link name ${alias}`);
      await store.save({ ...container, hostConfig: { ...container.hostConfig, Links: left } }, lease);
    });
  }

  /** The end of a run that removes its container is told when its record goes; what it held is free when the lease is. */
  private async whenGoneOrReleased(id: string): Promise<void> {
    await this.options.store.withLease(`container/${id}`, async () => undefined);
  }
}

function removalRefused(container: ContainerRecord): Conflict {
  const hint = isPaused(container) ? ' and must be unpaused first' : ': stop the container before removing or force remove';
  return new Conflict(`cannot remove container "/${container.name}": container is ${container.state.status}${hint}`);
}
