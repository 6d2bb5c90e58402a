/** What a sandbox's record means for the three files, and keeping them so. */
import { hostname as ownHostname } from 'node:os';
import { shortId } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import { changedHosts, type HostsEntry, hostsFile, ownNames, parseExtraHost } from './hostsFile.ts';
import type { Records } from './records.ts';
import {
  directResolvConf,
  embeddedResolvConf,
  parseResolvConf,
  type ResolvConf,
  resolvConfText,
  resolverSettings,
  type Upstreams,
  upstreamServers,
} from './resolvConf.ts';
import type { SandboxRecord } from './sandbox.ts';
import { gatewayEndpoint } from './sandboxPlan.ts';

/** Where the three files of a sandbox are. */
export interface SandboxFilePaths {
  readonly hostname: string;
  readonly hosts: string;
  readonly resolvConf: string;
}

/** Keeps the files of each sandbox; adapters/sandboxFiles.ts. */
export interface SandboxFileStore {
  paths(containerId: string): SandboxFilePaths;
  write(containerId: string, content: { hostname: string; hosts: string; resolvConf: string }): SandboxFilePaths;
  editHosts(containerId: string, edit: (current: string) => string): void;
  /**
   * Unless somebody has edited it since it was written.
   *
   * @param before - what it was written with, where that was before its hash was kept.
   */
  replaceResolvConf(containerId: string, before: string, wanted: string): void;
  read(path: string): string;
  remove(containerId: string): void;
  containerIds(): string[];
}

export interface FileSetOptions {
  readonly files: SandboxFileStore;
  readonly records: Records;
  /** The engine's `--dns`, `--dns-search`, `--dns-option`. */
  readonly dns: readonly string[];
  readonly dnsSearch: readonly string[];
  readonly dnsOptions: readonly string[];
  /** What `host-gateway` stands for. */
  readonly hostGateways: () => readonly string[];
}

const hostResolvConf = '/etc/resolv.conf';
/** The servers behind systemd-resolved's stub, which a container cannot reach. */
const systemdResolvConf = '/run/systemd/resolve/resolv.conf';

export class SandboxFileSet {
  private readonly options: FileSetOptions;

  constructor(options: FileSetOptions) {
    this.options = options;
  }

  write(sandbox: SandboxRecord): SandboxFilePaths {
    return this.options.files.write(sandbox.containerId, {
      hostname: `${sandbox.hostname || (sandbox.kind === 'host' ? ownHostname() : shortId(sandbox.containerId))}\n`,
      hosts: this.hosts(sandbox),
      resolvConf: this.resolvConf(sandbox),
    });
  }

  refresh(before: SandboxRecord, now: SandboxRecord): void {
    const { files } = this.options;
    files.editHosts(now.containerId, (current) => changedHosts(current, this.hosts(before), this.hosts(now)));
    files.replaceResolvConf(now.containerId, this.resolvConf(before), this.resolvConf(now));
  }

  refreshLinkedTo(containerId: string): void {
    for (const sandbox of this.options.records.sandboxes.values()) {
      if (sandbox.links.length === 0 || !sandbox.links.some((link) => link.startsWith(`${containerId}:`))) continue;
      this.options.files.editHosts(sandbox.containerId, (current) => replaceLines(current, this.linkEntries(sandbox)));
    }
  }

  paths(containerId: string): SandboxFilePaths {
    return this.options.files.paths(containerId);
  }

  remove(containerId: string): void {
    this.options.files.remove(containerId);
  }

  containerIds(): string[] {
    return this.options.files.containerIds();
  }

  /** Servers the embedded name server asks for this sandbox. */
  upstreams(sandbox: SandboxRecord): Upstreams {
    return upstreamServers(this.settings(sandbox, this.hostSettings(hostResolvConf)), {
      namesServers: sandbox.dns.length > 0,
      leadsOut: gatewayEndpoint(sandbox.endpoints) !== undefined,
    });
  }

  private hosts(sandbox: SandboxRecord): string {
    const extra = sandbox.extraHosts.flatMap((text) => this.extraHost(text));
    if (sandbox.kind === 'host') {
      const own = this.options.files.read('/etc/hosts');
      const lines = extra.map(({ address, names }) => `${address}\t${names.join(' ')}\n`).join('');
      return own === '' ? hostsFile(extra) : own.replace(/\n?$/, '\n') + lines;
    }
    const names = ownNames(sandbox.hostname || shortId(sandbox.containerId), sandbox.domainname);
    const hasIPv6 = sandbox.withoutIPv6 !== true;
    const own = sandbox.endpoints.flatMap(({ ipv4, ipv6 }) =>
      [ipv4, hasIPv6 ? ipv6 : undefined].flatMap((address) => (address === undefined ? [] : [{ address, names }])),
    );
    return hostsFile([...extra, ...this.linkEntries(sandbox), ...own], hasIPv6);
  }

  private extraHost(text: string): HostsEntry[] {
    const found = parseExtraHost(text);
    if (found === undefined) throw new InvalidParameter(`bad format for add-host: "${text}"`);
    const addresses = found.address === 'host-gateway' ? this.options.hostGateways() : [found.address];
    if (addresses.includes('')) throw new InvalidParameter('unable to derive the IP value for host-gateway');
    return addresses.map((address) => ({ address, names: [found.name] }));
  }

  /** Links on the default bridge, where no name server answers. */
  private linkEntries(sandbox: SandboxRecord): HostsEntry[] {
    return sandbox.links.flatMap((link) => {
      const [id = '', name = '', alias = ''] = link.split(':');
      const target = this.options.records.sandboxes.get(id);
      const address = target?.endpoints.find(({ networkName }) => networkName === 'bridge')?.ipv4;
      if (target === undefined || address === undefined) return [];
      return [{ address, names: [...new Set([alias, target.hostname || shortId(id), name])] }];
    });
  }

  private resolvConf(sandbox: SandboxRecord): string {
    if (sandbox.dnsPort !== undefined) return embeddedResolvConf(this.settings(sandbox, this.hostSettings(hostResolvConf)));
    const host = this.hostSettings(sandbox.kind === 'host' ? hostResolvConf : this.reachableSource());
    const settings = this.settings(sandbox, host);
    if (sandbox.kind === 'host') return resolvConfText(settings);
    return directResolvConf(settings, {
      ipv6: sandbox.endpoints.some(({ ipv6 }) => ipv6 !== undefined),
      fromHost: sandbox.dns.length === 0 && this.options.dns.length === 0,
    });
  }

  private settings(sandbox: SandboxRecord, host: ResolvConf): ResolvConf {
    const engine = resolverSettings(host, { dns: this.options.dns, search: this.options.dnsSearch, options: this.options.dnsOptions });
    return resolverSettings(engine, { dns: sandbox.dns, search: sandbox.dnsSearch, options: sandbox.dnsOptions });
  }

  private hostSettings(path: string): ResolvConf {
    return parseResolvConf(this.options.files.read(path));
  }

  private reachableSource(): string {
    const servers = this.hostSettings(hostResolvConf).nameservers;
    return servers.length === 1 && servers[0] === '127.0.0.53' ? systemdResolvConf : hostResolvConf;
  }
}

/** Puts an entry in the place of the line that has the same first name. */
function replaceLines(text: string, entries: readonly HostsEntry[]): string {
  let lines = text.split('\n');
  for (const { address, names } of entries) {
    const line = `${address}\t${names.join(' ')}`;
    const index = lines.findIndex((one) => one.split(/\s+/)[1] === names[0]);
    lines = index === -1 ? [...lines.slice(0, -1), line, ''] : lines.with(index, line);
  }
  return lines.join('\n');
}
