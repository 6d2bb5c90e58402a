import type { Collection } from '@flotilla/records';
import { describe, expect, test } from 'vitest';
import type { ContainerRecord } from './container.ts';
import { containerRecord, exitedState, run, runningState } from './testing/containers.ts';
import { ContainerChanges, waitFor } from './waiting.ts';

/** Tells its listener of changes as the record store does. */
class Changing {
  private listener: ((id: string, now: ContainerRecord | undefined, before: ContainerRecord | undefined) => void) | undefined;
  readonly changes: ContainerChanges;
  private last: ContainerRecord;
  private isGone = false;

  constructor(container: ContainerRecord) {
    this.last = container;
    this.changes = new ContainerChanges({
      containers: {
        has: () => !this.isGone,
        onChange: (listener: typeof this.listener) => {
          this.listener = listener;
          return () => undefined;
        },
      } as unknown as Collection<ContainerRecord>,
    });
  }

  become(state: ContainerRecord['state'] | undefined): void {
    const before = this.last;
    const now = state === undefined ? undefined : { ...before, state };
    if (now !== undefined) this.last = now;
    this.isGone = now === undefined;
    this.listener?.(before.id, now, before);
  }
}

const never = new AbortController().signal;

describe('waiting', () => {
  const running = () => containerRecord({ state: runningState() });

  test('until it does not run: at once when it does not, else at the end', async () => {
    const created = containerRecord({ state: exitedState(4) });
    expect(await waitFor(new Changing(created).changes, created, 'not-running', () => undefined, never)).toBe(4);
    const container = running();
    const changing = new Changing(container);
    const waiting = waitFor(changing.changes, container, 'not-running', () => undefined, never);
    changing.become(runningState({ status: 'paused' }));
    changing.become(exitedState(5));
    expect(await waiting).toBe(5);
  });

  test('for the next end passes over a start, and takes a restart for an end', async () => {
    const container = containerRecord();
    const changing = new Changing(container);
    const waiting = waitFor(changing.changes, container, 'next-exit', () => undefined, never);
    changing.become(runningState());
    changing.become({ ...exitedState(6), status: 'restarting' });
    changing.become(runningState({ run: run({ id: 'run-2' }) }));
    expect(await waiting).toBe(6);
  });

  test('for its removal hears nothing of one that failed', async () => {
    const container = running();
    const changing = new Changing(container);
    let exitCode: number | undefined;
    const waiting = waitFor(changing.changes, container, 'removed', () => exitCode, never);
    const failing = changing.changes.announceRemovalAfter(container.id, container, () => Promise.reject(new Error('not now')));
    await expect(failing).rejects.toThrow('not now');
    exitCode = 7;
    await changing.changes.announceRemovalAfter(container.id, container, async () => changing.become(undefined));
    expect(await waiting).toBe(7);
  });

  test('for its removal gives the code of the end that removed it, when what it held is free', async () => {
    const container = running();
    const changing = new Changing(container);
    const waiting = waitFor(changing.changes, container, 'removed', () => 7, never);
    let settled = false;
    void waiting.then(() => {
      settled = true;
    });
    await changing.changes.announceRemovalAfter(container.id, container, async () => {
      changing.become(undefined);
      await new Promise((resolve) => setTimeout(resolve, 5));
      expect(settled).toBe(false);
    });
    expect(await waiting).toBe(7);
  });

  test('for its removal does not guess how it ended where another instance has ended and removed it', async () => {
    const container = running();
    const changing = new Changing(container);
    const waiting = waitFor(changing.changes, container, 'removed', () => undefined, never);
    changing.become(undefined);
    await expect(waiting).rejects.toThrow(`No such container: ${container.id}`);
  });

  test('ends when the caller leaves', async () => {
    const container = running();
    const abort = new AbortController();
    const waiting = waitFor(new Changing(container).changes, container, 'removed', () => undefined, abort.signal);
    abort.abort();
    expect(await waiting).toBeUndefined();
  });
});
