/**
 * Waiting for a container to change: `POST /wait`, and whatever here has to see the end of a run or of a removal.
 *
 * Conditions are read from the records, so it does not matter which instance makes the change.
 */
import { NotFound } from '@flotilla/errors';
import type { ContainerRecord } from './container.ts';
import type { ContainerStore } from './store.ts';

export type WaitCondition = 'not-running' | 'next-exit' | 'removed';

type Listener = (now: ContainerRecord | undefined, before: ContainerRecord | undefined) => void;

/** Calls back on changes of single containers: one listener on the store, however many wait. */
export class ContainerChanges {
  private readonly listeners = new Map<string, Set<Listener>>();
  /** Removed containers whose names and references are not free yet. */
  private readonly releasing = new Set<string>();
  private readonly containers: ContainerStore['containers'];

  constructor(store: Pick<ContainerStore, 'containers'>) {
    this.containers = store.containers;
    store.containers.onChange((id, now, before) => this.notify(id, now, before));
  }

  private notify(id: string, now: ContainerRecord | undefined, before: ContainerRecord | undefined): void {
    if (now === undefined && this.releasing.has(id)) return;
    for (const listener of [...(this.listeners.get(id) ?? [])]) listener(now, before);
  }

  /** Answers a function that ends it. */
  on(id: string, listener: Listener): () => void {
    const listeners = this.listeners.get(id) ?? new Set();
    this.listeners.set(id, listeners);
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.listeners.delete(id);
    };
  }

  /** Holds back the news of a removal until `release` is done: then what the container held is free. */
  async announceRemovalAfter(id: string, last: ContainerRecord, release: () => Promise<void>): Promise<void> {
    this.releasing.add(id);
    try {
      await release();
    } finally {
      this.releasing.delete(id);
      // Where the removal failed there is no news.
      if (!this.containers.has(id)) this.notify(id, undefined, last);
    }
  }

  /** Resolves when `until` holds or the signal fires; the record may be gone. */
  async when(
    id: string,
    current: ContainerRecord | undefined,
    until: (container: ContainerRecord | undefined) => boolean,
    signal?: AbortSignal,
  ): Promise<void> {
    if (until(current) || signal?.aborted) return;
    await new Promise<void>((resolve) => {
      const finish = (): void => {
        stop();
        signal?.removeEventListener('abort', finish);
        resolve();
      };
      const stop = this.on(id, (now) => {
        if (until(now)) finish();
      });
      signal?.addEventListener('abort', finish, { once: true });
    });
  }
}

/**
 * Waits for a container as the Engine API does.
 *
 * @param removedExitCode - the last exit code of a container that has been removed.
 * @returns its exit code; undefined when the signal fired first.
 * @throws NotFound when it was removed, and here it was not seen how it had ended: another instance did both. The events tell.
 * @see Engine API v1.50 ContainerWait
 */
export function waitFor(
  changes: ContainerChanges,
  container: ContainerRecord,
  condition: WaitCondition,
  removedExitCode: (id: string) => number | undefined,
  signal: AbortSignal,
): Promise<number | undefined> {
  if (condition === 'not-running' && container.state.run === undefined) return Promise.resolve(container.state.exitCode);
  return new Promise((resolve, reject) => {
    const finish = (exitCode: number | undefined): void => {
      stop();
      signal.removeEventListener('abort', leave);
      resolve(exitCode);
    };
    const leave = (): void => finish(undefined);
    const stop = changes.on(container.id, (now, before) => {
      const removedWith = now === undefined ? removedExitCode(container.id) : undefined;
      if (now === undefined && removedWith === undefined) {
        reject(new NotFound(`No such container: ${container.id}`));
        leave();
      } else if (now === undefined) finish(removedWith);
      else if (condition !== 'removed' && hasEnded(condition, now, before)) finish(now.state.exitCode);
    });
    signal.addEventListener('abort', leave, { once: true });
    if (signal.aborted) leave();
  });
}

function hasEnded(condition: 'not-running' | 'next-exit', now: ContainerRecord, before: ContainerRecord | undefined): boolean {
  if (condition === 'not-running') return now.state.run === undefined;
  const run = before?.state.run;
  return run !== undefined && now.state.run?.id !== run.id;
}
