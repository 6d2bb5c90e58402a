/** The connection to Redis: `unix:///path`, `redis://host:port` or `rediss://…`; kept for ever, so that a restart of Redis is only a pause. */
import { Redis } from 'ioredis';
import { acquireScript, commitScript, releaseScript, renewScript } from './commit.ts';

export interface ConnectionOptions {
  readonly url: string;
  readonly user?: string;
  readonly password?: string;
}

/** The connection with our scripts as commands. */
export interface RecordConnection extends Redis {
  flotillaCommit(records: string, changes: string, ...args: string[]): Promise<string>;
  flotillaAcquire(lease: string, fence: string, keptMs: number, lastsMs: number, holder: string): Promise<string>;
  flotillaRenew(lease: string, token: string, keptMs: number): Promise<number>;
  flotillaRelease(lease: string, token: string): Promise<number>;
}

export function connectRedis(options: ConnectionOptions): RecordConnection {
  const shared = {
    ...(options.user ? { username: options.user } : {}),
    ...(options.password ? { password: options.password } : {}),
    maxRetriesPerRequest: null,
    retryStrategy: (attempt: number) => Math.min(25 * attempt, 250),
  };
  const redis = options.url.startsWith('unix://')
    ? new Redis({ path: options.url.slice('unix://'.length), ...shared })
    : new Redis(options.url, shared);
  // Without a listener ioredis prints; a lost connection shows in health and in the calls that fail.
  redis.on('error', () => undefined);
  redis.defineCommand('flotillaCommit', { numberOfKeys: 2, lua: commitScript });
  redis.defineCommand('flotillaAcquire', { numberOfKeys: 2, lua: acquireScript });
  redis.defineCommand('flotillaRenew', { numberOfKeys: 1, lua: renewScript });
  redis.defineCommand('flotillaRelease', { numberOfKeys: 1, lua: releaseScript });
  return redis as RecordConnection;
}
