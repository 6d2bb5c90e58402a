/** `-H`: where the gateway listens. */
import { isIP } from 'node:net';
import { InvalidParameter } from '@flotilla/errors/classes';

export type Host =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  /** Sockets handed over by systemd. */
  | { readonly kind: 'fd'; readonly name: string };

/** The socket every docker client tries first. */
export const dockerSocket = '/var/run/docker.sock';

/**
 * Reads one address as dockerd does: no scheme means tcp, no port means 2375 (2376 with TLS), no host means localhost.
 *
 * @throws InvalidParameter for another scheme or a port that cannot be.
 */
export function parseHost(address: string, tls: boolean): Host {
  const text = address.trim();
  const [scheme, rest] = text.includes('://') ? (text.split(/:\/\/(.*)/s) as [string, string]) : ['tcp', text];
  switch (scheme) {
    case 'unix': {
      const path = rest === '' ? dockerSocket : rest;
      if (!path.startsWith('/')) throw new InvalidParameter(`invalid bind address (${address}): the path must be absolute`);
      if (Buffer.byteLength(path) > 107)
        throw new InvalidParameter(`invalid bind address (${address}): a socket's path has at most 107 bytes`);
      return { kind: 'unix', path };
    }
    case 'fd':
      return { kind: 'fd', name: rest };
    case 'tcp':
      return parseTcp(address, rest, tls ? 2376 : 2375);
    default:
      throw new InvalidParameter(`invalid bind address (${address}): unsupported proto '${scheme}'`);
  }
}

function parseTcp(address: string, text: string, defaultPort: number): Host {
  const match = /^(?:\[([^\]]+)\]|([^:/]*))(?::(\d*))?\/?$/.exec(text);
  if (match === null) throw new InvalidParameter(`invalid bind address (${address}): should be tcp://HOST:PORT`);
  const [, ipv6, name, portText] = match;
  const port = portText === undefined || portText === '' ? defaultPort : Number(portText);
  if (port > 65535) throw new InvalidParameter(`invalid bind address (${address}): invalid port ${portText}`);
  if (ipv6 !== undefined && isIP(ipv6) !== 6) throw new InvalidParameter(`invalid bind address (${address}): invalid IPv6 address ${ipv6}`);
  return { kind: 'tcp', host: ipv6 ?? (name === undefined || name === '' ? 'localhost' : name), port };
}

/** As `docker info` and our own words show it. */
export function formatHost(host: Host): string {
  switch (host.kind) {
    case 'unix':
      return `unix://${host.path}`;
    case 'fd':
      return `fd://${host.name}`;
    case 'tcp':
      return `tcp://${host.host.includes(':') ? `[${host.host}]` : host.host}:${host.port}`;
  }
}
