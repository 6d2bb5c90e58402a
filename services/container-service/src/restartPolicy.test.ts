import { describe, expect, test } from 'vitest';
import { RestartDelay, shouldRestart, shouldStartWithEngine } from './restartPolicy.ts';

const ended = { exitCode: 0, stoppedByUser: false, restartCount: 0 };

describe('a restart policy', () => {
  test.each([
    ['no', ended, false, false],
    ['always', ended, true, true],
    ['always', { ...ended, stoppedByUser: true }, false, true],
    ['unless-stopped', ended, true, true],
    ['unless-stopped', { ...ended, stoppedByUser: true }, false, false],
    ['on-failure', ended, false, false],
    ['on-failure', { ...ended, exitCode: 1 }, true, true],
    ['on-failure', { ...ended, exitCode: 1, restartCount: 3 }, false, false],
    ['on-failure', { ...ended, exitCode: 1, stoppedByUser: true }, false, false],
  ] as const)('%s after %j', (Name, after, restarts, startsWithEngine) => {
    const policy = { Name, MaximumRetryCount: Name === 'on-failure' ? 3 : 0 };
    expect(shouldRestart(policy, after)).toBe(restarts);
    expect(shouldStartWithEngine(policy, after)).toBe(startsWithEngine);
  });

  test('without a name restarts nothing', () => {
    expect(shouldRestart(undefined, ended)).toBe(false);
  });
});

test('the delay doubles from 100 ms to a minute, and begins anew after a run of ten seconds', () => {
  const delay = new RestartDelay();
  expect([1, 1, 1, 1].map((ranMs) => delay.next(ranMs))).toEqual([100, 200, 400, 800]);
  for (let i = 0; i < 20; i++) delay.next(1);
  expect(delay.next(1)).toBe(60_000);
  expect(delay.next(10_000)).toBe(100);
});
