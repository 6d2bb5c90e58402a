/** The records of container-service, and the few commits that everything else is written with. */
import { isNotFound, NotFound } from '@flotilla/errors';
import type { Collection, Commit, DomainEvent, Lease, RecordStore } from '@flotilla/records';
import { nowNano } from './clock.ts';
import { type ContainerRecord, ownLabelsOf, type State, type TrashRecord } from './container.ts';
import type { ContainerLocks } from './containerLocks.ts';
import type { ExecRecord } from './execRecord.ts';

export interface NameRecord {
  readonly id: string;
}

export class ContainerStore {
  private readonly records: RecordStore;
  private readonly locks: ContainerLocks;
  readonly containers: Collection<ContainerRecord>;
  readonly names: Collection<NameRecord>;
  readonly execs: Collection<ExecRecord>;
  readonly trash: Collection<TrashRecord>;

  constructor(records: RecordStore, locks: ContainerLocks) {
    this.records = records;
    this.locks = locks;
    this.containers = records.collection<ContainerRecord>('container');
    this.names = records.collection<NameRecord>('name');
    this.execs = records.collection<ExecRecord>('exec');
    this.trash = records.collection<TrashRecord>('trash');
  }

  /** Before a read, when another instance may have written. */
  fresh(evenAlone = false): Promise<void> {
    return this.records.fresh(evenAlone);
  }

  /** What has no record may be somebody's all the same. @see RecordStore.areLost */
  get areLost(): boolean {
    return this.records.areLost;
  }

  commit(commit: Commit): Promise<string> {
    return this.records.commit(commit);
  }

  /**
   * Runs `work` with the container's lease, its lock and its record as it is then: one change at a time.
   *
   * @throws NotFound when it has gone meanwhile.
   */
  async withContainer<T>(id: string, work: (container: ContainerRecord, lease: Lease) => Promise<T>): Promise<T> {
    return await this.records.withLease(`container/${id}`, (lease) =>
      this.locks.withLock(id, async () => {
        await this.records.fresh();
        const container = this.containers.get(id);
        if (container === undefined) throw new NotFound(`No such container: ${id}`);
        return await work(container, lease);
      }),
    );
  }

  /**
   * Whether there is no such container. Records that cannot be asked never say so.
   *
   * @throws Unavailable when they cannot be asked.
   */
  async isGone(id: string): Promise<boolean> {
    if (this.containers.has(id)) return false;
    try {
      await this.withContainer(id, async () => undefined);
      return false;
    } catch (error) {
      if (isNotFound(error)) return true;
      throw error;
    }
  }

  withLease<T>(name: string, work: (lease: Lease) => Promise<T>): Promise<T> {
    return this.records.withLease(name, work);
  }

  /** Writes the container as it is after `change`, with its events, and gives it. */
  async save(container: ContainerRecord, lease: Lease, events: readonly DomainEvent[] = []): Promise<ContainerRecord> {
    await this.records.commit({ puts: [this.containers.put(container.id, container)], events, lease });
    return container;
  }

  async saveState(container: ContainerRecord, state: State, lease: Lease, events: readonly DomainEvent[] = []): Promise<ContainerRecord> {
    return await this.save({ ...container, state }, lease, events);
  }
}

/** An additional process of a container has ended. */
export function execDied(container: ContainerRecord, execId: string, exitCode: number): DomainEvent {
  return containerEvent(container, 'exec_die', { execID: execId, exitCode: `${exitCode}` });
}

/** An event of a container, with the attributes that dockerd gives it. */
export function containerEvent(
  container: ContainerRecord,
  action: string,
  attributes: Readonly<Record<string, string>> = {},
  timeNano: bigint = nowNano(),
): DomainEvent {
  const own = ownLabelsOf(container) ?? {};
  const inheritedLabels = Object.keys(container.config.Labels ?? {}).filter((label) => !(label in own));
  return {
    type: 'container',
    action,
    actorId: container.id,
    attributes: { ...container.config.Labels, image: container.image.reference, name: container.name, ...attributes },
    timeNano,
    ...(inheritedLabels.length === 0 ? {} : { inheritedLabels }),
  };
}
