/**
 * Standing duties: what somebody has to do for as long as a container is as it is. Of several instances of this service one has the duties of a container
 * (rendezvous hash over those that live); it learns of starts and ends from the records, whoever made them.
 */
import { parseNano } from './clock.ts';
import type { ContainerRecord } from './container.ts';
import type { ContainerStore } from './store.ts';

export interface Ownership {
  /** Whether the duties of this container are ours. */
  isMine(id: string): boolean;
  /** Calls back when that may have changed for any. */
  onChange(listener: () => void): void;
}

export interface DutiesOptions {
  readonly store: Pick<ContainerStore, 'containers'>;
  readonly ownership: Ownership;
  /** A run of ours: its log is kept within its size. */
  readonly runs: { take(container: ContainerRecord): void; drop(id: string): void };
  /** A container of ours that its policy starts again. */
  readonly restarts: { schedule(container: ContainerRecord, ranMs: number): void; cancel(id: string): void; forget(id: string): void };
}

export class Duties {
  private readonly options: DutiesOptions;
  /** Container → the run that is looked after. */
  private readonly runs = new Map<string, string>();
  /** Container → the restart that is waited for. */
  private readonly restarts = new Map<string, number>();

  constructor(options: DutiesOptions) {
    this.options = options;
  }

  start(): void {
    const { store, ownership } = this.options;
    store.containers.onChange((id, now) => this.consider(id, now));
    ownership.onChange(() => this.considerAll());
    this.considerAll();
  }

  private considerAll(): void {
    for (const container of this.options.store.containers.values()) this.consider(container.id, container);
  }

  private consider(id: string, container: ContainerRecord | undefined): void {
    const mine = container !== undefined && this.options.ownership.isMine(id) ? container : undefined;
    this.considerRun(id, mine);
    this.considerRestart(id, mine);
    if (container === undefined || container.stoppedByUser) this.options.restarts.forget(id);
  }

  private considerRun(id: string, container: ContainerRecord | undefined): void {
    const run = container?.state.run;
    if (this.runs.get(id) === run?.id) return;
    if (this.runs.delete(id)) this.options.runs.drop(id);
    if (container === undefined || run === undefined) return;
    this.runs.set(id, run.id);
    this.options.runs.take(container);
  }

  private considerRestart(id: string, container: ContainerRecord | undefined): void {
    const waits = container?.state.status === 'restarting' ? container : undefined;
    if (this.restarts.get(id) === waits?.restartCount) return;
    if (this.restarts.delete(id)) this.options.restarts.cancel(id);
    if (waits === undefined) return;
    this.restarts.set(id, waits.restartCount);
    const { startedAt, finishedAt } = waits.state;
    this.options.restarts.schedule(waits, Number((parseNano(finishedAt) - parseNano(startedAt)) / 1_000_000n));
  }
}
