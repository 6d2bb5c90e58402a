/** Restart policies, with dockerd's growing delay. */
import type { RestartPolicy } from '@flotilla/engine-api';

const firstDelayMs = 100;
const longestDelayMs = 60_000;
/** A run of this length counts as healthy: the next delay is the first one again. */
const stableRunMs = 10_000;

export interface Ended {
  readonly exitCode: number;
  /** a client asked for the end. */
  readonly stoppedByUser: boolean;
  /** restarts made by policy so far. */
  readonly restartCount: number;
}

/** Whether a container that has just ended is to be started again. */
export function shouldRestart(policy: RestartPolicy | undefined, ended: Ended): boolean {
  if (ended.stoppedByUser) return false;
  switch (policy?.Name) {
    case 'always':
    case 'unless-stopped':
      return true;
    case 'on-failure': {
      const most = policy.MaximumRetryCount ?? 0;
      return ended.exitCode !== 0 && (most === 0 || ended.restartCount < most);
    }
    default:
      return false;
  }
}

/** Whether a container that does not run is to be started when the engine has come up anew (a reboot). */
export function shouldStartWithEngine(policy: RestartPolicy | undefined, ended: Ended): boolean {
  return policy?.Name === 'always' || shouldRestart(policy, ended);
}

/** The delays of one container: 100 ms, doubled each time up to a minute. */
export class RestartDelay {
  private lastMs = 0;

  /** @param ranMs - how long the run that ended had lasted. */
  next(ranMs: number): number {
    this.lastMs = this.lastMs === 0 || ranMs >= stableRunMs ? firstDelayMs : Math.min(this.lastMs * 2, longestDelayMs);
    return this.lastMs;
  }
}
