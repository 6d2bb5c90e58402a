import type { Health } from '@flotilla/engine-api';
import { describe, expect, it } from 'vitest';
import { healthAfter, healthCheckOf, initialHealth, nextIntervalMs } from './health.ts';

const second = 1_000_000_000;
const result = (ExitCode: number): { Start: string; End: string; ExitCode: number; Output: string } => ({
  Start: 's',
  End: 'e',
  ExitCode,
  Output: '',
});

describe('a health check', () => {
  it.each([
    [undefined, undefined],
    [[], undefined],
    [['NONE'], undefined],
    [['CMD'], undefined],
    [
      ['CMD', 'test', '-f', 'x'],
      ['test', '-f', 'x'],
    ],
    [
      ['CMD-SHELL', 'test -f x'],
      ['/bin/sh', '-c', 'test -f x'],
    ],
    [['SOMETHING', 'x'], undefined],
  ])('%j runs %j', (Test, command) => {
    expect(healthCheckOf({ Healthcheck: Test === undefined ? {} : { Test } })?.command).toEqual(command);
  });

  it('uses the shell of the image', () => {
    expect(healthCheckOf({ Shell: ['/bin/bash', '-ec'], Healthcheck: { Test: ['CMD-SHELL', 'x'] } })?.command).toEqual([
      '/bin/bash',
      '-ec',
      'x',
    ]);
  });

  it('has Docker’s defaults', () => {
    expect(healthCheckOf({ Healthcheck: { Test: ['CMD', 'x'] } })).toMatchObject({
      intervalMs: 30_000,
      timeoutMs: 30_000,
      startPeriodMs: 0,
      startIntervalMs: 5_000,
      retries: 3,
    });
    expect(initialHealth({ Healthcheck: { Test: ['CMD', 'x'] } })).toEqual({ Status: 'starting', FailingStreak: 0, Log: [] });
    expect(initialHealth({})).toBeUndefined();
  });
});

describe('health', () => {
  const check = healthCheckOf({
    Healthcheck: { Test: ['CMD', 'x'], Retries: 2, StartPeriod: 10 * second, StartInterval: second, Interval: 3 * second },
  });
  if (check === undefined) throw new Error('no check');
  const starting: Health = { Status: 'starting', FailingStreak: 0, Log: [] };

  it('is healthy with one success and unhealthy after as many failures as retries', () => {
    const healthy = healthAfter(starting, result(0), check, 0);
    expect(healthy.Status).toBe('healthy');
    const once = healthAfter(healthy, result(1), check, 20_000);
    expect([once.Status, once.FailingStreak]).toEqual(['healthy', 1]);
    const twice = healthAfter(once, result(-1), check, 20_000);
    expect([twice.Status, twice.FailingStreak]).toEqual(['unhealthy', 2]);
    expect(healthAfter(twice, result(0), check, 20_000)).toMatchObject({ Status: 'healthy', FailingStreak: 0 });
  });

  it('forgives failures while it starts', () => {
    let health = starting;
    for (let look = 0; look < 9; look += 1) health = healthAfter(health, result(1), check, look * 1000);
    expect([health.Status, health.FailingStreak]).toEqual(['starting', 0]);
    expect(healthAfter(health, result(1), check, 10_001).FailingStreak).toBe(1);
  });

  it('keeps the last five results', () => {
    let health = starting;
    for (let look = 0; look < 9; look += 1) health = healthAfter(health, result(look), check, 0);
    expect(health.Log?.map((each) => each.ExitCode)).toEqual([4, 5, 6, 7, 8]);
  });

  it('looks more often while it starts', () => {
    expect(nextIntervalMs(starting, check, 5_000)).toBe(1_000);
    expect(nextIntervalMs(starting, check, 15_000)).toBe(3_000);
    expect(nextIntervalMs({ ...starting, Status: 'healthy' }, check, 5_000)).toBe(3_000);
  });
});
