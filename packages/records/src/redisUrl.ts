/**
 * What a Redis' URL means:
 *
 * ```
 * unix:///path                              the stack's own
 * redis://host:port[/N]                     one server, and which of its databases (0)
 * redis-sentinel://host:port,…/MASTER       the master that these sentinels know by this name
 * redis-cluster://host:port,…               a cluster, by some of its nodes
 * rediss… for redis…                        the same over TLS
 * ```
 *
 * Users and passwords are told apart from it.
 */
import { InvalidParameter } from '@flotilla/errors/classes';

/** PEM, each. */
export interface TlsMaterial {
  /** Who has signed the server's certificate, where that is not a public authority. */
  readonly ca?: string | undefined;
  /** What the client shows. */
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

interface HostAndPort {
  readonly host: string;
  readonly port: number;
}

export type RedisPlace =
  | { readonly kind: 'socket'; readonly path: string }
  | { readonly kind: 'server'; readonly nodes: readonly HostAndPort[]; readonly isTls: boolean; readonly database: number }
  | { readonly kind: 'sentinel'; readonly nodes: readonly HostAndPort[]; readonly isTls: boolean; readonly master: string }
  | { readonly kind: 'cluster'; readonly nodes: readonly HostAndPort[]; readonly isTls: boolean };

const form = /^redis(?<tls>s?)(?:-(?<kind>sentinel|cluster))?:\/\/(?<hosts>[^/@]+)(?:\/(?<rest>[^/]*))?$/;
const standardPort = { server: 6379, cluster: 6379, sentinel: 26_379 } as const;

/** @throws InvalidParameter that says what is wrong with it. User and password are no part of it. */
export function parseRedisUrl(url: string): RedisPlace {
  if (url.startsWith('unix:///')) return { kind: 'socket', path: url.slice('unix://'.length) };
  const { kind = 'server', tls, hosts = '', rest = '' } = form.exec(url)?.groups ?? {};
  if (tls === undefined) {
    throw new InvalidParameter(
      `not a URL of a Redis: ${url} (redis://HOST:PORT, redis-sentinel://HOST:PORT,…/MASTER, redis-cluster://HOST:PORT,…; rediss… for TLS)`,
    );
  }
  const nodes = hosts.split(',').map((text) => parseHost(text, standardPort[kind as keyof typeof standardPort], url));
  const isTls = tls === 's';
  if (kind === 'sentinel') {
    if (rest === '')
      throw new InvalidParameter(`${url} does not say which master the sentinels shall be asked for (redis-sentinel://…/MASTER)`);
    return { kind, nodes, isTls, master: decodeURIComponent(rest) };
  }
  if (kind === 'cluster') {
    if (rest !== '' && rest !== '0') throw new InvalidParameter(`${url}: a cluster has database 0 only`);
    return { kind, nodes, isTls };
  }
  if (nodes.length > 1) throw new InvalidParameter(`${url} names several servers: redis-cluster:// or redis-sentinel:// is meant`);
  if (!/^\d{0,5}$/.test(rest)) throw new InvalidParameter(`${url}: not the number of a database: ${rest}`);
  return { kind: 'server', nodes, isTls, database: Number(rest) };
}

function parseHost(text: string, standard: number, url: string): HostAndPort {
  const found = /^(\[[0-9a-fA-F:.]+\]|[^:[\]]+)(?::(\d{1,5}))?$/.exec(text);
  const port = Number(found?.[2] ?? standard);
  if (found === null || port < 1 || port > 65_535) throw new InvalidParameter(`not HOST:PORT in ${url}: ${text}`);
  return { host: (found[1] ?? '').replace(/^\[|\]$/g, ''), port };
}
