/** Networks: create, find, list, remove, prune, and the two kinds that are always there. */
import type { NetworkContainer, NetworkCreateRequest, NetworkInspect } from '@flotilla/engine-api';
import { Conflict, Forbidden, InvalidParameter, isConflict, NotFound, NotImplemented } from '@flotilla/errors';
import type { AddressPool } from './addressPools.ts';
import { addressText, type Cidr, cidrText, parseCidr, parseCidrAddress } from './cidr.ts';
import { anyOf, booleanFilter, checkFilters, type Filters, filterValues, matchesLabels, matchesPruneLabels, untilMs } from './filters.ts';
import type { FirewallNetwork } from './firewall.ts';
import type { BridgeWish } from './hostNetwork.ts';
import { randomId, timestamp } from './ids.ts';
import { checkIpam, chooseSubnets } from './ipam.ts';
import {
  bridgeName,
  bridgeOptions,
  checkNetworkName,
  type Driver,
  type NetworkRecord,
  networkDocument,
  predefinedNames,
} from './network.ts';
import { event, type Records } from './records.ts';

/** The kernel's side of a network. */
export interface Bridges {
  ensureBridge(wish: BridgeWish): void;
  removeBridge(name: string): void;
  isForeign(name: string): boolean;
  occupiedBlocks(): Cidr[];
  enableForwarding(family: 4 | 6): void;
}

/** The packet filter's side of a network. */
export interface NetworkRules {
  addNetwork(network: FirewallNetwork): void;
  removeNetwork(network: FirewallNetwork): void;
}

export interface NetworksOptions {
  readonly records: Records;
  readonly bridges: Bridges;
  readonly rules: NetworkRules;
  readonly pools: readonly AddressPool[];
  /** The engine's wishes for the default bridge. */
  readonly defaultBridge: { readonly bip?: string; readonly fixedCidr?: string; readonly mtu?: number; readonly icc: boolean };
}

const unknownDrivers: Readonly<Record<string, string>> = {
  macvlan: 'macvlan networks are not supported yet',
  ipvlan: 'ipvlan networks are not supported yet',
};

export class Networks {
  private readonly options: NetworksOptions;
  private readonly records: Records;

  constructor(options: NetworksOptions) {
    this.options = options;
    this.records = options.records;
  }

  /**
   * Finds by full id, then by name, then by a prefix of an id.
   *
   * @throws NotFound, InvalidParameter in dockerd's words.
   */
  find(term: string): NetworkRecord {
    const byId = this.records.networks.get(term);
    if (byId !== undefined) return byId;
    const all = [...this.records.networks.values()];
    const [named] = all.filter(({ name }) => name === term);
    if (named !== undefined) return named;
    const prefixed = term === '' ? [] : all.filter(({ id }) => id.startsWith(term));
    if (prefixed.length > 1)
      throw new InvalidParameter(`network ${term} is ambiguous (${prefixed.length} matches found based on ID prefix)`);
    const [only] = prefixed;
    if (only === undefined) throw new NotFound(`network ${term} not found`);
    return only;
  }

  /** The network that a container's NetworkMode means. */
  findForMode(mode: string): NetworkRecord {
    return this.find(mode === '' || mode === 'default' ? 'bridge' : mode);
  }

