/** Several small Redis servers that make up one: a master with replicas watched by sentinels, or a cluster. On the loopback, with a password. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { freePort } from './freePort.ts';
import { ServerProcess } from './server.ts';
import { waitFor } from './waitFor.ts';

export interface RedisNode {
  readonly port: number;
  readonly process: ServerProcess;
}

export interface RedisFleet {
  /** Without user and password. */
  readonly url: string;
  readonly password: string;
  readonly nodes: readonly RedisNode[];
  /** The node that takes the writes for `key` now. */
  master(key: string): Promise<RedisNode>;
  stop(): Promise<void>;
}

const password = 'between-servers';
const master = 'main';

async function startNode(...args: string[]): Promise<RedisNode> {
  const port = await freePort();
  const process = ServerProcess.start('redis-node', undefined, (directory) => [
    ...[
      'redis-server',
      '--port',
      String(port),
      '--bind',
      '127.0.0.1',
      '--dir',
      directory,
      '--requirepass',
      password,
      '--masterauth',
      password,
    ],
    ...['--appendonly', 'yes', '--save', '', '--repl-diskless-sync-delay', '0', ...args],
  ]);
  await waitFor(() => process.output.includes('eady to accept connections'), { what: 'redis-server' });
  return { port, process };
}

async function ask<T>(port: number, work: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis({ port, password, retryStrategy: null, maxRetriesPerRequest: 0, commandTimeout: 2_000 });
  redis.on('error', () => undefined);
  try {
    return await work(redis);
  } finally {
    redis.disconnect();
  }
}

async function roleOf(port: number): Promise<string> {
  return ask(port, async (redis) => String((await redis.role())[0])).catch(() => 'away');
}

function stopAll(processes: readonly ServerProcess[]): Promise<unknown> {
  return Promise.all(processes.map((process) => process.stop('SIGKILL')));
}

/** A master, two replicas, three sentinels that fail over after a second. */
export async function startSentinels(): Promise<RedisFleet> {
  const first = await startNode();
  const replicas = await Promise.all([1, 2].map(() => startNode('--replicaof', '127.0.0.1', String(first.port))));
  const nodes = [first, ...replicas];
  await waitFor(() => ask(first.port, async (redis) => (await redis.info('replication')).match(/state=online/g)?.length === 2), {
    what: 'replicas',
  });
  const sentinels = await Promise.all(
    [1, 2, 3].map(async () => {
      const port = await freePort();
      const process = ServerProcess.start('sentinel', undefined, (directory) => {
        const path = join(directory, 'sentinel.conf');
        const lines = [
          `port ${port}`,
          'bind 127.0.0.1',
          `dir "${directory}"`,
          `sentinel monitor ${master} 127.0.0.1 ${first.port} 2`,
          `sentinel auth-pass ${master} ${password}`,
          `sentinel down-after-milliseconds ${master} 1000`,
          `sentinel failover-timeout ${master} 5000`,
        ];
        writeFileSync(path, `${lines.join('\n')}\n`);
        return ['redis-server', path, '--sentinel'];
      });
      return { port, process };
    }),
  );
  await waitFor(() => sentinels.every(({ process }) => (process.output.match(/\+sentinel /g) ?? []).length >= 2), {
    what: 'sentinels that know each other',
    timeoutMs: 30_000,
  });
  return {
    url: `redis-sentinel://${sentinels.map(({ port }) => `127.0.0.1:${port}`).join(',')}/${master}`,
    password,
    nodes,
    master: () => masterAmong(nodes),
    stop: async () => void (await stopAll([...sentinels, ...nodes].map(({ process }) => process))),
  };
}

/** Three masters with a replica each. */
export async function startCluster(): Promise<RedisFleet> {
  const settings = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '2000', '--cluster-require-full-coverage', 'no'];
  const nodes = await Promise.all(
    Array.from({ length: 6 }, async () => startNode(...settings, '--cluster-port', String(await freePort()))),
  );
  const addresses = nodes.map(({ port }) => `127.0.0.1:${port}`);
  const create = ServerProcess.start('redis-cli', undefined, () => [
    ...['redis-cli', '-a', password, '--cluster', 'create', ...addresses, '--cluster-replicas', '1', '--cluster-yes'],
  ]);
  await waitFor(() => create.output.includes('All 16384 slots covered'), { what: 'the cluster', timeoutMs: 60_000 });
  await create.stop();
  await waitFor(async () => (await Promise.all(nodes.map(({ port }) => roleOf(port)))).filter((role) => role === 'slave').length === 3, {
    what: 'replicas',
    timeoutMs: 30_000,
  });
  return {
    url: `redis-cluster://${addresses.join(',')}`,
    password,
    nodes,
    master: (key) => masterOf(nodes, key),
    stop: async () => void (await stopAll(nodes.map(({ process }) => process))),
  };
}

function masterAmong(nodes: readonly RedisNode[]): Promise<RedisNode> {
  return waitFor(
    async () => {
      const roles = await Promise.all(nodes.map(({ port }) => roleOf(port)));
      return nodes.find((_node, index) => roles[index] === 'master');
    },
    { what: 'a master', timeoutMs: 30_000 },
  );
}

/** A node that has the key's slot answers; another says where it has moved to. */
function masterOf(nodes: readonly RedisNode[], key: string): Promise<RedisNode> {
  return waitFor(
    async () => {
      for (const node of nodes) {
        const owns = await ask(node.port, (redis) => redis.exists(key)).then(
          () => true,
          () => false,
        );
        if (owns && (await roleOf(node.port)) === 'master') return node;
      }
      return undefined;
    },
    { what: 'a master of the key', timeoutMs: 30_000 },
  );
}
