/** One running process of the stack: started here, or adopted from a supervisor that was killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, rmSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { errorMessage } from '@flotilla/errors/classes';
import { own } from '../stack/directories.ts';
import { forInstance, type Listener, type ProcessPlan } from '../stack/plan.ts';
import type { OwnPart } from './ownPart.ts';
import { openProber, type Prober } from './probe.ts';
import {
  catches,
  isAlive,
  type ProcessIdentity,
  type ProcessStat,
  reap,
  type StopOutcome,
  sendSignal,
  startTimeOf,
  statOf,
  stopProcess,
} from './process.ts';
import { Silence } from './silence.ts';
import type { ProcessState } from './state.ts';

const startingProbeMs = 25;
const steadyProbeMs = 2_000;
const probeTimeoutMs = 3_000;
const adoptedPollMs = 250;
/** How long Node may take to tell of the end of a process that the kernel has ended. */
const exitToldMs = 1_000;
/** A process that once answered and then says nothing for so long hangs, however busy it is: it is killed and started again. */
const hungAfterMs = 30_000;
/** Probes in a row that found a process asleep and left it so: it will not answer any more, however little the machine does. */
const blockedProbes = 2;
/** A process that never answered gets so long to begin: reconciling a host full of containers takes time. */
const neverStartedAfterMs = 180_000;

export interface InstanceEvents {
  /** The process is gone. */
  onGone(instance: Instance, how: string): void;
  onHealth(instance: Instance): void;
  onHung(instance: Instance): void;
  /** It had been stopped by a signal, and was let go on. */
  onWoken(instance: Instance): void;
}

export class Instance implements ProcessIdentity {
  readonly plan: ProcessPlan;
  readonly id: string;
  readonly pid: number;
  readonly startTime: string;
  readonly startedAt: Date;
  readonly restarts: number;
  readonly adopted: boolean;
  /** Digest of the plan that it was started by; another one than the plan's: it is to be replaced. */
  readonly digest: string;
  /** Asked to stop: its end is no failure. */
  stopping = false;
  /** It ends when nothing is under way in it any more. */
  draining = false;
  healthy = false;
  reason = 'starting';
  version: string;
  /** What of this very process it is; undefined: a process of its own. */
  private readonly part: OwnPart | undefined;
  private readonly prober: Prober;
  private readonly events: InstanceEvents;
  private readonly gone = Promise.withResolvers<void>();
  private goneAlready = false;
  private isLetGo = false;
  private hasAnswered = false;
  private blocked = 0;
  private seenStopped = false;
  private readonly sinceMs = performance.now();
  private readonly silence = new Silence(this.sinceMs, probeTimeoutMs + steadyProbeMs);
  private wakeProbe: () => void = () => undefined;

  private constructor(
    plan: ProcessPlan,
    identity: {
      id: string;
      pid: number;
      startTime: string;
      startedAt: Date;
      restarts: number;
      version: string;
      adopted: boolean;
      digest: string;
    },
    events: InstanceEvents,
    part?: OwnPart,
  ) {
    this.plan = plan;
    this.part = part;
    this.id = identity.id;
    this.pid = identity.pid;
    this.startTime = identity.startTime;
    this.startedAt = identity.startedAt;
    this.restarts = identity.restarts;
    this.version = identity.version;
    this.adopted = identity.adopted;
    this.digest = identity.digest;
    this.events = events;
    this.prober =
      part === undefined ? openProber(plan.probe, this.id) : { ask: (timeoutMs) => part.ask(timeoutMs), close: () => undefined };
    void this.watchHealth();
  }

