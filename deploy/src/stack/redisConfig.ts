/** The configuration of a stack's own redis-server: a private record that survives a power cut, each service's keys its own. */
import { createHash } from 'node:crypto';
import type { Secrets } from './secrets.ts';
import { serviceNames } from './services.ts';

/** Records are small; a bound keeps a runaway from taking the host's memory, and with `noeviction` writes then fail instead of records going. */
const maxMemory = '512mb';

export function redisConfig(paths: { data: string; socket: string; users: string }): string {
  return `${[
    'port 0',
    `unixsocket ${quoted(paths.socket)}`,
    'unixsocketperm 770',
    `dir ${quoted(paths.data)}`,
    `aclfile ${quoted(paths.users)}`,
    'daemonize no',
    'databases 1',
    'logfile ""',
    'loglevel notice',
    'always-show-logo no',
    'save ""',
    'appendonly yes',
    'appendfsync always',
    'no-appendfsync-on-rewrite no',
    'aof-load-truncated yes',
    'auto-aof-rewrite-percentage 100',
    'auto-aof-rewrite-min-size 16mb',
    `maxmemory ${maxMemory}`,
    'maxmemory-policy noeviction',
    'maxclients 512',
    'client-query-buffer-limit 64mb',
    'proto-max-bulk-len 32mb',
    'hz 5',
    'activerehashing no',
  ].join('\n')}\n`;
}

/**
 * One user a service, limited to its keys `flotilla:{<engine-id>:<service>}:*`, and one for the supervisor that sees no key at all.
 */
export function redisUsers(engineId: string, secrets: Secrets): string {
  const lines = serviceNames.map((name) => {
    const keys = `flotilla:{${engineId}:${name}}:*`;
    // INFO is what clients ask before they call a server ready.
    return `user ${name} on #${sha256(secrets[name].redis)} ~${keys} resetchannels &${keys} -@all +@all -@admin -@dangerous +info`;
  });
  const supervisor = `user supervisor on #${sha256(secrets.supervisor.redis)} resetkeys resetchannels -@all +ping +info +shutdown`;
  // Nobody logs in as `default`, but Redis replays its append-only file as that user: without rights it would drop every record at a restart.
  return `${['user default off ~* &* +@all', ...lines, supervisor].join('\n')}\n`;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** Inside double quotes redis.conf takes backslash escapes. */
function quoted(text: string): string {
  return `"${text.replaceAll(/["\\]/g, '\\$&')}"`;
}
