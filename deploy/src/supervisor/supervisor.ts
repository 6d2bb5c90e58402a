/** Minds the processes of one stack: engines first, then services; whatever dies comes back; on the way down those who ask stop before those who are asked. */
import { setTimeout as pause } from 'node:timers/promises';
import { copyCertificate, isRenewed } from '../stack/certificates.ts';
import { unmountOtherCode } from '../stack/codeMount.ts';
import { type StackPaths, stackPaths } from '../stack/paths.ts';
import type { Plan } from '../stack/plan.ts';
import { compactName, isServiceName, type ProcessName } from '../stack/services.ts';
import { clearStack } from './clear.ts';
import { Group } from './group.ts';
import type { SupervisorLog } from './log.ts';
import { rotateLog } from './logRotation.ts';
import { ofThisProcess } from './ownPart.ts';
import { isAlive, reap, stopLeft } from './process.ts';
import type { Kept } from './run.ts';
import { readState, writeState } from './state.ts';

/** What `flotilla ps` tells of one process. */
export interface ProcessReport {
  readonly service: ProcessName | 'supervisor';
  readonly instance: string;
  readonly pid: number;
  readonly address: string;
  /** Where it answers calls by gRPC: a compact process has one for each service, an engine none. */
  readonly callSockets: readonly string[];
  readonly healthy: boolean;
  /** Why it is not healthy. */
  readonly reason: string;
  readonly version: string;
  readonly uptimeSeconds: number;
  readonly startedAt: string;
  readonly restarts: number;
  readonly account: string;
  /** Takes nothing new, and ends when nothing is under way in it. */
  readonly draining: boolean;
  /** Runs other code, or with other options, than its stack is to: it is about to be replaced. */
  readonly outdated: boolean;
}

/** How the replacement of processes that an earlier supervisor had started otherwise went. */
export type Renewal = 'none' | 'running' | 'done' | { readonly failed: string };

const housekeepingMs = 10_000;
/** Twice that, and what is stopped goes on. */
const wakeEveryMs = 500;
const enginesReadyMs = 30_000;
const restartReadyMs = 60_000;

export class Supervisor {
  private readonly plan: Plan;
  /** What the outside knows the supervisor by. */
  private readonly pid: number;
  private readonly paths: StackPaths;
  private readonly log: SupervisorLog;
  private readonly groups: readonly Group[];
  private readonly waiters = new Set<() => void>();
  private housekeeping: NodeJS.Timeout | undefined;
  private waking: NodeJS.Timeout | undefined;
  private stopping: Promise<void> | undefined;
  private stateDue = false;
  private closed = false;
  /** Before that it knows of nothing that could be written down. */
  private hasAdopted = false;
  private hasOtherCode = false;
  renewal: Renewal = 'none';

  /** @param kept - absent: the supervisor is a process of its own, and everything else are its children. */
  constructor(given: Plan, log: SupervisorLog, kept?: Kept) {
    const plan = {
      ...given,
      processes: given.processes.map((process) => (process.name === kept?.part.name ? ofThisProcess(process) : process)),
    };
    this.plan = plan;
    this.pid = kept?.keeper.pid ?? process.pid;
    this.paths = stackPaths(plan);
    this.log = log;
    const counts = readState(this.paths.state)?.counts ?? {};
    this.groups = plan.processes.map(
      (process) =>
        new Group({
          plan: process,
          ...(process.name === kept?.part.name ? { part: kept.part, failures: kept.keeper.failures } : {}),
          listeners: plan.listeners,
          wanted: counts[process.name] ?? process.count,
          log,
          onChange: () => this.changed(),
        }),
    );
  }

  /** Adopts what lives, then starts what is missing, stage by stage. Resolves when everything has been started (not yet healthy). */
  async start(): Promise<void> {
    const noted = readState(this.paths.state)?.processes ?? [];
    const before = noted.filter(isAlive);
    for (const { pid } of noted.filter((state) => !isAlive(state))) reap(pid);
    const planned = new Set(this.groups.map((group) => group.plan.name));
    await Promise.all([
      ...this.groups.map((group) => group.adopt(before.filter((state) => state.name === group.plan.name))),
      // A stack that was not compact and now is, or the other way round.
      ...before.filter((state) => !planned.has(state.name)).map(stopLeft),
    ]);
    this.hasAdopted = true;
    for (const stage of new Set(this.groups.map((group) => group.plan.startStage).sort())) {
      const groups = this.groups.filter((group) => group.plan.startStage === stage);
      for (const group of groups) group.fill();
      if (stage === 1) await this.until(() => groups.every((group) => group.healthy), enginesReadyMs);
      if (this.stopping !== undefined || this.closed) return;
    }
    this.writeState();
    this.housekeeping = setInterval(() => this.keepHouse(), housekeepingMs);
    this.waking = setInterval(() => this.wake(), wakeEveryMs);
    await this.renew();
  }

