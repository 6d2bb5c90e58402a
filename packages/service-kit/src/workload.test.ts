import { expect, it } from 'vitest';
import { Workload } from './workload.ts';

it('a workload tells what is under way, what was answered of late, and which leases are held', () => {
  let nowMs = 0;
  const workload = new Workload(() => nowMs);
  const answer = (count: number): void => {
    for (let n = 0; n < count; n++) {
      workload.begin();
      workload.end();
    }
  };
  answer(10);
  workload.begin();
  expect([workload.underWay, workload.answered, workload.answeredPerSecond]).toEqual([1, 10, 2]);
  nowMs = 4_900;
  answer(5);
  expect(workload.answeredPerSecond).toBe(3);
  nowMs = 5_100;
  expect(workload.answeredPerSecond).toBe(1);
  nowMs = 60_000;
  expect([workload.underWay, workload.answered, workload.answeredPerSecond]).toEqual([1, 15, 0]);
  workload.addStreams(() => 2);
  expect(workload.underWay).toBe(3);
  const held = new Set(['b']);
  workload.addHolder(() => held);
  workload.addHolder(() => ['a']);
  expect(workload.leases).toEqual(['a', 'b']);
  held.clear();
  expect(workload.leases).toEqual(['a']);
});
