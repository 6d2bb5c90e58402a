/** Health checks: how a container is probed, and what the probes said. */
import { duration, int, list, type Shape, string, struct } from './decode.ts';

export interface HealthConfig {
  /** [] inherit · ["NONE"] off · ["CMD", …] · ["CMD-SHELL", command] */
  Test?: string[];
  /** nanoseconds; 0 inherits */
  Interval?: number;
  Timeout?: number;
  StartPeriod?: number;
  StartInterval?: number;
  /** failures in a row; 0 inherits */
  Retries?: number;
}

export interface HealthcheckResult {
  /** RFC3339Nano */
  Start: string;
  End: string;
  ExitCode: number;
  Output: string;
}
export interface Health {
  Status: 'none' | 'starting' | 'healthy' | 'unhealthy';
  FailingStreak: number;
  Log: HealthcheckResult[] | null;
}

export const healthConfig: Shape<HealthConfig> = struct<HealthConfig>('v1.HealthcheckConfig', {
  Test: list(string),
  Interval: duration,
  Timeout: duration,
  StartPeriod: duration,
  StartInterval: duration,
  Retries: int,
});
