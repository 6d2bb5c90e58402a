/** The STATUS column: `Up 2 minutes (healthy)`, `Exited (0) 3 seconds ago`, in the words of Docker's go-units. */
import { never, parseNano } from './clock.ts';
import type { ContainerRecord } from './container.ts';

/** A span of time as people say it. @param nano - nanoseconds. */
export function humanDuration(nano: bigint): string {
  const seconds = Math.floor(Number(nano) / 1e9);
  if (seconds < 1) return 'Less than a second';
  if (seconds === 1) return '1 second';
  if (seconds < 60) return `${seconds} seconds`;
  const minutes = Math.floor(seconds / 60);
  if (minutes === 1) return 'About a minute';
  if (minutes < 60) return `${minutes} minutes`;
  const hours = Math.floor(Number(nano) / 3.6e12 + 0.5);
  if (hours === 1) return 'About an hour';
  if (hours < 48) return `${hours} hours`;
  if (hours < 24 * 7 * 2) return `${Math.floor(hours / 24)} days`;
  if (hours < 24 * 30 * 2) return `${Math.floor(hours / 24 / 7)} weeks`;
  if (hours < 24 * 365 * 2) return `${Math.floor(hours / 24 / 30)} months`;
  return `${Math.floor(Number(nano) / 3.6e12 / 24 / 365)} years`;
}

/** @param now - nanoseconds since the epoch. */
export function statusText({ state }: Pick<ContainerRecord, 'state'>, now: bigint): string {
  const up = (): string => humanDuration(now - parseNano(state.startedAt));
  const ago = (): string => humanDuration(now - parseNano(state.finishedAt));
  switch (state.status) {
    case 'running': {
      const health = state.health?.Status;
      if (health === undefined || health === 'none') return `Up ${up()}`;
      return `Up ${up()} (${health === 'starting' ? 'health: starting' : health})`;
    }
    case 'paused':
      return `Up ${up()} (Paused)`;
    case 'restarting':
      return `Restarting (${state.exitCode}) ${ago()} ago`;
    case 'removing':
      return 'Removal In Progress';
    case 'dead':
      return 'Dead';
    default:
      if (state.startedAt === never) return 'Created';
      return state.finishedAt === never ? '' : `Exited (${state.exitCode}) ${ago()} ago`;
  }
}
