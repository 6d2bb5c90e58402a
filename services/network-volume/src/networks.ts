/** Networks: create, find, list, remove, prune, and the two kinds that are always there. */

import { type NetworkContainer, type NetworkCreateRequest, type NetworkInspect, randomId } from '@flotilla/engine-api';
import { Conflict, Forbidden, InvalidParameter, isForbidden, isNotFound, NotFound, Unavailable } from '@flotilla/errors';
import type { IsOwn } from '@flotilla/service-kit/rights';
import type { AddressPool } from './addressPools.ts';
import { bridgeOptions, skipsGateway } from './bridgeOptions.ts';
import { overlaps, parseCidr } from './cidr.ts';
import { timestamp } from './clock.ts';
import {
  anyOf,
  booleanFilter,
  checkFilters,
  type Filters,
  filterValues,
  matchesLabels,
  matchesPruneLabels,
  textMatcher,
  untilMs,
} from './filters.ts';
import { chooseSubnets, poolOverlaps, writtenSubnets } from './ipam.ts';
import {
  bridgeName,
  type NetworkRecord,
  networkDocument,
  networkScope,
  predefinedNames,
  type SubnetRecord,
  takenSubnets,
} from './network.ts';
import type { Bridges, NetworkKernel } from './networkKernel.ts';
import { eventAttributes, saveNetwork } from './networkRecords.ts';
import { type NetworkWish, networkWish } from './networkRequest.ts';
import { chooseOverlay, overlayRecord } from './overlay/network.ts';
import type { SharedNetwork } from './overlay/shared.ts';
import { checkParentShared, isOnParent, parentWish } from './parentLinks.ts';
import type { PluginNetworks } from './pluginNetworks.ts';
import { event, type Records } from './records.ts';

export interface OverlayAgreement {
  create(choose: (networks: readonly SharedNetwork[]) => SharedNetwork): Promise<SharedNetwork>;
  remove(id: string): Promise<void>;
}

