/** Who is called what on which network: an index over the sandboxes' records that follows their changes. */
import { dnsNames } from '../endpoint.ts';
import { predefinedNames } from '../network.ts';
import type { Records } from '../records.ts';
import type { EndpointRecord, SandboxRecord } from '../sandbox.ts';

export interface NamedEndpoint {
  readonly containerName: string;
  readonly networkName: string;
  readonly ipv4?: string;
  readonly ipv6?: string;
}

interface NamesElsewhere {
  lookup(networkId: string, name: string, networkName: string): NamedEndpoint[];
  reverse(networkId: string, address: string, networkName: string): NamedEndpoint | undefined;
}

export class NameDirectory {
  private readonly byName = new Map<string, Map<string, NamedEndpoint>>();
  private readonly byAddress = new Map<string, NamedEndpoint>();
  private readonly records: Records;
  private readonly elsewhere: NamesElsewhere | undefined;

  /** @param elsewhere - containers of other hosts on networks they share with this one. */
  constructor(records: Records, elsewhere?: NamesElsewhere) {
    this.records = records;
    this.elsewhere = elsewhere;
    for (const sandbox of records.sandboxes.values()) this.add(sandbox);
    records.sandboxes.onChange((_id, now, before) => {
      if (before !== undefined) this.remove(before);
      if (now !== undefined) this.add(now);
    });
  }

  /** Endpoints that `name` means to this container, on the networks it is on itself; undefined when the name is nobody's. */
  lookup(containerId: string, name: string): NamedEndpoint[] | undefined {
    const asker = this.records.sandboxes.get(containerId);
    if (asker === undefined) return undefined;
    const wanted = name.toLowerCase();
    for (const endpoint of asker.endpoints) {
      if (predefinedNames.includes(endpoint.networkName)) continue;
      const suffix = `.${endpoint.networkName.toLowerCase()}`;
      const label = wanted.endsWith(suffix) ? wanted.slice(0, -suffix.length) : wanted;
      const target = linkTarget(endpoint, label);
      const here = [...(this.byName.get(key(endpoint.networkId, target))?.values() ?? [])];
      const found = [...here, ...(this.elsewhere?.lookup(endpoint.networkId, target, endpoint.networkName) ?? [])];
      if (found.length > 0) return found;
    }
    return undefined;
  }

  /** The container that has an address on one of this container's networks. */
  reverse(containerId: string, address: string): NamedEndpoint | undefined {
    for (const endpoint of this.records.sandboxes.get(containerId)?.endpoints ?? []) {
      const found =
        this.byAddress.get(key(endpoint.networkId, address)) ?? this.elsewhere?.reverse(endpoint.networkId, address, endpoint.networkName);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  private *entries(sandbox: SandboxRecord): Generator<{ endpoint: EndpointRecord; named: NamedEndpoint }> {
    for (const endpoint of sandbox.endpoints) {
      if (predefinedNames.includes(endpoint.networkName)) continue;
      const { ipv4, ipv6, networkName } = endpoint;
      yield {
        endpoint,
        named: {
          containerName: sandbox.containerName,
          networkName,
          ...(ipv4 === undefined ? {} : { ipv4 }),
          ...(ipv6 === undefined ? {} : { ipv6 }),
        },
      };
    }
  }

  private add(sandbox: SandboxRecord): void {
    for (const { endpoint, named } of this.entries(sandbox)) {
      for (const name of dnsNames(sandbox, endpoint.wish)) {
        const id = key(endpoint.networkId, name.toLowerCase());
        const holders = this.byName.get(id) ?? new Map<string, NamedEndpoint>();
        holders.set(sandbox.containerId, named);
        this.byName.set(id, holders);
      }
      for (const address of [endpoint.ipv4, endpoint.ipv6]) {
        if (address !== undefined) this.byAddress.set(key(endpoint.networkId, address), named);
      }
    }
  }

  private remove(sandbox: SandboxRecord): void {
    for (const { endpoint } of this.entries(sandbox)) {
      for (const name of dnsNames(sandbox, endpoint.wish)) {
        const id = key(endpoint.networkId, name.toLowerCase());
        const holders = this.byName.get(id);
        holders?.delete(sandbox.containerId);
        if (holders?.size === 0) this.byName.delete(id);
      }
      for (const address of [endpoint.ipv4, endpoint.ipv6]) {
        if (address !== undefined) this.byAddress.delete(key(endpoint.networkId, address));
      }
    }
  }
}

function key(networkId: string, text: string): string {
  return `${networkId}/${text}`;
}

/** A link `name:alias` lets only this container call `name` `alias`. */
function linkTarget(endpoint: EndpointRecord, label: string): string {
  for (const link of endpoint.wish.Links ?? []) {
    const [name = '', alias = name] = link.replace(/^\//, '').split(':');
    if (alias.toLowerCase() === label) return name.toLowerCase();
  }
  return label;
}