  async create(request: NetworkCreateRequest): Promise<{ id: string; warning: string }> {
    const name = request.Name ?? '';
    checkNetworkName(name);
    if (predefinedNames.includes(name)) throw new Forbidden(`operation is not permitted on predefined ${name} network `);
    const driver = checkDriver(request);
    const enableIPv6 = request.EnableIPv6 ?? false;
    const enableIPv4 = request.EnableIPv4 ?? true;
    if (!enableIPv4 && !enableIPv6) throw new InvalidParameter('IPv4 or IPv6 must be enabled');
    checkIpam(request.IPAM, enableIPv6);
    const steering = bridgeOptions(request.Options ?? {});
    const id = randomId();
    const bridge = steering.name ?? bridgeName(id);
    // Pools are one object: two creations must not choose the same subnet.
    const network = await this.records.withLease('pools', async () => {
      await this.records.fresh();
      if (this.records.networkNames.has(name)) throw new Conflict(`network with name ${name} already exists`);
      if ([...this.records.networks.values()].some((other) => other.bridge === bridge)) {
        throw new Forbidden(`cannot create network ${id} (${bridge}): conflicts with network with the same bridge name`);
      }
      if (this.options.bridges.isForeign(bridge)) throw new Forbidden(`bridge ${bridge} exists and is not managed by this engine`);
      const record: NetworkRecord = {
        id,
        name,
        driver,
        created: timestamp(),
        internal: request.Internal ?? false,
        attachable: request.Attachable ?? false,
        ingress: false,
        enableIPv4,
        enableIPv6,
        ipamDriver: request.IPAM?.Driver || 'default',
        ipamOptions: request.IPAM?.Options ?? null,
        subnets: chooseSubnets({
          ipam: request.IPAM,
          enableIPv4,
          enableIPv6,
          pools: this.options.pools,
          ours: this.subnets(),
          routes: this.options.bridges.occupiedBlocks(),
        }),
        options: request.Options ?? {},
        labels: request.Labels ?? {},
        bridge,
      };
      await this.save(record);
      return record;
    });
    try {
      this.realize(network);
    } catch (error) {
      await this.forget(network);
      throw error;
    }
    return { id, warning: '' };
  }

  private async save(network: NetworkRecord): Promise<void> {
    const { networks, networkNames } = this.records;
    try {
      await this.records.commit({
        puts: [
          networks.put(network.id, network, { create: true }),
          networkNames.put(network.name, { networkId: network.id }, { create: true }),
        ],
        events: predefinedNames.includes(network.name) ? [] : [event('network', 'create', network.id, eventAttributes(network))],
      });
    } catch (error) {
      if (isConflict(error)) throw new Conflict(`network with name ${network.name} already exists`, { cause: error });
      throw error;
    }
  }

  /** Brings a network into the kernel: bridge, forwarding, rules. Idempotent. */
  realize(network: NetworkRecord): void {
    if (network.driver !== 'bridge') return;
    const { bridges, rules } = this.options;
    const steering = bridgeOptions(network.options);
    const addresses = network.subnets.flatMap(({ subnet, gateway }) => {
      const length = subnet.split('/')[1];
      return gateway === undefined || length === undefined ? [] : [`${gateway}/${length}`];
    });
    bridges.ensureBridge({ name: network.bridge, addresses, ...(steering.mtu === undefined ? {} : { mtu: steering.mtu }) });
    if (network.enableIPv4) bridges.enableForwarding(4);
    if (network.enableIPv6) bridges.enableForwarding(6);
    rules.addNetwork(firewallNetwork(network));
  }

  /** Subnets of all our networks. */
  private subnets(): Cidr[] {
    return [...this.records.networks.values()].flatMap(({ subnets }) => subnets.flatMap(({ subnet }) => parseCidr(subnet) ?? []));
  }

  inspect(term: string, scope = ''): NetworkInspect {
    const network = this.find(term);
    if (scope !== '' && scope !== 'local') throw new NotFound(`network ${term} not found`);
    return networkDocument(network, this.containersOf(network));
  }

  /** Endpoints on a network, by container. */
  private containersOf(network: NetworkRecord): Record<string, NetworkContainer> {
    const found: Record<string, NetworkContainer> = {};
    for (const sandbox of this.records.sandboxes.values()) {
      const endpoint = sandbox.endpoints.find(({ networkId }) => networkId === network.id);
      if (endpoint === undefined) continue;
      found[sandbox.containerId] = {
        Name: sandbox.containerName,
        EndpointID: endpoint.id,
        MacAddress: endpoint.mac,
        IPv4Address: endpoint.ipv4 === undefined ? '' : `${endpoint.ipv4}/${endpoint.ipv4PrefixLength}`,
        IPv6Address: endpoint.ipv6 === undefined ? '' : `${endpoint.ipv6}/${endpoint.ipv6PrefixLength}`,
      };
    }
    return found;
  }

  private isUsed(network: NetworkRecord): boolean {
    return [...this.records.sandboxes.values()].some(({ endpoints }) => endpoints.some(({ networkId }) => networkId === network.id));
  }

