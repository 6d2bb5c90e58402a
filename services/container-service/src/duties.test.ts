import type { Collection } from '@flotilla/records';
import { expect, test } from 'vitest';
import type { ContainerRecord } from './container.ts';
import { Duties } from './duties.ts';
import { containerRecord, exitedState, run, runningState } from './testing/containers.ts';

test('the duties of a container go with its runs, its restarts and its owner', () => {
  const records = new Map<string, ContainerRecord>();
  let changed: (id: string, now: ContainerRecord | undefined, before: undefined) => void = () => undefined;
  let rebalanced: () => void = () => undefined;
  let mine = true;
  const done: string[] = [];
  const duties = new Duties({
    store: {
      containers: {
        values: () => records.values(),
        onChange: (listener: typeof changed) => {
          changed = listener;
          return () => undefined;
        },
      } as unknown as Collection<ContainerRecord>,
    },
    ownership: {
      isMine: () => mine,
      onChange: (listener) => {
        rebalanced = listener;
      },
    },
    runs: { take: ({ state }) => done.push(`take ${state.run?.id}`), drop: () => done.push('drop') },
    restarts: {
      schedule: (_container, ranMs) => done.push(`schedule ${ranMs}`),
      cancel: () => done.push('cancel'),
      forget: () => done.push('forget'),
    },
  });
  const container = containerRecord({ state: runningState() });
  const become = (changes: Partial<ContainerRecord>): void => {
    const now = { ...container, ...changes };
    records.set(container.id, now);
    changed(container.id, now, undefined);
  };
  const steps = (act: () => void): string[] => {
    done.length = 0;
    act();
    return [...done];
  };

  records.set(container.id, container);
  expect(steps(() => duties.start())).toEqual(['take run-1']);
  expect(steps(() => become({ state: runningState({ status: 'paused' }) }))).toEqual([]);
  expect(steps(() => become({ restartCount: 1, state: { ...exitedState(1), status: 'restarting' } }))).toEqual(['drop', 'schedule 60000']);
  expect(steps(() => become({ restartCount: 1, state: runningState({ run: run({ id: 'run-2' }) }) }))).toEqual(['take run-2', 'cancel']);
  mine = false;
  expect(steps(() => rebalanced())).toEqual(['drop']);
  mine = true;
  expect(steps(() => rebalanced())).toEqual(['take run-2']);
  expect(steps(() => become({ stoppedByUser: true, state: exitedState(0) }))).toEqual(['drop', 'forget']);
});
