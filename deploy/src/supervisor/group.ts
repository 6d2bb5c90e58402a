/** The replicas of one service: as many as wanted, each started again when it dies. */
import { setTimeout as pause } from 'node:timers/promises';
import type { Listener, ProcessPlan } from '../stack/plan.ts';
import { provenAfterMs, restartDelayMs } from './backoff.ts';
import { Instance, type InstanceEvents } from './instance.ts';
import type { SupervisorLog } from './log.ts';
import type { OwnPart } from './ownPart.ts';
import { sendSignal, stopLeft } from './process.ts';
import type { ProcessState } from './state.ts';

/** Most of what is under way when a replica leaves ends within this time; the rest is not waited for. */
const drainGraceMs = 5_000;

export class Group implements InstanceEvents {
  readonly plan: ProcessPlan;
  readonly instances = new Set<Instance>();
  wanted: number;
  /** What runs in this very process instead of a child. */
  private readonly part: OwnPart | undefined;
  private readonly listeners: readonly Listener[];
  private readonly log: SupervisorLog;
  private readonly onChange: () => void;
  /** Starts in a row that ended before they had proven themselves. */
  failures: number;
  private starting = 0;

  constructor(options: {
    plan: ProcessPlan;
    part?: OwnPart;
    failures?: number;
    listeners: readonly Listener[];
    wanted: number;
    log: SupervisorLog;
    onChange: () => void;
  }) {
    this.plan = options.plan;
    this.part = options.part;
    this.failures = options.failures ?? 0;
    this.listeners = options.listeners;
    this.wanted = options.wanted;
    this.log = options.log;
    this.onChange = options.onChange;
  }

  /**
   * Takes over what an earlier supervisor left. Processes that were started otherwise (other code, options, sockets) serve on until `renew`, but an engine's,
   * of which there can be only one: that is stopped, and replaced by `fill`.
   */
  async adopt(states: readonly ProcessState[]): Promise<void> {
    const outdated: Promise<unknown>[] = [];
    for (const state of states) {
      if (state.draining === true) {
        this.instances.add(Instance.adopt(this.plan, state, this));
        this.log.info('drains on', { process: this.plan.name, instance: state.instance, pid: state.pid });
      } else if ((state.digest === this.plan.digest || this.plan.startStage > 1) && this.running.length < this.wanted) {
        this.instances.add(Instance.adopt(this.plan, state, this));
        this.log.info('adopted', { process: this.plan.name, instance: state.instance, pid: state.pid });
      } else {
        this.log.info('replacing', { process: this.plan.name, instance: state.instance, pid: state.pid });
        outdated.push(stopLeft(state));
      }
    }
    await Promise.all(outdated);
  }

  /** Starts what is missing. */
  fill(): void {
    while (this.running.length + this.starting < this.wanted) {
      this.starting++;
      void this.start(0);
    }
  }

  private async start(restarts: number): Promise<void> {
    let started = false;
    try {
      const delayMs = restartDelayMs(this.failures);
      if (delayMs > 0) await pause(delayMs);
      if (this.running.length >= this.wanted) return;
      const instance = await this.startInstance(restarts);
      this.instances.add(instance);
      started = true;
      this.log.info('started', { process: this.plan.name, instance: instance.id, pid: instance.pid, restarts });
    } catch (error) {
      this.failures++;
      this.log.error('start failed', { process: this.plan.name, error: String(error) });
    } finally {
      this.starting--;
      this.onChange();
      if (!started && this.running.length + this.starting < this.wanted) {
        this.starting++;
        setImmediate(() => void this.start(restarts));
      }
    }
  }

  private async startInstance(restarts: number): Promise<Instance> {
    return this.part === undefined
      ? Instance.start(this.plan, this.listeners, restarts, this)
      : Instance.startHere(this.plan, this.part, restarts, this);
  }

  /** Those that are there and not on their way out. */
  get running(): Instance[] {
    return [...this.instances].filter((instance) => !instance.stopping);
  }

  get healthy(): boolean {
    return this.running.length >= this.wanted && this.running.every((instance) => instance.healthy);
  }

