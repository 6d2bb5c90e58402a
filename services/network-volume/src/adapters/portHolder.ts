/**
 * Holds a bound socket for each published port, so that no process of the host can take it, and relays what the packet filter cannot
 * bring into a container: IPv6 to a container that has only IPv4, and ::1 (there is no route_localnet for IPv6).
 */
import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { bindSocket, closeDescriptor, hasCode } from '@flotilla/syscalls';
import type { PortHolder as Holder, PortRefusal, PortTarget, PublishedPort } from '../ports.ts';

interface Held {
  close(): void;
}

/** How long a datagram "connection" is remembered without traffic. */
const datagramIdleMs = 90_000;
const refusals: Readonly<Record<string, PortRefusal>> = {
  EADDRINUSE: 'in-use',
  EADDRNOTAVAIL: 'no-such-address',
  EAFNOSUPPORT: 'no-such-address',
  EPROTONOSUPPORT: 'unsupported',
  ESOCKTNOSUPPORT: 'unsupported',
  EACCES: 'in-use',
  EMFILE: 'no-descriptors',
  ENFILE: 'no-descriptors',
};

export class PortHolder implements Holder {
  private readonly held = new Map<string, Held>();
  /** Addresses on which a port number is held, by protocol, family and number: how many ports are held makes no difference. */
  private readonly addresses = new Map<string, Set<string>>();
  private readonly onError: (error: unknown) => void;
  private readonly most = mostHeld();

  constructor(onError: (error: unknown) => void) {
    this.onError = onError;
  }

  hold(port: PublishedPort, target: PortTarget): PortRefusal | undefined {
    if (port.hostPort === 0) return undefined;
    if (this.conflicts(port)) return 'ours';
    try {
      this.held.set(keyOf(port), this.open(port, target));
      const addresses = this.addresses.get(numberOf(port)) ?? new Set();
      this.addresses.set(numberOf(port), addresses.add(port.hostIp));
      return undefined;
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : '';
      const refusal = refusals[code];
      if (refusal === undefined) throw error;
      return refusal;
    }
  }

  release(port: PublishedPort): void {
    this.held.get(keyOf(port))?.close();
    this.held.delete(keyOf(port));
    const addresses = this.addresses.get(numberOf(port));
    addresses?.delete(port.hostIp);
    if (addresses?.size === 0) this.addresses.delete(numberOf(port));
  }

  room(): number {
    return this.most - this.held.size;
  }

  close(): void {
    for (const held of this.held.values()) held.close();
    this.held.clear();
    this.addresses.clear();
  }

  /** The same port on the same address, or on all addresses of the family by either. */
  private conflicts(port: PublishedPort): boolean {
    const addresses = this.addresses.get(numberOf(port));
    if (addresses === undefined) return false;
    const any = port.hostIp.includes(':') ? '::' : '0.0.0.0';
    return port.hostIp === any || addresses.has(port.hostIp) || addresses.has(any);
  }

  private open(port: PublishedPort, target: PortTarget): Held {
    const { protocol, hostIp: address, hostPort } = port;
    const relayTo = address.includes(':') ? (target.ipv4 ?? target.ipv6) : undefined;
    if (relayTo !== undefined && protocol === 'tcp') {
      const { fd } = bindSocket({ transport: 'tcp', address, port: hostPort, reuseAddress: true, backlog: 511 });
      return relayConnections(fd, relayTo, port.containerPort, this.onError);
    }
    if (relayTo !== undefined && protocol === 'udp') {
      const { fd } = bindSocket({ transport: 'udp', address, port: hostPort });
      return relayDatagrams(fd, relayTo, port.containerPort, this.onError);
    }
    const fd = bindOnly(port);
    return { close: () => closeDescriptor(fd) };
  }
}

/** Each port is a descriptor. A quarter of those that this process may have is for everything else that it does. */
function mostHeld(): number {
  const descriptors = Number(/^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? Number.POSITIVE_INFINITY);
  return Math.floor(descriptors * 0.75);
}

function keyOf({ hostIp, protocol, hostPort }: PublishedPort): string {
  return `${hostIp}/${protocol}/${hostPort}`;
}

function numberOf({ hostIp, protocol, hostPort }: PublishedPort): string {
  return `${hostIp.includes(':') ? 6 : 4}/${protocol}/${hostPort}`;
}

/**
 * Binds without SO_REUSEADDR, which keeps everybody else off the port though nothing listens on it. Where only connections in TIME_WAIT
 * stand against that, the port is taken by listening: the packet filter hands connections on before they get there.
 */
function bindOnly({ protocol, hostIp: address, hostPort: port }: PublishedPort): number {
  try {
    return bindSocket({ transport: protocol, address, port }).fd;
  } catch (error) {
    if (protocol !== 'tcp' || !hasCode(error, 'EADDRINUSE')) throw error;
    return bindSocket({ transport: 'tcp', address, port, reuseAddress: true, backlog: 1 }).fd;
  }
}

function relayConnections(fd: number, host: string, port: number, onError: (error: unknown) => void): Held {
  const open = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    const inner = connect({ host, port, allowHalfOpen: true, noDelay: true });
    for (const [from, to] of [
      [client, inner],
      [inner, client],
    ] as const) {
      open.add(from);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        open.delete(from);
        if (!from.readableEnded) to.destroy();
      });
      from.pipe(to);
    }
  });
  server.on('error', onError);
  server.listen({ fd });
  server.unref();
  return {
    close: () => {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}

function relayDatagrams(fd: number, host: string, port: number, onError: (error: unknown) => void): Held {
  const outer = createSocket({ type: 'udp6', ipv6Only: true });
  const clients = new Map<string, { inner: DatagramSocket; timer: NodeJS.Timeout }>();
  const forget = (key: string): void => {
    const client = clients.get(key);
    clearTimeout(client?.timer);
    client?.inner.close();
    clients.delete(key);
  };
  outer.on('error', onError);
  outer.on('message', (message, from) => {
    const key = `${from.address} ${from.port}`;
    let client = clients.get(key);
    if (client === undefined) {
      const inner = createSocket(host.includes(':') ? 'udp6' : 'udp4');
      inner.on('error', () => forget(key));
      inner.on('message', (answer) => outer.send(answer, from.port, from.address));
      client = { inner, timer: setTimeout(() => forget(key), datagramIdleMs).unref() };
      clients.set(key, client);
    }
    client.timer.refresh();
    client.inner.send(message, port, host);
  });
  outer.bind({ fd });
  outer.unref();
  return {
    close: () => {
      for (const key of [...clients.keys()]) forget(key);
      outer.close();
    },
  };
}