  /** Replaces what runs other code or with other options than the plan's: who is asked before those who ask. */
  private async renew(): Promise<void> {
    const groups = this.groups.filter((group) => group.outdated.length > 0).sort((a, b) => b.plan.stopStage - a.plan.stopStage);
    if (groups.length > 0) this.renewal = 'running';
    try {
      for (const group of groups) {
        await group.renew((instance) => this.until(() => instance.healthy || instance.isGone, restartReadyMs).then(() => instance.healthy));
      }
      if (groups.length > 0) this.renewal = 'done';
      this.unmountOtherCode();
    } catch (error) {
      this.renewal = { failed: error instanceof Error ? error.message : String(error) };
      this.log.error('not every process could be replaced', this.renewal);
    }
    this.changed();
  }

  /** What drains may still need the code that it was started from. */
  private unmountOtherCode(): void {
    this.hasOtherCode = this.groups.some((group) => [...group.instances].some((instance) => instance.isOutdated));
    if (!this.hasOtherCode) unmountOtherCode(this.paths.code, this.plan.codeMount);
  }

  /** Waits for a condition that processes bring about; false at the deadline. */
  private async until(condition: () => boolean, timeoutMs: number): Promise<boolean> {
    const deadline = performance.now() + timeoutMs;
    while (!condition()) {
      const leftMs = deadline - performance.now();
      if (leftMs <= 0 || this.stopping !== undefined) return false;
      const changed = Promise.withResolvers<void>();
      this.waiters.add(changed.resolve);
      await Promise.race([changed.promise, pause(Math.min(leftMs, 1000), undefined, { ref: false })]);
      this.waiters.delete(changed.resolve);
    }
    return true;
  }

  private changed(): void {
    for (const wake of this.waiters) wake();
    if (this.stateDue) return;
    this.stateDue = true;
    setImmediate(() => {
      this.stateDue = false;
      this.writeState();
    });
  }

  private writeState(): void {
    if (this.closed || !this.hasAdopted) return;
    const nats = this.plan.processes.find((process) => process.name === 'nats')?.probe;
    writeState(this.paths.state, {
      supervisorPid: this.pid,
      engineId: this.plan.engineId,
      natsPort: nats?.kind === 'nats' ? nats.port : undefined,
      listeners: this.plan.listeners.map(({ name, address, inode }) => ({ name, address, inode })),
      processes: this.groups.flatMap((group) => [...group.instances].map((instance) => instance.toState())),
      counts: this.stopping === undefined ? Object.fromEntries(this.groups.map((group) => [group.plan.name, group.wanted])) : {},
    });
  }

  /** Resolves when all is healthy for the first time; false when that takes too long. */
  untilHealthy(timeoutMs: number): Promise<boolean> {
    return this.until(() => this.healthy, timeoutMs);
  }

  get healthy(): boolean {
    return this.groups.every((group) => group.healthy);
  }

  report(): ProcessReport[] {
    return this.groups.flatMap((group) =>
      [...group.instances].map((instance) => ({
        service: group.plan.name,
        instance: instance.id,
        pid: instance.pid,
        address: instance.address,
        callSockets: instance.callSockets,
        healthy: instance.healthy && !instance.stopping,
        reason: instance.draining ? 'draining' : instance.stopping ? 'stopping' : instance.reason,
        version: instance.version,
        uptimeSeconds: Math.floor((Date.now() - instance.startedAt.getTime()) / 1000),
        startedAt: instance.startedAt.toISOString(),
        restarts: instance.restarts,
        account: group.plan.account,
        draining: instance.draining,
        outdated: instance.isOutdated,
      })),
    );
  }

  /** Starts in a row that ended early, of processes that do not stay up. */
  failures(): Partial<Record<ProcessName, number>> {
    return Object.fromEntries(
      this.groups
        // What is to be replaced may be well for as long as its successor does not come up.
        .filter((group) => group.failures > 0 && (!group.healthy || group.outdated.length > 0))
        .map((group) => [group.plan.name, group.failures]),
    );
  }