export interface NetworksOptions {
  readonly records: Records;
  readonly kernel: NetworkKernel;
  readonly bridges: Bridges;
  readonly pools: readonly AddressPool[];
  readonly plugged: PluginNetworks;
  /** Options of new networks, by driver, where the client gives none. */
  readonly defaultOptions?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Agrees on overlay networks with other hosts; absent where NATS is shared with nobody. */
  readonly overlay?: OverlayAgreement | undefined;
  readonly onError: (error: unknown) => void;
}

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

  /** The network that a container's NetworkMode means. Without a default bridge it is `none`, as with dockerd. */
  findForMode(mode: string): NetworkRecord {
    if (!['', 'default', 'bridge'].includes(mode)) return this.find(mode);
    return this.find(this.records.networkNames.has('bridge') ? 'bridge' : 'none');
  }

  async create(given: NetworkCreateRequest): Promise<{ id: string; warning: string }> {
    const wish = networkWish(given, {
      configuration: (name) => this.configuration(name),
      sharesNats: this.options.overlay !== undefined,
      defaultOptions: this.options.defaultOptions ?? {},
    });
    if (wish.request.ConfigOnly !== true) this.options.kernel.check(wish.driver);
    if (wish.driver === 'overlay') return this.createOverlay(wish);
    const id = randomId();
    const { plugged } = this.options;
    const scope = await plugged.scopeOf(wish);
    await this.checkNameFree(wish.name);
    // A plugin may take its time: nobody else waits for it.
    const subnets = wish.request.ConfigOnly === true ? undefined : await plugged.subnets(wish);
    let network: NetworkRecord;
    try {
      network =
        scope === undefined ? await this.save(() => this.record(id, wish, subnets)) : await this.createPlugged(id, wish, scope, subnets);
    } catch (error) {
      await plugged.release(wish.ipamDriver, subnets ?? []);
      throw error;
    }
    try {
      this.realize(network);
    } catch (error) {
      await this.forget(network);
      throw error;
    }
    return { id, warning: '' };
  }

  /** @throws Conflict in dockerd's words. */
  private async checkNameFree(name: string): Promise<void> {
    await this.records.fresh();
    if (this.records.networkNames.has(name)) throw new Conflict(`network with name ${name} already exists`);
  }

  /** Pools are one object: two creations must not choose the same subnet. */
  private save<T extends NetworkRecord | undefined>(choose: () => T): Promise<T> {
    return this.records.withLease('pools', async () => {
      await this.records.fresh();
      const network = choose();
      if (network === undefined) return network;
      if (this.records.networkNames.has(network.name)) throw new Conflict(`network with name ${network.name} already exists`);
      await saveNetwork(this.records, network);
      return network;
    });
  }

  /** Its driver learns of it before it is in the records: what is there can be joined. */
  private async createPlugged(
    id: string,
    wish: NetworkWish,
    scope: 'local' | 'global',
    given: SubnetRecord[] | undefined,
  ): Promise<NetworkRecord> {
    for (;;) {
      const network = { ...this.record(id, wish, given), plugin: { scope } };
      let saved: NetworkRecord | undefined;
      try {
        await this.options.plugged.create(network);
        saved = await this.save(() => (given === undefined && this.isTaken(network.subnets) ? undefined : network));
      } catch (error) {
        await this.options.plugged.deleteFrom(network);
        throw error;
      }
      if (saved !== undefined) return saved;
      // Another network has come to have the subnet. If the client named it, choosing again refuses it.
      await this.options.plugged.deleteFrom(network);
    }
  }

  private isTaken(subnets: readonly SubnetRecord[]): boolean {
    const ours = takenSubnets(this.records.networks.values());
    const cidrs = subnets.flatMap(({ subnet }) => parseCidr(subnet) ?? []);
    return cidrs.some((cidr) => ours.some((other) => overlaps(cidr, other)));
  }

  private async createOverlay(wish: NetworkWish): Promise<{ id: string; warning: string }> {
    await this.checkNameFree(wish.name);
    const { overlay } = this.options;
    if (overlay === undefined) throw new Unavailable('NATS is shared with no other host');
    const made = await overlay.create((networks) =>
      chooseOverlay(wish, networks, {
        ours: takenSubnets(this.records.networks.values()),
        routes: this.options.bridges.occupiedBlocks(),
        pools: this.options.pools,
      }),
    );
    try {
      await this.adopt(made);
    } catch (error) {
      await overlay.remove(made.id).catch(this.options.onError);
      throw error;
    }
    return { id: made.id, warning: '' };
  }

  /** Takes over what hosts have agreed on: overlay networks that are new, and those that are gone. */
  async follow(shared: readonly SharedNetwork[]): Promise<void> {
    for (const network of shared) if (network.leaving !== true) await this.adopt(network).catch(this.options.onError);
    const there = new Set(shared.map(({ id }) => id));
    for (const network of [...this.records.networks.values()]) {
      if (network.driver !== 'overlay' || there.has(network.id) || this.isUsed(network)) continue;
      await this.records.withLease(`network/${network.id}`, async () => {
        if (this.records.networks.has(network.id))
          await this.forget(network, event('network', 'destroy', network.id, eventAttributes(network)));
      });
    }
  }

  /** @throws Forbidden where a network of this host alone has a subnet of it. */
  private async adopt(shared: SharedNetwork): Promise<void> {
    const network = overlayRecord(shared);
    await this.records.withLease('pools', async () => {
      await this.records.fresh();
      if (this.records.networks.has(network.id)) return;
      if (this.isTaken(network.subnets)) throw poolOverlaps();
      await saveNetwork(this.records, network);
    });
    this.realize(network);
  }

  private configuration(name: string): NetworkRecord | undefined {
    return [...this.records.networks.values()].find((network) => network.name === name && network.configOnly === true);
  }

  /** @param given - its subnets, where they are not ours to choose. @throws Forbidden when something of it is another network's already. */
  private record(
    id: string,
    { name, driver, isPlugin, enableIPv4, enableIPv6, request }: NetworkWish,
    given: SubnetRecord[] | undefined,
  ): NetworkRecord {
    const options = request.Options ?? {};
    const isConfiguration = request.ConfigOnly === true;
    const isParented = isOnParent(driver) && !isConfiguration;
    if (given !== undefined && !isPlugin && this.isTaken(given)) throw poolOverlaps();
    if (isParented) checkParentShared(parentWish(driver, id, options), this.records.networks.values());
    const off = ([4, 6] as const).filter((family) => !(family === 4 ? enableIPv4 : enableIPv6));
    const idleSubnets = isConfiguration ? [] : writtenSubnets(request.IPAM, off);
    return {
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
      subnets: isConfiguration
        ? writtenSubnets(request.IPAM)
        : (given ??
          chooseSubnets({
            ipam: request.IPAM,
            enableIPv4,
            enableIPv6,
            gateways: (family) =>
              isParented || (driver === 'bridge' && skipsGateway(bridgeOptions(options), family, request.Internal ?? false))
                ? 'named'
                : 'chosen',
            pools: this.options.pools,
            ours: takenSubnets(this.records.networks.values()),
            routes: this.options.bridges.occupiedBlocks(),
          })),
      ...(idleSubnets.length === 0 ? {} : { idleSubnets }),
      options,
      labels: request.Labels ?? {},
      bridge: driver === 'bridge' ? this.freeBridge(id, options) : '',
      ...(isConfiguration ? { configOnly: true } : {}),
      ...(request.ConfigFrom?.Network ? { configFrom: request.ConfigFrom.Network } : {}),
    };
  }

  private freeBridge(id: string, options: Readonly<Record<string, string>>): string {
    const bridge = bridgeOptions(options).name ?? bridgeName(id);
    if ([...this.records.networks.values()].some((other) => other.bridge === bridge)) {
      throw new Forbidden(`cannot create network ${id} (${bridge}): conflicts with network with the same bridge name`);
    }
    this.options.bridges.checkBridge(bridge);
    return bridge;
  }

  realize(network: NetworkRecord): void {
    this.options.kernel.realize(network);
  }

  inspect(term: string, scope = ''): NetworkInspect {
    const network = this.find(term);
    if (scope !== '' && scope !== networkScope(network)) throw new NotFound(`network ${term} not found`);
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
    const [hasName, hasId] = [textMatcher(filters, 'name'), textMatcher(filters, 'id')];
    return [...this.records.networks.values()]
      .filter((network) => {
        const type = predefinedNames.includes(network.name) ? 'builtin' : 'custom';
        return (
          anyOf(filters, 'driver', (value) => network.driver === value) &&
          hasName(network.name) &&
          hasId(network.id) &&
          anyOf(filters, 'scope', (value) => value === networkScope(network)) &&
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
      const dependent = [...this.records.networks.values()].find(({ configFrom }) => configFrom === network.name);
      if (network.configOnly === true && dependent !== undefined) {
        throw new Forbidden(`configuration network "${network.name}" is in use`);
      }
      if (network.driver === 'overlay') await this.options.overlay?.remove(network.id);
      await this.forget(network, event('network', 'destroy', network.id, eventAttributes(network)));
    });
  }

  private async forget(network: NetworkRecord, ...events: ReturnType<typeof event>[]): Promise<void> {
    const { networks, networkNames } = this.records;
    await this.options.plugged.remove(network);
    await this.records.commit({ deletes: [networks.delete(network.id), networkNames.delete(network.name)], events });
    this.options.kernel.remove(network, networks.values());
  }

  /** Removes user-made networks that no container is on, of those that are for the caller to remove. */
  async prune(filters: Filters, isOwn: IsOwn = () => true): Promise<string[]> {
    checkFilters(filters, ['label', 'label!', 'until']);
    const [until, ...more] = filterValues(filters, 'until');
    if (more.length > 0) throw new InvalidParameter('more than one until filter specified');
    const before = until === undefined ? Number.POSITIVE_INFINITY : untilMs(until);
    const removed: string[] = [];
    for (const network of [...this.records.networks.values()]) {
      if (
        predefinedNames.includes(network.name) ||
        !isOwn(network.name, network.labels) ||
        this.isUsed(network) ||
        !matchesPruneLabels(network.labels, filters)
      )
        continue;
      if (Date.parse(network.created) > before) continue;
      try {
        await this.remove(network.id);
        removed.push(network.name);
      } catch (error) {
        // Somebody joined it meanwhile, or removed it. Anything else keeps no other network from being removed.
        if (!isForbidden(error) && !isNotFound(error)) this.options.onError(error);
      }
    }
    await this.records.commit({ events: [event('network', 'prune', '', { reclaimed: '0' })] });
    return removed;
  }
}