  /** More, or fewer: the newest leave first, as soon as nothing is under way in them. */
  async scale(wanted: number): Promise<void> {
    this.wanted = wanted;
    const surplus = this.running.slice(wanted);
    this.fill();
    this.onChange();
    // Where none is left nobody goes on with what is under way.
    await Promise.all(surplus.map((instance) => (wanted === 0 ? instance.stop() : this.drain(instance))));
  }

  private async drain(instance: Instance): Promise<void> {
    const leaving = instance.drain(drainGraceMs);
    this.onChange();
    if (!(await leaving)) this.log.info('drains', { process: this.plan.name, instance: instance.id, pid: instance.pid });
  }

  get outdated(): Instance[] {
    return this.running.filter((instance) => instance.isOutdated);
  }

  /**
   * Replaces outdated replicas one after another: the new one serves before the old one leaves. Of one that does not come up nothing stays, and what it was to
   * replace goes on.
   *
   * @throws Error that says which did not.
   */
  async renew(untilHealthy: (instance: Instance) => Promise<boolean>): Promise<void> {
    for (const old of this.outdated) {
      // It died while another was replaced, or fewer are wanted: it is not there to be replaced.
      if (old.isGone || old.stopping) continue;
      try {
        await this.replace(old, untilHealthy);
      } finally {
        // Whatever died meanwhile had the other one in its place.
        this.fill();
      }
    }
  }

  private async replace(old: Instance, untilHealthy: (instance: Instance) => Promise<boolean>): Promise<void> {
    const fresh = await this.startInstance(old.restarts);
    this.instances.add(fresh);
    this.log.info('started', { process: this.plan.name, instance: fresh.id, pid: fresh.pid, replaces: old.id });
    this.onChange();
    if (!(await untilHealthy(fresh))) {
      const { reason } = fresh;
      if (!fresh.isGone) await fresh.stop();
      throw new Error(`${this.plan.name} does not come up: ${reason}`);
    }
    await this.drain(old);
  }

  /** Stops and starts each replica in turn. */
  async restart(untilHealthy: (group: Group) => Promise<void>): Promise<void> {
    for (const instance of this.running) {
      if ((await instance.stop()) === 'stays')
        throw new Error(`${this.plan.name} (pid ${instance.pid}) cannot be stopped, not even by SIGKILL`);
      this.starting++;
      await this.start(instance.restarts + 1);
      await untilHealthy(this);
    }
  }

  /** Starts nothing any more, for what nobody has written down would be nobody's, and asks nobody: another one does. */
  letGo(): void {
    this.wanted = 0;
    for (const instance of this.instances) instance.letGo();
  }

  /** Stops all replicas for good. */
  async stop(): Promise<void> {
    this.wanted = 0;
    await Promise.all(
      [...this.instances].map(async (instance) => {
        const how = await instance.stop();
        if (how === 'killed') this.log.warn('did not stop in time and was killed', { process: this.plan.name, pid: instance.pid });
        if (how === 'stays') this.log.error('does not end, not even by SIGKILL', { process: this.plan.name, pid: instance.pid });
      }),
    );
  }

  onGone(instance: Instance, how: string): void {
    this.instances.delete(instance);
    if (instance.stopping) {
      this.log.info('stopped', { process: this.plan.name, instance: instance.id, pid: instance.pid, how });
    } else {
      const livedMs = Date.now() - instance.startedAt.getTime();
      this.failures = livedMs >= provenAfterMs ? 1 : this.failures + 1;
      this.log.warn('died', { process: this.plan.name, instance: instance.id, pid: instance.pid, how, livedMs });
      if (this.running.length + this.starting < this.wanted) {
        this.starting++;
        void this.start(instance.restarts + 1);
      }
    }
    this.onChange();
  }

  onHealth(instance: Instance): void {
    const fields = { process: this.plan.name, instance: instance.id, pid: instance.pid };
    if (instance.healthy) this.log.info('healthy', { ...fields, afterMs: Date.now() - instance.startedAt.getTime() });
    else this.log.warn('not healthy', { ...fields, reason: instance.reason });
    this.onChange();
  }

  onHung(instance: Instance): void {
    this.log.error('does not answer; killing it', { process: this.plan.name, instance: instance.id, pid: instance.pid });
    sendSignal(instance, 'SIGKILL');
  }

  onWoken(instance: Instance): void {
    this.log.warn('was stopped by a signal; it goes on', { process: this.plan.name, instance: instance.id, pid: instance.pid });
  }
}