  /** Wanted replicas of every process. */
  counts(): Partial<Record<ProcessName, number>> {
    return Object.fromEntries(this.groups.map((group) => [group.plan.name, group.wanted]));
  }

  /** Asked to stop: there is nothing to leave to another one. */
  get isStopping(): boolean {
    return this.stopping !== undefined;
  }

  private requireRunning(): void {
    if (this.isStopping) throw new Error('the stack is stopping');
  }

  /**
   * Goes, and leaves every process to the next supervisor.
   *
   * @throws Error while everything stops.
   */
  leave(): void {
    this.requireRunning();
    this.writeState();
    this.closed = true;
    clearInterval(this.housekeeping);
    clearInterval(this.waking);
    for (const group of this.groups) group.letGo();
  }

  private get isCompact(): boolean {
    return this.groups.some((group) => group.plan.name === compactName);
  }

  private group(name: string): Group {
    if (this.isCompact && isServiceName(name)) throw new Error(`the services of a compact stack are one process: ${compactName}`);
    const found = this.groups.find((group) => group.plan.name === name);
    if (found === undefined) throw new Error(`no such service: ${name}`);
    return found;
  }

  /** @throws Error for a service that there is not, or a number that cannot be. */
  async scale(counts: Readonly<Record<string, number>>): Promise<void> {
    for (const [name, count] of Object.entries(counts)) {
      if (!isServiceName(name)) throw new Error(`no such service: ${name}`);
      if (!Number.isInteger(count) || count < 0 || count > 64) throw new Error(`${name}: replicas must be a number from 0 to 64`);
    }
    this.requireRunning();
    if (this.isCompact) throw new Error('a compact stack has one of each service: scale one that was started without --compact');
    const groups = Object.entries(counts).map(([name, count]) => ({ group: this.group(name), count }));
    await Promise.all(groups.map(({ group, count }) => group.scale(count)));
    if (!(await this.until(() => groups.every(({ group }) => group.healthy), restartReadyMs)))
      throw new Error('scaled, but not every replica is healthy yet');
  }

  /** @throws Error for an unknown service, or when it is not healthy again in time. */
  async restart(name: string): Promise<void> {
    this.requireRunning();
    await this.group(name).restart(async (group) => {
      if (!(await this.until(() => group.healthy, restartReadyMs))) throw new Error(`${name} was restarted, but is not healthy yet`);
    });
  }

  /** Stops everything but the containers, in order, and clears what a stack leaves in its exec root. */
  stop(progress: (line: string) => void = () => undefined): Promise<void> {
    this.stopping ??= this.stopAll(progress);
    return this.stopping;
  }

  private async stopAll(progress: (line: string) => void): Promise<void> {
    clearInterval(this.housekeeping);
    clearInterval(this.waking);
    for (const stage of new Set(this.groups.map((group) => group.plan.stopStage).sort())) {
      const groups = this.groups.filter((group) => group.plan.stopStage === stage);
      await Promise.all(
        groups.map(async (group) => {
          await group.stop();
          progress(`${group.plan.name} stopped`);
        }),
      );
    }
    this.closed = true;
    clearStack(this.paths, this.plan.listeners);
  }

  private wake(): void {
    for (const group of this.groups) for (const instance of group.instances) instance.wakeIfStopped();
  }

  private keepHouse(): void {
    const logs = [
      ...this.plan.processes.map((process) => process.log),
      `${this.paths.logs}/supervisor.log`,
      ...(this.plan.auditLog === undefined ? [] : [this.plan.auditLog]),
    ];
    try {
      for (const path of logs) rotateLog(path);
      if (this.hasOtherCode && this.renewal === 'done') this.unmountOtherCode();
    } catch (error) {
      this.log.error('housekeeping failed', { error: String(error) });
    }
    void this.copyCertificates();
  }

  /** Gives the gateway new copies of certificate files that the operator has replaced. */
  private async copyCertificates(): Promise<void> {
    for (const copy of this.plan.tlsCopies) {
      try {
        if (!(await isRenewed(copy))) continue;
        await copyCertificate(copy);
        this.log.info('certificate renewed', { path: copy.from });
      } catch (error) {
        // One that cannot be read keeps none of the others from being renewed.
        this.log.error('certificate not renewed', { path: copy.from, error: String(error) });
      }
    }
  }
}
