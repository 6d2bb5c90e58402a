/** A client of whatever Redis a URL names (redisUrl.ts): kept for ever, so that a restart or a failover is only a pause. */
import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { Cluster, Redis, type RedisOptions } from 'ioredis';
import { parseRedisUrl, type TlsMaterial } from './redisUrl.ts';

export interface RedisTarget {
  readonly url: string;
  readonly user?: string;
  readonly password?: string;
  readonly tls?: TlsMaterial;
}

/** A failed-over master that still takes commands says so: the connection is made anew, and the command is sent again. */
function isDemoted(error: Error): 2 | false {
  return error.message.startsWith('READONLY') ? 2 : false;
}

/** A failover takes a second or two; what waits for it is told by its caller's own deadline. */
const redirections = 100;
const redirectionPauseMs = 100;
const refreshMs = 2_000;

/**
 * @param behaviour - what the caller wants of ioredis beyond where to connect.
 * @throws InvalidParameter for a URL that means nothing.
 */
export function openRedis(target: RedisTarget, behaviour: Omit<RedisOptions, 'path' | 'host' | 'port'>): Redis {
  const place = parseRedisUrl(target.url);
  const account = {
    ...(target.user ? { username: target.user } : {}),
    ...(target.password ? { password: target.password } : {}),
  };
  if (place.kind === 'socket') return quiet(new Redis({ path: place.path, ...account, ...behaviour }));
  const tls: { tls?: TlsOptions } = place.isTls ? { tls: { ...target.tls } } : {};
  const shared = { ...account, ...tls, keepAlive: 10_000, reconnectOnError: isDemoted, ...behaviour };
  switch (place.kind) {
    case 'server':
      return quiet(new Redis({ ...place.nodes[0], db: place.database, ...shared }));
    case 'sentinel':
      return lasting(
        quiet(
          new Redis({
            ...shared,
            sentinels: [...place.nodes],
            name: place.master,
            sentinelRetryStrategy: (attempt) => Math.min(50 * attempt, 500),
            failoverDetector: true,
            ...(place.isTls ? { enableTLSForSentinelMode: true, sentinelTLS: tls.tls } : {}),
          }),
        ),
      );
    case 'cluster': {
      const { retryStrategy = (attempt: number) => Math.min(50 * attempt, 500), enableOfflineQueue = true, ...redisOptions } = shared;
      const cluster = new Cluster([...place.nodes], {
        redisOptions: { ...redisOptions, connectTimeout: 3_000 },
        clusterRetryStrategy: (attempt) => retryStrategy?.(attempt) as number,
        enableOfflineQueue,
        maxRedirections: redirections,
        retryDelayOnFailover: redirectionPauseMs,
        retryDelayOnClusterDown: redirectionPauseMs,
        retryDelayOnTryAgain: redirectionPauseMs,
        slotsRefreshInterval: refreshMs,
        slotsRefreshTimeout: refreshMs,
      });
      // All of a service's keys are in one slot, so that a cluster answers as one server does.
      return quiet(cluster as unknown as Redis);
    }
  }
}

/** Without a listener ioredis prints; a lost connection shows in health and in the calls that fail. */
function quiet(redis: Redis): Redis {
  redis.on('error', () => undefined);
  return redis;
}

const againMs = 100;

/** A client that hears of a failover just while it connects gives up for ever: it is told to connect again, unless we have closed it. */
function lasting(redis: Redis): Redis {
  // ioredis has forgotten it by the time that it tells of the end.
  let isClosed = false;
  const { disconnect, quit } = redis;
  redis.disconnect = (reconnect) => {
    if (reconnect !== true) isClosed = true;
    disconnect.call(redis, reconnect);
  };
  redis.quit = ((...args: []) => {
    isClosed = true;
    return quit.apply(redis, args);
  }) as Redis['quit'];
  redis.on('end', () => {
    setTimeout(() => {
      if (!isClosed && redis.status === 'end') redis.connect().catch(() => undefined);
    }, againMs).unref();
  });
  return redis;
}