  /** Newest last, as they were made; the predefined ones are the first. */
  list(filters: Filters): NetworkInspect[] {
    checkFilters(filters, ['dangling', 'driver', 'id', 'label', 'name', 'scope', 'type']);
    for (const type of filterValues(filters, 'type')) {
      if (type !== 'custom' && type !== 'builtin') throw new InvalidParameter(`invalid filter: 'type'='${type}'`);
    }
    const dangling = booleanFilter(filters, 'dangling');
    return [...this.records.networks.values()]
      .filter((network) => {
        const type = predefinedNames.includes(network.name) ? 'builtin' : 'custom';
        return (
          anyOf(filters, 'driver', (value) => network.driver === value) &&
          anyOf(filters, 'name', (value) => network.name.includes(value)) &&
          anyOf(filters, 'id', (value) => network.id.startsWith(value)) &&
          anyOf(filters, 'scope', (value) => value === 'local') &&
          anyOf(filters, 'type', (value) => value === type) &&
          matchesLabels(network.labels, filterValues(filters, 'label')) &&
          (dangling === undefined || dangling === (type === 'custom' && !this.isUsed(network)))
        );
      })
      .sort((a, b) => (a.created < b.created ? -1 : 1))
      .map((network) => networkDocument(network));
  }

  /** @throws Forbidden for a predefined or used one, in dockerd's words. */
  async remove(term: string): Promise<void> {
    await this.records.fresh();
    const network = this.find(term);
    if (predefinedNames.includes(network.name)) throw new Forbidden(`${network.name} is a pre-defined network and cannot be removed`);
    await this.records.withLease(`network/${network.id}`, async () => {
      this.find(network.id);
      const users = Object.values(this.containersOf(network));
      if (users.length > 0) {
        const names = users.map((user) => `name:"${user.Name}" id:"${user.EndpointID.slice(0, 12)}"`).join(', ');
        throw new Forbidden(`error while removing network: network ${network.name} has active endpoints (${names})`);
      }
      await this.forget(network, event('network', 'destroy', network.id, eventAttributes(network)));
    });
  }

  private async forget(network: NetworkRecord, ...events: ReturnType<typeof event>[]): Promise<void> {
    const { networks, networkNames } = this.records;
    await this.records.commit({ deletes: [networks.delete(network.id), networkNames.delete(network.name)], events });
    if (network.driver !== 'bridge') return;
    this.options.rules.removeNetwork(firewallNetwork(network));
    this.options.bridges.removeBridge(network.bridge);
  }

  /** Removes user-made networks that no container is on. */
  async prune(filters: Filters): Promise<string[]> {
    checkFilters(filters, ['label', 'label!', 'until']);
    const [until, ...more] = filterValues(filters, 'until');
    if (more.length > 0) throw new InvalidParameter('more than one until filter specified');
    const before = until === undefined ? Number.POSITIVE_INFINITY : untilMs(until);
    const removed: string[] = [];
    for (const network of [...this.records.networks.values()]) {
      if (predefinedNames.includes(network.name) || this.isUsed(network) || !matchesPruneLabels(network.labels, filters)) continue;
      if (Date.parse(network.created) > before) continue;
      try {
        await this.remove(network.id);
        removed.push(network.name);
      } catch {
        // Somebody joined it meanwhile: then it stays.
      }
    }
    if (removed.length > 0) await this.records.commit({ events: [event('network', 'prune', '', { reclaimed: '0' })] });
    return removed;
  }

  /** Makes sure that bridge, host and none exist, and that the default bridge is as the engine's options say. */
  async ensurePredefined(): Promise<void> {
    await this.records.withLease('pools', async () => {
      await this.records.fresh();
      for (const [name, driver] of [
        ['host', 'host'],
        ['none', 'null'],
      ] as const) {
        if (!this.records.networkNames.has(name)) await this.save(plainNetwork(name, driver));
      }
      const id = this.records.networkNames.get('bridge')?.networkId;
      const existing = id === undefined ? undefined : this.records.networks.get(id);
      const wanted = this.defaultBridge(existing);
      if (existing === undefined) await this.save(wanted);
      else await this.records.commit({ puts: [this.records.networks.put(wanted.id, wanted)] });
    });
  }

