/** The other hosts in force, read again when their file changes. A file that is wrong leaves the hosts before in force. */
import { readFileSync, unwatchFile, watchFile } from 'node:fs';
import type { Agent } from 'node:http';
import { Agent as TlsAgent } from 'node:https';
import { errorMessage, NotFound } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
import { parseHosts, type RemoteHost } from '@flotilla/service-kit/hosts';
import { http } from '@flotilla/service-kit/http';

const lookMs = 500;
const connections = 256;

/** A host and how it is dialled. */
export interface Destination {
  readonly name: string;
  /** As the operator wrote it. */
  readonly url: string;
  readonly target: { readonly protocol: string; readonly host: string; readonly port: number; readonly socketPath?: string };
  readonly agent: Agent;
}

export class HostDirectory {
  private readonly path: string;
  private readonly logger: Logger;
  private byName: ReadonlyMap<string, Destination> = new Map();

  /** @throws InvalidParameter when the file is wrong at the start. */
  static follow(path: string, logger: Logger): HostDirectory {
    const directory = new HostDirectory(path, logger);
    directory.read();
    watchFile(path, { interval: lookMs, persistent: false }, directory.changed);
    return directory;
  }

  private constructor(path: string, logger: Logger) {
    this.path = path;
    this.logger = logger;
  }

  private readonly changed = (): void => {
    try {
      this.read();
      this.logger.info('hosts read again');
    } catch (error) {
      this.logger.error({ reason: errorMessage(error) }, 'the hosts before stay in force');
    }
  };

  /** @throws NotFound */
  find(name: string): Destination {
    const found = this.byName.get(name);
    if (found === undefined) throw new NotFound(`No such host: ${name}`);
    return found;
  }

  all(): Destination[] {
    return [...this.byName.values()];
  }

  close(): void {
    unwatchFile(this.path, this.changed);
    for (const { agent } of this.byName.values()) agent.destroy();
  }

  private read(): void {
    const before = this.byName;
    this.byName = new Map([...parseHosts(readFileSync(this.path, 'utf8'))].map(([name, host]) => [name, destination(name, host)]));
    // Idle connections carry the credentials of before; those in use end by themselves.
    for (const { agent } of before.values()) for (const socket of Object.values(agent.freeSockets).flat()) socket?.destroy();
  }
}

function destination(name: string, host: RemoteHost): Destination {
  // A container's standard input ends while its output goes on.
  const options = { keepAlive: true, maxSockets: Number.POSITIVE_INFINITY, maxFreeSockets: connections, allowHalfOpen: true };
  if (host.url.startsWith('unix:')) {
    const target = { protocol: 'http:', host: 'localhost', port: 80, socketPath: host.url.slice('unix://'.length) };
    return { name, url: host.url, target, agent: new http.Agent(options) };
  }
  const { protocol, hostname, port } = new URL(host.url);
  const secure = protocol === 'https:';
  const target = { protocol, host: hostname.replace(/^\[|\]$/g, ''), port: Number(port) || (secure ? 2376 : 2375) };
  if (!secure) return { name, url: host.url, target, agent: new http.Agent(options) };
  const { ca, cert, key } = host;
  const credentials = { ...(ca === undefined ? {} : { ca }), ...(cert === undefined ? {} : { cert, key }), minVersion: 'TLSv1.2' as const };
  return { name, url: host.url, target, agent: new TlsAgent({ ...options, ...credentials }) };
}
