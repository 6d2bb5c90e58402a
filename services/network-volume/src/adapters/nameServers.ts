/**
 * The embedded name servers' sockets, opened inside the sandboxes. They are on a random port of 127.0.0.11 and queries to port 53 are
 * redirected there, so that a container may itself serve DNS on 0.0.0.0:53.
 */
import { bindSocket, closeDescriptor, hasCode, inNetns } from '@flotilla/syscalls';
import type { NameDirectory } from '../dns/directory.ts';
import { Forwarder } from '../dns/forwarder.ts';
import { NameServer } from '../dns/nameServer.ts';
import { embeddedServer, type Upstreams } from '../resolvConf.ts';
import { Nftables } from './nftables.ts';

export interface NameServersOptions {
  readonly directory: NameDirectory;
  readonly forwarder: Forwarder;
  /** Servers to ask on for a container. */
  readonly upstreams: (containerId: string) => Upstreams;
  readonly onError: (error: unknown) => void;
}

const portTries = 20;

function redirection(port: number): string {
  const table = 'ip flotilla_dns';
  return `add table ${table}
delete table ${table}
table ${table} {
  chain output {
    type nat hook output priority -100; policy accept;
    ip daddr ${embeddedServer} meta l4proto { tcp, udp } th dport 53 dnat to ${embeddedServer}:${port}
  }
}
`;
}

export class NameServers {
  private readonly options: NameServersOptions;
  private readonly servers = new Map<string, NameServer>();

  constructor(options: NameServersOptions) {
    this.options = options;
  }

  /**
   * @param port - the one it had before, after a restart of this service.
   * @returns the port it listens on.
   */
  start(containerId: string, netnsPath: string, port = 0): number {
    this.stop(containerId);
    const sockets = inNetns(netnsPath, () => {
      const opened = openSockets(port);
      using nft = new Nftables();
      nft.run(redirection(opened.port));
      return opened;
    });
    const { directory, forwarder, upstreams, onError } = this.options;
    // Few containers ask from inside, and each that does keeps answers of its own.
    let own: Forwarder | undefined;
    const inside = (): Forwarder => {
      own ??= new Forwarder({
        openSocket: (transport, address) => inNetns(netnsPath, () => bindSocket({ transport, address, port: 0 }).fd),
      });
      return own;
    };
    const server = new NameServer({
      ...sockets,
      names: { lookup: (name) => directory.lookup(containerId, name), reverse: (address) => directory.reverse(containerId, address) },
      askOn: (query, transport) => {
        const { servers, isInside } = upstreams(containerId);
        return (isInside ? inside() : forwarder).ask(query, servers, transport);
      },
      onError,
    });
    this.servers.set(containerId, server);
    return sockets.port;
  }

  stop(containerId: string): void {
    this.servers.get(containerId)?.close();
    this.servers.delete(containerId);
  }

  close(): void {
    for (const server of this.servers.values()) server.close();
    this.servers.clear();
  }
}

/** A datagram and a stream socket on one port. */
function openSockets(wanted: number): { datagramFd: number; streamFd: number; port: number } {
  for (let tries = 1; ; tries += 1) {
    const datagram = bindSocket({ transport: 'udp', address: embeddedServer, port: tries === 1 ? wanted : 0 });
    try {
      const stream = bindSocket({ transport: 'tcp', address: embeddedServer, port: datagram.port, reuseAddress: true, backlog: 64 });
      return { datagramFd: datagram.fd, streamFd: stream.fd, port: datagram.port };
    } catch (error) {
      closeDescriptor(datagram.fd);
      if (!hasCode(error, 'EADDRINUSE') || tries === portTries) throw error;
    }
  }
}
