/** The connection to a service's Redis, with the scripts that change records and leases as commands. */
import type { Redis } from 'ioredis';
import { acquireScript, commitScript, forgottenScript, releaseScript, renewScript } from './commit.ts';
import { openRedis, type RedisTarget } from './redisClient.ts';

/** The connection with our scripts as commands. */
export interface RecordConnection extends Redis {
  flotillaCommit(records: string, changes: string, ...args: string[]): Promise<string>;
  flotillaForgotten(changes: string, revision: string): Promise<number>;
  flotillaAcquire(lease: string, fence: string, keptMs: number, lastsMs: number, holder: string): Promise<string>;
  flotillaRenew(lease: string, token: string, keptMs: number): Promise<number>;
  flotillaRelease(lease: string, token: string): Promise<number>;
}

/** A restart of Redis is only a pause. @throws InvalidParameter for a URL that means nothing. */
export function connectRedis(target: RedisTarget): RecordConnection {
  const redis = openRedis(target, { maxRetriesPerRequest: null, retryStrategy: (attempt: number) => Math.min(25 * attempt, 250) });
  redis.defineCommand('flotillaCommit', { numberOfKeys: 2, lua: commitScript });
  redis.defineCommand('flotillaForgotten', { numberOfKeys: 1, lua: forgottenScript });
  redis.defineCommand('flotillaAcquire', { numberOfKeys: 2, lua: acquireScript });
  redis.defineCommand('flotillaRenew', { numberOfKeys: 1, lua: renewScript });
  redis.defineCommand('flotillaRelease', { numberOfKeys: 1, lua: releaseScript });
  return redis as RecordConnection;
}
