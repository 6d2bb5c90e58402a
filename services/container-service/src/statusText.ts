/** The STATUS column: `Up 2 minutes (healthy)`, `Exited (0) 3 seconds ago`. */
import { never, parseNano } from './clock.ts';
import type { ContainerRecord } from './container.ts';

/** A status: words, and between them perhaps an age, counted from `sinceMs` since the epoch. */
export interface Status {
  readonly before: string;
  readonly sinceMs?: number;
  readonly after: string;
}

export function statusOf({ state }: Pick<ContainerRecord, 'state'>): Status {
  const aged = (before: string, since: string, after: string): Status => ({ before, sinceMs: Number(parseNano(since)) / 1e6, after });
  switch (state.status) {
    case 'running': {
      const health = state.health?.Status;
      if (health === undefined || health === 'none') return aged('Up ', state.startedAt, '');
      return aged('Up ', state.startedAt, ` (${health === 'starting' ? 'health: starting' : health})`);
    }
    case 'paused':
      return aged('Up ', state.startedAt, ' (Paused)');
    case 'restarting':
      return aged(`Restarting (${state.exitCode}) `, state.finishedAt, ' ago');
    case 'removing':
      return { before: 'Removal In Progress', after: '' };
    case 'dead':
      return { before: 'Dead', after: '' };
    default:
      if (state.startedAt === never) return { before: 'Created', after: '' };
      return state.finishedAt === never ? { before: '', after: '' } : aged(`Exited (${state.exitCode}) `, state.finishedAt, ' ago');
  }
}
