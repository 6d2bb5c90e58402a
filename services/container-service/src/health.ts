/** What a health check is, and what its results make of a container's health: dockerd's rules, without clocks or processes. */
import type { ContainerConfig, Health, HealthConfig, HealthcheckResult } from '@flotilla/engine-api';

/** A health check with nothing left to default. Times in milliseconds. */
export interface HealthCheck {
  readonly command: readonly string[];
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly startPeriodMs: number;
  readonly startIntervalMs: number;
  readonly retries: number;
}

const nanosecondsPerMillisecond = 1_000_000;
const defaults = { intervalMs: 30_000, timeoutMs: 30_000, startIntervalMs: 5_000, retries: 3 };
const keptResults = 5;

/** The check of a container; undefined when it has none, or it is turned off. */
export function healthCheckOf(config: ContainerConfig): HealthCheck | undefined {
  const healthcheck = config.Healthcheck;
  const command = healthcheck === undefined ? undefined : commandOf(healthcheck, config.Shell);
  if (healthcheck === undefined || command === undefined) return undefined;
  const milliseconds = (nanoseconds: number | undefined, otherwise: number): number =>
    nanoseconds ? nanoseconds / nanosecondsPerMillisecond : otherwise;
  return {
    command,
    intervalMs: milliseconds(healthcheck.Interval, defaults.intervalMs),
    timeoutMs: milliseconds(healthcheck.Timeout, defaults.timeoutMs),
    startPeriodMs: milliseconds(healthcheck.StartPeriod, 0),
    startIntervalMs: milliseconds(healthcheck.StartInterval, defaults.startIntervalMs),
    retries: healthcheck.Retries || defaults.retries,
  };
}

function commandOf({ Test: test = [] }: HealthConfig, shell: readonly string[] | undefined): readonly string[] | undefined {
  const [kind, ...words] = test;
  if (kind === 'CMD' && words.length > 0) return words;
  if (kind === 'CMD-SHELL' && words.length > 0) return [...(shell?.length ? shell : ['/bin/sh', '-c']), ...words];
  return undefined;
}

/** The health of a container that has just started; undefined without a check. */
export function initialHealth(config: ContainerConfig): Health | undefined {
  return healthCheckOf(config) === undefined ? undefined : { Status: 'starting', FailingStreak: 0, Log: [] };
}

/** Health after one more result. Failures while it starts, within the start period, do not count. */
export function healthAfter(health: Health, result: HealthcheckResult, check: HealthCheck, sinceStartMs: number): Health {
  const Log = [...(health.Log ?? []), result].slice(-keptResults);
  if (result.ExitCode === 0) return { Status: 'healthy', FailingStreak: 0, Log };
  if (health.Status === 'starting' && sinceStartMs < check.startPeriodMs) return { ...health, Log };
  const FailingStreak = health.FailingStreak + 1;
  return { Status: FailingStreak >= check.retries ? 'unhealthy' : health.Status, FailingStreak, Log };
}

/** How long after the last look the next one is due. */
export function nextIntervalMs(health: Health, check: HealthCheck, sinceStartMs: number): number {
  return health.Status === 'starting' && sinceStartMs < check.startPeriodMs ? check.startIntervalMs : check.intervalMs;
}
