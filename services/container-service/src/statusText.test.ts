import { humanDuration } from '@flotilla/engine-api';
import { expect, test } from 'vitest';
import { initialState } from './container.ts';
import { statusOf } from './statusText.ts';
import { exitedState, runningState } from './testing/containers.ts';

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
  const { before, sinceMs, after } = statusOf({ state });
  const age = sinceMs === undefined ? '' : humanDuration(Date.parse('2026-01-01T00:02:00Z') - sinceMs);
  expect(`${before}${age}${after}`).toBe(text);
});