  /**
   * Starts a process in a session of its own, writing straight into its log file: it lives on when the supervisor dies.
   *
   * @throws Error when the program cannot be started.
   */
  static async start(plan: ProcessPlan, listeners: readonly Listener[], restarts: number, events: InstanceEvents): Promise<Instance> {
    const id = newId();
    const [program = '', ...args] = plan.command.map((word) => forInstance(word, id));
    const env = environmentOf(plan, id);
    if (plan.data !== undefined) own(plan.data.path, 0o700, plan.data.uid, plan.data.gid);
    const log = openSync(plan.log, 'a', 0o640);
    let child: ChildProcess;
    try {
      child = spawn(program, args, {
        cwd: '/',
        env,
        detached: true,
        stdio: ['ignore', log, log, ...(plan.listens ? listeners.map((listener) => listener.fd) : [])],
      });
    } finally {
      closeSync(log);
    }
    const pid = child.pid;
    if (pid === undefined) {
      const error = await new Promise<Error>((resolve) => child.once('error', resolve));
      throw new Error(`cannot start ${plan.name}: ${error.message}`);
    }
    const instance = new Instance(plan, begun(plan, { id, pid, restarts }), events);
    child.once('exit', (code, signal) => instance.markGone(signal === null ? `exit code ${code}` : `signal ${signal}`));
    return instance;
  }

  /** Starts what runs in this very process; a start that fails is its end. */
  static startHere(plan: ProcessPlan, part: OwnPart, restarts: number, events: InstanceEvents): Instance {
    const id = newId();
    const instance = new Instance(plan, begun(plan, { id, pid: process.pid, restarts }), events, part);
    part.start(environmentOf(plan, id)).catch((error: unknown) => instance.markGone(errorMessage(error)));
    return instance;
  }

  /** Takes over a process that another supervisor started. */
  static adopt(plan: ProcessPlan, state: ProcessState, events: InstanceEvents): Instance {
    const instance = new Instance(plan, { ...state, id: state.instance, startedAt: new Date(state.startedAt), adopted: true }, events);
    instance.draining = instance.stopping = state.draining === true;
    void instance.pollGone();
    return instance;
  }

  private async pollGone(): Promise<void> {
    while (isAlive(this)) await pause(adoptedPollMs);
    for (let tries = 0; tries < 40 && !reap(this.pid); tries++) await pause(5);
    this.markGone('gone');
  }

  private markGone(how: string): void {
    if (this.goneAlready) return;
    this.goneAlready = true;
    this.healthy = false;
    this.reason = how;
    this.prober.close();
    this.wakeProbe();
    for (const socket of this.plan.sockets) rmSync(forInstance(socket, this.id), { force: true });
    this.gone.resolve();
    this.events.onGone(this, how);
  }

  get isOutdated(): boolean {
    return this.digest !== this.plan.digest;
  }

  get isGone(): boolean {
    return this.goneAlready;
  }

  get address(): string {
    return forInstance(this.plan.address, this.id);
  }

  get callSockets(): string[] {
    const { probe } = this.plan;
    return probe.kind === 'grpc' ? probe.sockets.map((socket) => forInstance(socket, this.id)) : [];
  }

  /** Resolves when the process is gone. */
  get end(): Promise<void> {
    return this.gone.promise;
  }

  /** Stops the process; resolves when it is gone, or is not to be ended. */
  async stop(): Promise<StopOutcome> {
    this.stopping = true;
    if (this.part !== undefined) {
      await Promise.race([this.part.stop(), pause(this.plan.stopTimeoutMs, undefined, { ref: false })]);
      this.markGone('stopped');
      return 'stopped';
    }
    const how = await stopProcess(this, this.plan.stopTimeoutMs);
    if (how === 'stays') return how;
    await Promise.race([this.gone.promise, pause(exitToldMs, undefined, { ref: false })]);
    // Somebody else has reaped it.
    this.markGone('gone');
    return how;
  }

  /** Lets the process end when nothing is under way in it. Answers whether it is gone after `graceMs`: it goes on draining otherwise. */
  async drain(graceMs: number): Promise<boolean> {
    if (!catches(this, 'SIGUSR2')) {
      await this.stop();
      return true;
    }
    this.stopping = true;
    this.draining = true;
    sendSignal(this, 'SIGUSR2');
    return Promise.race([this.gone.promise.then(() => true), pause(graceMs, false, { ref: false })]);
  }

