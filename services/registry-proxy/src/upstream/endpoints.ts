/** Where a registry is reached: mirrors first for docker.io, https by default, plain HTTP only where the operator or loopback allows it. */
import { lookup } from 'node:dns/promises';
import ipaddr from 'ipaddr.js';
import { anonymous, type Credentials } from '../credentials.ts';
import type { CertificateFolder } from './certificateFolder.ts';
import type { Connection } from './connection.ts';

export interface Endpoint extends Connection {
  /** `https://registry-1.docker.io`, without a slash at the end. */
  readonly base: string;
  readonly host: string;
  /** A mirror is only read from, gets no client's credentials, and any refusal of it passes on to the next endpoint. */
  readonly mirror: boolean;
  /** The operator's own, for this endpoint alone: a client's go before them. */
  readonly credentials?: Credentials;
}

/** One registry of the operator's file (upstreamsFile.ts). */
interface NamedEndpoints {
  readonly endpoint: Endpoint;
  readonly mirrors: readonly Endpoint[];
}

export interface EndpointSettings {
  /** Mirrors of docker.io, in order: URLs. */
  readonly registryMirrors: readonly string[];
  /** `host`, `host:port` or CIDR. Loopback always counts. */
  readonly insecureRegistries: readonly string[];
  /** Where registries are that are not at their own name: `docker.io` → `http://10.0.0.2:5000`. */
  readonly upstreams?: Readonly<Record<string, string>>;
}

/** Networks that dockerd trusts without TLS, as `docker info` lists them. */
export const loopbackNetworks: readonly string[] = ['::1/128', '127.0.0.0/8'];

const hubUrl = 'https://registry-1.docker.io';
const lookupTtlMs = 60_000;

type Network = ReturnType<typeof ipaddr.parseCIDR>;

