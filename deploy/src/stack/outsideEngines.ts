/**
 * A Redis and a NATS that are not the stack's own, as the environment of `flotilla up` names them:
 *
 * ```
 * REDIS_URL   redis://[USER:PASSWORD@]HOST:PORT[/DATABASE], redis-sentinel://…,…/MASTER, redis-cluster://…,…; rediss… over TLS
 * NATS_URL    nats://[USER:PASSWORD@ or TOKEN@]HOST:PORT,…; tls://… over TLS
 * REDIS_CA_FILE, REDIS_CERT_FILE, REDIS_KEY_FILE, NATS_CA_FILE, NATS_CERT_FILE, NATS_KEY_FILE   PEM
 * NATS_CREDS_FILE   a credentials file, or an nkey's seed
 * ```
 *
 * Files are read here, by root: services get what they hold, and need not be able to read them.
 */
import { readFileSync } from 'node:fs';
import { errorMessage, InvalidParameter } from '@flotilla/errors/classes';
import { parseRedisUrl, type TlsMaterial } from '@flotilla/records/redisUrl';
import type { EngineAddress } from './processes.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** @throws InvalidParameter when a URL means nothing or a file cannot be read. */
export function outsideRedis(env: Environment): EngineAddress | undefined {
  if (!env.REDIS_URL) return undefined;
  const { url, user, password } = splitAccount(env.REDIS_URL, 'REDIS_URL');
  parseRedisUrl(url);
  return { kind: 'outside', url, user, password, tls: tlsMaterial(env, 'REDIS'), credentials: '' };
}

/** A password may hold a comma. */
const betweenServers = /,(?=\s*[a-z]+:\/\/)/;

/** @throws InvalidParameter when a URL means nothing or a file cannot be read. */
export function outsideNats(env: Environment): EngineAddress | undefined {
  if (!env.NATS_URL) return undefined;
  const servers = env.NATS_URL.split(betweenServers).map((server) => splitAccount(server.trim(), 'NATS_URL'));
  for (const { url } of servers) {
    if (!/^(nats|tls):\/\/(\[[0-9a-fA-F:.]+\]|[^:/@[\]]+)(:\d{1,5})?$/.test(url)) {
      throw new InvalidParameter(`not a URL of a NATS: ${url} (nats://HOST:PORT, or tls://HOST:PORT; several with commas between them)`);
    }
  }
  const { user = '', password = '' } = servers.find((server) => server.user !== '') ?? {};
  return {
    kind: 'outside',
    url: servers.map(({ url }) => url).join(','),
    user,
    password,
    tls: tlsMaterial(env, 'NATS'),
    credentials: fileOf(env, 'NATS_CREDS_FILE') ?? '',
  };
}

/**
 * User and password are taken out, so that a URL may be shown.
 *
 * @throws InvalidParameter, which does not show it, where it is not clear what the password is.
 */
function splitAccount(text: string, variable: string): { url: string; user: string; password: string } {
  const [, scheme = '', user = '', password = '', rest = text] = /^([a-z-]+:\/\/)([^:@/]*)(?::([^@/]*))?@(.*)$/.exec(text) ?? [];
  try {
    if (!rest.includes('@'))
      return { url: `${scheme}${rest}`.replace(/\/$/, ''), user: decodeURIComponent(user), password: decodeURIComponent(password) };
  } catch (error) {
    if (!(error instanceof URIError)) throw error;
  }
  throw new InvalidParameter(`${variable}: a %, /, : or @ in user or password is written %25, %2F, %3A or %40`);
}

function tlsMaterial(env: Environment, engine: 'REDIS' | 'NATS'): TlsMaterial {
  const files = { ca: `${engine}_CA_FILE`, cert: `${engine}_CERT_FILE`, key: `${engine}_KEY_FILE` } as const;
  const entries = Object.entries(files).map(([name, variable]) => [name, fileOf(env, variable)] as const);
  return Object.fromEntries(entries.filter(([, text]) => text !== undefined));
}

function fileOf(env: Environment, variable: string): string | undefined {
  const path = env[variable];
  if (!path) return undefined;
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new InvalidParameter(`${variable}: ${errorMessage(error)}`);
  }
}
