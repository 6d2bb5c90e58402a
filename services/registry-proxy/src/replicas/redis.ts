/** What replicas tell each other through Redis: who is there, and who fetches what. Only this file knows its keys. */
import { openRedis, type RedisTarget } from '@flotilla/records/redisClient';
import type { Redis } from 'ioredis';
import { z } from 'zod';

const commandTimeoutMs = 1_000;

/** Notes ourselves for a time, forgets whose time is over, and tells who keeps the own repositories and who is there. By Redis' own clock. */
const rollScript = `
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ms)
redis.call('ZADD', KEYS[1], ms + ARGV[2], ARGV[1])
redis.call('SETNX', KEYS[2], ARGV[3])
return {redis.call('GET', KEYS[2]), redis.call('ZRANGE', KEYS[1], 0, -1)}`;

/** @returns who holds the lease now: we, when nobody did or the one named as dead. */
const takeScript = `
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] and holder ~= ARGV[3] then return holder end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]`;

const renewScript = `
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0`;

const releaseScript = `
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`;

const replica = z.object({
  /** New at each start. */
  id: z.string(),
  /** The data root, by a hash: replicas on one share their files anyway. */
  store: z.string(),
  /** `http://10.0.0.2:5000` */
  url: z.url(),
  /** What a request must show to come from a replica. */
  token: z.string(),
  /** Base64url, the same for all on one data root: what signs the places of uploads under way at upstreams. */
  uploadKey: z.string(),
  /** PEM of the listener's certificate, which is the one to be trusted there. */
  certificate: z.string().optional(),
});

export type Replica = z.output<typeof replica>;

interface Commands {
  flotillaRoll(key: string, homeKey: string, member: string, ttlMs: number, candidate: string): Promise<[string, string[]]>;
  flotillaTake(key: string, id: string, ttlMs: number, dead: string): Promise<string>;
  flotillaRenew(key: string, id: string, ttlMs: number): Promise<number>;
  flotillaRelease(key: string, id: string): Promise<number>;
}

export class ReplicaStore {
  private readonly redis: Redis & Commands;
  private readonly prefix: string;

  constructor(options: RedisTarget & { engineId: string }) {
    const redis = openRedis(options, {
      // Pulls go on without Redis, so nothing waits for it.
      enableOfflineQueue: false,
      maxRetriesPerRequest: 0,
      commandTimeout: commandTimeoutMs,
      retryStrategy: (attempt: number) => Math.min(100 * attempt, 1_000),
    });
    redis.defineCommand('flotillaRoll', { numberOfKeys: 2, lua: rollScript });
    redis.defineCommand('flotillaTake', { numberOfKeys: 1, lua: takeScript });
    redis.defineCommand('flotillaRenew', { numberOfKeys: 1, lua: renewScript });
    redis.defineCommand('flotillaRelease', { numberOfKeys: 1, lua: releaseScript });
    this.redis = redis as Redis & Commands;
    this.prefix = `flotilla:{${options.engineId}:registry-proxy}`;
  }

  private get rollKey(): string {
    return `${this.prefix}:replicas`;
  }

  private get homeKey(): string {
    return `${this.prefix}:own-home`;
  }

  private leaseKey(key: string): string {
    return `${this.prefix}:fill:${key}`;
  }

  /** Waits for the connection. */
  async ready(): Promise<void> {
    if (this.redis.status === 'ready') return;
    await new Promise<void>((resolve, reject) => {
      this.redis.once('ready', resolve);
      this.redis.once('error', reject);
    });
  }

  /**
   * Notes ourselves.
   *
   * @param candidate - the data root that keeps the own repositories, if nobody has noted another.
   * @returns the one that does, and who is there, ourselves among them.
   */
  async beat(self: Replica, ttlMs: number, candidate: string): Promise<{ home: string; members: Replica[] }> {
    const [home, texts] = await this.redis.flotillaRoll(this.rollKey, this.homeKey, JSON.stringify(self), ttlMs, candidate);
    const members = texts.flatMap((text) => {
      try {
        return [replica.parse(JSON.parse(text))];
      } catch {
        // Of another version.
        return [];
      }
    });
    return { home, members };
  }

  /** Notes the data root that keeps the own repositories, whatever was noted before. */
  async noteHome(store: string): Promise<void> {
    await this.redis.set(this.homeKey, store);
  }

  async leave(self: Replica): Promise<void> {
    await this.redis.zrem(this.rollKey, JSON.stringify(self));
  }

  /** Takes a lease that nobody holds, or `dead` does. @returns the id of its holder now. */
  async take(key: string, id: string, ttlMs: number, dead: string): Promise<string> {
    return this.redis.flotillaTake(this.leaseKey(key), id, ttlMs, dead);
  }

  async renew(key: string, id: string, ttlMs: number): Promise<void> {
    await this.redis.flotillaRenew(this.leaseKey(key), id, ttlMs);
  }

  async release(key: string, id: string): Promise<void> {
    await this.redis.flotillaRelease(this.leaseKey(key), id);
  }

  close(): void {
    this.redis.disconnect();
  }
}