  /** Another supervisor minds it from here on. */
  letGo(): void {
    this.isLetGo = true;
    this.wakeProbe();
  }

  private async watchHealth(): Promise<void> {
    while (!this.goneAlready && !this.isLetGo) {
      const before = this.stat();
      const answer = await this.prober.ask(probeTimeoutMs);
      if (this.goneAlready || this.isLetGo) break;
      const silentMs = this.silence.look(performance.now(), answer.answered);
      if (answer.answered) this.hasAnswered = true;
      if (answer.version !== undefined) this.version = answer.version;
      const changed = answer.healthy !== this.healthy;
      this.healthy = answer.healthy;
      this.reason = answer.healthy ? '' : this.hasAnswered ? answer.reason : 'starting';
      if (changed) this.events.onHealth(this);
      if (
        !this.stopping &&
        (silentMs > (this.hasAnswered ? hungAfterMs : neverStartedAfterMs) || this.isBlocked(before, answer.answered))
      ) {
        this.events.onHung(this);
        break;
      }
      await this.nextProbe();
    }
    this.prober.close();
  }

  /**
   * One that is starved runs or wants to, and one that waits for a disk is not asleep: neither is blocked. Nor is one that is asked over TCP, where something else
   * may keep the question from it.
   */
  private isBlocked(before: ProcessStat | undefined, answered: boolean): boolean {
    const mayTell = !answered && this.hasAnswered && this.plan.probe.kind !== 'nats';
    const after = mayTell ? this.stat() : undefined;
    const slept = after !== undefined && after.state === 'S' && before?.state === 'S' && after.cpuTicks === before.cpuTicks;
    this.blocked = slept ? this.blocked + 1 : 0;
    return this.blocked >= blockedProbes;
  }

  private stat(): ProcessStat | undefined {
    const stat = statOf(this.pid);
    return stat?.startTime === this.startTime ? stat : undefined;
  }

  /** Lets it go on when it is stopped by a signal, and was at the last look: while it is, whoever has called it waits. A debugger's stop is another one. */
  wakeIfStopped(): void {
    const isStopped = this.stat()?.state === 'T';
    if (isStopped && this.seenStopped) {
      sendSignal(this, 'SIGCONT');
      this.events.onWoken(this);
    }
    this.seenStopped = isStopped && !this.seenStopped;
  }

  private nextProbe(): Promise<void> {
    const waitMs = this.healthy ? steadyProbeMs : startingProbeMs + Math.min((performance.now() - this.sinceMs) / 20, 500);
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, waitMs);
      this.wakeProbe = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  toState(): ProcessState {
    return {
      name: this.plan.name,
      instance: this.id,
      pid: this.pid,
      startTime: this.startTime,
      startedAt: this.startedAt.toISOString(),
      restarts: this.restarts,
      digest: this.digest,
      version: this.version,
      address: this.address,
      sockets: this.plan.sockets.map((socket) => forInstance(socket, this.id)),
      stopStage: this.plan.stopStage,
      stopTimeoutMs: this.plan.stopTimeoutMs,
      ...(this.draining ? { draining: true } : {}),
    };
  }
}

function newId(): string {
  return randomBytes(4).toString('hex');
}

function environmentOf(plan: ProcessPlan, id: string): Record<string, string> {
  return Object.fromEntries(Object.entries(plan.env).map(([name, value]) => [name, forInstance(value, id)]));
}

/** What is known of an instance that has just been started. */
function begun(plan: ProcessPlan, { id, pid, restarts }: { id: string; pid: number; restarts: number }) {
  return {
    id,
    pid,
    startTime: startTimeOf(pid) ?? 'gone',
    startedAt: new Date(),
    restarts,
    version: plan.version,
    adopted: false,
    digest: plan.digest,
  };
}