/** The networks and the hosts that a list of `--insecure-registry` values names. */
export function splitInsecure(values: readonly string[]): { networks: string[]; hosts: string[] } {
  const networks: string[] = [];
  const hosts: string[] = [];
  for (const value of values) {
    const bare = value.replace(/^https?:\/\//, '').replace(/\/$/, '');
    if (ipaddr.isValidCIDR(bare)) networks.push(bare);
    else hosts.push(bare);
  }
  return { networks, hosts };
}

/** Where a registry is when nobody says otherwise. */
export function defaultUrlOf(registry: string): string {
  return registry === 'docker.io' ? hubUrl : `https://${registry}`;
}

export function endpointAt(text: string, how: { mirror: boolean; verifyTls: boolean }): Endpoint {
  const url = new URL(text);
  return { base: `${url.protocol}//${url.host}${url.pathname.replace(/\/+$/, '')}`, host: url.host, ...how };
}

/** Whose credentials go to an endpoint: the client's, or the operator's for one who has none. */
export function credentialsFor(endpoint: Endpoint, client: Credentials): Credentials {
  const own = endpoint.credentials ?? anonymous;
  return endpoint.mirror || client.kind === 'anonymous' ? own : client;
}

export class Endpoints {
  private readonly mirrors: readonly Endpoint[];
  private readonly flagged: ReadonlyMap<string, Endpoint>;
  private named: ReadonlyMap<string, NamedEndpoints> = new Map();
  private readonly certificates: CertificateFolder | undefined;
  private readonly insecureHosts: ReadonlySet<string>;
  private readonly insecureNetworks: readonly Network[];
  private readonly lookups = new Map<string, { readonly addresses: readonly string[]; readonly until: number }>();
  /** Hosts with a known way to reach them: a confirmed https is never downgraded, and plain HTTP is not tried by TLS each time. */
  private readonly confirmed = new Map<string, string>();

  constructor(settings: EndpointSettings, certificates?: CertificateFolder) {
    const { networks, hosts } = splitInsecure(settings.insecureRegistries);
    this.certificates = certificates;
    this.insecureHosts = new Set(hosts);
    this.insecureNetworks = [...loopbackNetworks, ...networks].map((network) => ipaddr.parseCIDR(network));
    this.mirrors = settings.registryMirrors.map((text) => this.flaggedAt(text, true));
    this.flagged = new Map(Object.entries(settings.upstreams ?? {}).map(([name, text]) => [name, this.flaggedAt(text, false)]));
  }

  private flaggedAt(text: string, mirror: boolean): Endpoint {
    return endpointAt(text, { mirror, verifyTls: !this.insecureHosts.has(new URL(text).host) });
  }

  /** What the operator's file says from now on. */
  use(named: ReadonlyMap<string, NamedEndpoints>): void {
    this.named = named;
    this.confirmed.clear();
    this.certificates?.forget();
  }

  /** Mirrors of docker.io, in order. */
  get mirrorsOfHub(): readonly Endpoint[] {
    return [...this.mirrors, ...(this.named.get('docker.io')?.mirrors ?? [])];
  }

  /** The endpoints of a registry in the order they are tried. `use` is `push` for anything that writes. */
  async of(registry: string, use: 'pull' | 'push'): Promise<Endpoint[]> {
    const mirrors = registry === 'docker.io' ? this.mirrorsOfHub : (this.named.get(registry)?.mirrors ?? []);
    const endpoints = [...(use === 'pull' ? mirrors : []), ...(await this.own(registry))];
    return Promise.all(endpoints.map((endpoint) => this.withCertificates(endpoint)));
  }

  private async own(registry: string): Promise<Endpoint[]> {
    const named = this.named.get(registry)?.endpoint ?? this.flagged.get(registry);
    if (named !== undefined) return [named];
    const secure = endpointAt(defaultUrlOf(registry), { mirror: false, verifyTls: true });
    if (registry === 'docker.io' || !(await this.isInsecure(registry))) return [secure];
    const unverified = { ...secure, verifyTls: false };
    const plain = { ...unverified, base: `http://${registry}` };
    const known = this.confirmed.get(registry);
    if (known === unverified.base) return [unverified];
    return known === plain.base ? [plain] : [unverified, plain];
  }

  private async withCertificates(endpoint: Endpoint): Promise<Endpoint> {
    if (endpoint.tls !== undefined || !endpoint.base.startsWith('https:')) return endpoint;
    const tls = await this.certificates?.of(endpoint.host);
    return tls === undefined ? endpoint : { ...endpoint, tls };
  }

  /** An endpoint has answered. */
  confirm(endpoint: Endpoint): void {
    if (!endpoint.mirror && !endpoint.verifyTls) this.confirmed.set(endpoint.host, endpoint.base);
  }

  /** Plain HTTP no longer answers: the next request tries TLS first again. */
  forget(endpoint: Endpoint): void {
    if (this.confirmed.get(endpoint.host) === endpoint.base && endpoint.base.startsWith('http:')) this.confirmed.delete(endpoint.host);
  }

  /** Whether a host may be spoken to without a valid certificate or without TLS; a name counts when it resolves into such a network. */
  async isInsecure(registry: string): Promise<boolean> {
    const host = registry.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
    if (this.insecureHosts.has(registry) || this.insecureHosts.has(host)) return true;
    return (await this.addresses(host)).some((address) => this.inInsecureNetwork(address));
  }

  private inInsecureNetwork(text: string): boolean {
    const address = ipaddr.process(text);
    return this.insecureNetworks.some((network) => address.kind() === network[0].kind() && address.match(network));
  }

  private async addresses(host: string): Promise<readonly string[]> {
    if (ipaddr.isValid(host)) return [host];
    const known = this.lookups.get(host);
    if (known !== undefined && known.until > Date.now()) return known.addresses;
    let addresses: string[] = [];
    try {
      addresses = (await lookup(host, { all: true })).map((each) => each.address);
    } catch {
      // A name that does not resolve is not insecure; the request itself will say why it failed.
    }
    if (this.lookups.size > 1000) this.lookups.clear();
    this.lookups.set(host, { addresses, until: Date.now() + lookupTtlMs });
    return addresses;
  }
}

/** Whether a URL's host is an address of this machine or of its link: never a place to be redirected to from outside. */
export function isLocalAddress(hostname: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, '');
  if (host === 'localhost' || host.endsWith('.localhost')) return true;
  if (!ipaddr.isValid(host)) return false;
  return ['loopback', 'linkLocal', 'unspecified'].includes(ipaddr.process(host).range());
}
