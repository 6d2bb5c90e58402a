/** Readiness: the answers of a service's dependencies. Live means that the loop turns and this can be asked at all. */
import { errorMessage } from '@flotilla/errors';

export interface HealthReport {
  readonly ready: boolean;
  /** `name: message` of each check that failed. */
  readonly reason: string;
}

export class Health {
  private readonly checks = new Map<string, () => Promise<void> | void>();

  /** `check` throws while the dependency is away. */
  addCheck(name: string, check: () => Promise<void> | void): void {
    this.checks.set(name, check);
  }

  async check(): Promise<HealthReport> {
    const failures: string[] = [];
    for (const [name, check] of this.checks) {
      try {
        await check();
      } catch (error) {
        failures.push(`${name}: ${errorMessage(error)}`);
      }
    }
    return { ready: failures.length === 0, reason: failures.join('; ') };
  }
}