  /** The default bridge; `existing` keeps its id and, where the options say nothing else, its subnet. */
  private defaultBridge(existing: NetworkRecord | undefined): NetworkRecord {
    const { bridges, defaultBridge, pools } = this.options;
    const id = existing?.id ?? randomId();
    // A real dockerd beside us owns docker0.
    const bridge = existing?.bridge ?? (bridges.isForeign('docker0') ? 'flotilla0' : 'docker0');
    const options: Record<string, string> = {
      'com.docker.network.bridge.default_bridge': 'true',
      'com.docker.network.bridge.enable_icc': String(defaultBridge.icc),
      'com.docker.network.bridge.enable_ip_masquerade': 'true',
      'com.docker.network.bridge.host_binding_ipv4': '0.0.0.0',
      'com.docker.network.bridge.name': bridge,
      'com.docker.network.driver.mtu': String(defaultBridge.mtu ?? 1500),
    };
    return {
      ...plainNetwork('bridge', 'bridge'),
      id,
      created: existing?.created ?? timestamp(),
      subnets: this.defaultBridgeSubnets(existing, pools, id),
      options,
      bridge,
    };
  }

  private defaultBridgeSubnets(existing: NetworkRecord | undefined, pools: readonly AddressPool[], id: string): NetworkRecord['subnets'] {
    const { bip, fixedCidr } = this.options.defaultBridge;
    const range = fixedCidr === undefined ? {} : { IPRange: fixedCidr };
    if (bip !== undefined) {
      const own = parseCidrAddress(bip);
      if (own === undefined) throw new InvalidParameter(`invalid CIDR address: ${bip}`);
      const Gateway = addressText(own.cidr.family, own.address);
      return chooseSubnets({ ...this.choice(id, pools), ipam: { Config: [{ Subnet: cidrText(own.cidr), Gateway, ...range }] } });
    }
    if (fixedCidr !== undefined) return chooseSubnets({ ...this.choice(id, pools), ipam: { Config: [{ Subnet: fixedCidr, ...range }] } });
    return existing?.subnets ?? chooseSubnets({ ...this.choice(id, pools), ipam: undefined });
  }

  private choice(exceptId: string, pools: readonly AddressPool[]): Omit<Parameters<typeof chooseSubnets>[0], 'ipam'> {
    const others = [...this.records.networks.values()].filter(({ id }) => id !== exceptId);
    const ours = others.flatMap(({ subnets }) => subnets.flatMap(({ subnet }) => parseCidr(subnet) ?? []));
    return { enableIPv4: true, enableIPv6: false, pools, ours, routes: this.options.bridges.occupiedBlocks() };
  }
}

function plainNetwork(name: string, driver: Driver): NetworkRecord {
  return {
    id: randomId(),
    name,
    driver,
    created: timestamp(),
    internal: false,
    attachable: false,
    ingress: false,
    enableIPv4: true,
    enableIPv6: false,
    ipamDriver: 'default',
    ipamOptions: null,
    subnets: [],
    options: {},
    labels: {},
    bridge: '',
  };
}

/** @throws NotImplemented, NotFound, Forbidden, InvalidParameter for a driver or kind of network we cannot make. */
function checkDriver(request: NetworkCreateRequest): Driver {
  const driver = request.Driver || 'bridge';
  if (driver === 'overlay' || request.Scope === 'swarm' || request.Ingress === true) {
    throw new Forbidden(
      'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
    );
  }
  if (request.ConfigOnly === true || (request.ConfigFrom?.Network ?? '') !== '')
    throw new NotImplemented('configuration-only networks are not supported');
  if (driver === 'host' || driver === 'null') throw new Forbidden(`only one instance of "${driver}" network is allowed`);
  const reason = unknownDrivers[driver];
  if (reason !== undefined) throw new NotImplemented(reason);
  if (driver !== 'bridge') throw new NotFound(`plugin "${driver}" not found`);
  const ipamDriver = request.IPAM?.Driver || 'default';
  if (ipamDriver !== 'default' && ipamDriver !== 'null') throw new InvalidParameter(`invalid ipam driver: "${ipamDriver}"`);
  return driver;
}

export function firewallNetwork(network: NetworkRecord): FirewallNetwork {
  const steering = bridgeOptions(network.options);
  return {
    bridge: network.bridge,
    subnets: network.subnets.map(({ subnet }) => subnet),
    masquerade: steering.masquerade,
    internal: network.internal,
    interContainer: steering.interContainer,
  };
}

/** What dockerd puts into every event of a network. */
export function eventAttributes(network: NetworkRecord): Record<string, string> {
  return { name: network.name, type: network.driver };
}
