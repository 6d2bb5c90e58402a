import { expect, test } from 'vitest';
import { parseNano } from './clock.ts';
import { initialState } from './container.ts';
import { humanDuration, statusText } from './statusText.ts';
import { exitedState, runningState } from './testing/containers.ts';

const second = 1_000_000_000n;

test.each([
  [0n, 'Less than a second'],
  [1n, '1 second'],
  [59n, '59 seconds'],
  [60n, 'About a minute'],
  [119n, 'About a minute'],
  [120n, '2 minutes'],
  [3599n, '59 minutes'],
  [3600n, 'About an hour'],
  [2n * 3600n, '2 hours'],
  [47n * 3600n, '47 hours'],
  [48n * 3600n, '2 days'],
  [13n * 24n * 3600n, '13 days'],
  [14n * 24n * 3600n, '2 weeks'],
  [60n * 24n * 3600n, '2 months'],
  [800n * 24n * 3600n, '2 years'],
])('%d seconds are "%s"', (seconds, text) => {
  expect(humanDuration(seconds * second)).toBe(text);
});

test.each([
  [initialState, 'Created'],
  [{ ...initialState, exitCode: 127 }, 'Created'],
  [runningState(), 'Up 2 minutes'],
  [runningState({ status: 'paused' }), 'Up 2 minutes (Paused)'],
  [runningState({ health: { Status: 'starting', FailingStreak: 0, Log: null } }), 'Up 2 minutes (health: starting)'],
  [runningState({ health: { Status: 'healthy', FailingStreak: 0, Log: null } }), 'Up 2 minutes (healthy)'],
  [exitedState(3), 'Exited (3) About a minute ago'],
  [{ ...exitedState(1), status: 'restarting' as const }, 'Restarting (1) About a minute ago'],
  [{ ...exitedState(1), status: 'dead' as const }, 'Dead'],
])('%j shows as "%s"', (state, text) => {
  expect(statusText({ state }, parseNano('2026-01-01T00:02:00Z'))).toBe(text);
});
