/**
 * Sandboxes: what a container's start and end ask for, and live changes between.
 *
 * State is in the records, the kernel follows. One container's calls wait for each other; between replicas its addresses are reserved by the
 * records themselves (`create`), and host ports by being bound.
 */

import type {
  CheckSandboxRequest,
  ConnectSandboxRequest,
  DisconnectSandboxRequest,
  PrepareSandboxRequest,
  ReleaseSandboxRequest,
  RetainSandboxesRequest,
} from '@flotilla/contracts/flotilla/network/v1/networks';
import type { EndpointSettings, NetworkSettings } from '@flotilla/engine-api';
import { Conflict, Forbidden, InvalidParameter, isConflict, isNotFound, System } from '@flotilla/errors';
import { KeyedQueue } from '@flotilla/service-kit';
import { requestedAddress } from './addressAllocator.ts';
import { checkEndpoint, dnsNames, macAddress } from './endpoint.ts';
import type { PortForward } from './firewall.ts';
import type { Gateways, InterfaceWish, Slot } from './hostNetwork.ts';
import { randomId } from './ids.ts';
import { bridgeOptions, type NetworkRecord, networkSubnets, predefinedNames } from './network.ts';
import { eventAttributes, type Networks } from './networks.ts';
import { type PortAllocator, type PortHolder, type PublishedPort, portWishes } from './ports.ts';
import { addressId, event, type Records } from './records.ts';
import {
  checkContainerId,
  decodeEndpoint,
  decodeSpec,
  type EndpointRecord,
  endpointDocument,
  networkSettings,
  type SandboxRecord,
  type SandboxWish,
} from './sandbox.ts';
import type { SandboxFilePaths } from './sandboxFileSet.ts';
import {
  addressIds,
  exposedPorts,
  firstFree,
  freeInterface,
  gatewayEndpoint,
  gatewaysOf,
  interfaceWish,
  plainEndpoint,
  portForwards,
  usesNameServer,
} from './sandboxPlan.ts';

/** The kernel's side of a sandbox. */
export interface Stacks {
  makeBareSlot(): { name: string; netnsPath: string };
  newHostLink(): string;
  netnsPath(slot: string): string;
  isAlive(slot: string): boolean;
  attach(wish: InterfaceWish): void;
  setGateways(wish: Gateways): void;
  setSysctls(netnsPath: string, sysctls: Readonly<Record<string, string>>): void;
  detach(hostLink: string): void;
  removeSlot(name: string): void;
  hasIPv6(): boolean;
}

/** The packet filter's side of published ports. */
export interface PortRules {
  addPorts(ports: readonly PortForward[]): void;
  removePorts(ports: readonly PortForward[]): void;
}

/** The files of a sandbox, made of its record. */
export interface Files {
  /** Writes them for a start. */
  write(sandbox: SandboxRecord): SandboxFilePaths;
  /** After a change while it runs: what the user edited stays. `before` is how the record was. */
  refresh(before: SandboxRecord, now: SandboxRecord): void;
  /** Links of others point to this container: their hosts files follow. */
  refreshLinkedTo(containerId: string): void;
  paths(containerId: string): SandboxFilePaths;
  remove(containerId: string): void;
  containerIds(): string[];
}

/** The embedded name servers. */
export interface NameServers {
  /** Opens one inside a sandbox; gives its port. */
  start(containerId: string, netnsPath: string, port?: number): number;
  stop(containerId: string): void;
}

export interface SandboxesOptions {
  readonly records: Records;
  readonly networks: Networks;
  readonly stacks: Stacks;
  readonly slots: { take(): Slot };
  readonly rules: PortRules;
  readonly ports: PortAllocator;
  readonly holder: PortHolder;
  readonly files: Files;
  readonly nameServers: NameServers;
  /** The engine's `--ip`: where ports are published when nothing else is said. */
  readonly hostIp: string;
}

export interface Prepared {
  readonly netnsPath: string;
  readonly files: SandboxFilePaths;
  readonly settings: NetworkSettings;
}

interface Joining {
  readonly network: NetworkRecord;
  readonly wish: EndpointSettings;
}

const maxConflicts = 8;

export class Sandboxes {
  private readonly options: SandboxesOptions;
  private readonly records: Records;
  private readonly queue = new KeyedQueue();
  /** Addresses chosen and not yet committed. */
  private readonly pending = new Set<string>();

  constructor(options: SandboxesOptions) {
    this.options = options;
    this.records = options.records;
  }

  /** @throws InvalidParameter for what no start could do. A network that is not there is no reason: it may be by then. */
  check(request: CheckSandboxRequest): { warnings: string[] } {
    const wish = decodeSpec(request.spec);
    this.portWishesOf(wish, undefined);
    for (const [term, settings] of this.wantedEndpoints(wish)) {
      let network: NetworkRecord;
      try {
        network = this.options.networks.findForMode(term);
      } catch (error) {
        if (isNotFound(error)) continue;
        throw error;
      }
      checkEndpoint(network, settings);
    }
    return { warnings: [] };
  }

  /** Networks to join, by the client's term: those named, else the mode's. */
  private wantedEndpoints(wish: SandboxWish): Map<string, EndpointSettings> {
    const given = new Map(Object.entries(wish.endpoints));
    const mode = wish.networkMode === '' || wish.networkMode === 'default' ? 'bridge' : wish.networkMode;
    const isGiven = [...given.keys()].some((term) => term === mode || this.isSameNetwork(term, mode));
    if (!isGiven && (given.size === 0 || !predefinedNames.includes(mode))) given.set(mode, {});
    return given;
  }

  private isSameNetwork(term: string, mode: string): boolean {
    try {
      return this.options.networks.find(term).id === this.options.networks.find(mode).id;
    } catch {
      return false;
    }
  }

  /** @throws NotFound, InvalidParameter, Conflict in dockerd's words. */
  private joinings(wish: SandboxWish): Joining[] {
    const found = new Map<string, Joining>();
    for (const [term, settings] of this.wantedEndpoints(wish)) {
      const network = this.options.networks.findForMode(term);
      checkEndpoint(network, settings);
      const mac = settings.MacAddress || (network.name === this.modeName(wish) ? wish.macAddress : '');
      found.set(network.id, { network, wish: { ...settings, MacAddress: mac } });
    }
    const joinings = [...found.values()].sort((a, b) => (a.network.name < b.network.name ? -1 : 1));
    if (joinings.length > 1 && joinings.some(({ network }) => network.driver === 'null')) {
      throw new InvalidParameter('container cannot be connected to multiple networks with one of the networks in private (none) mode');
    }
    if (joinings.length > 1 && joinings.some(({ network }) => network.driver === 'host')) {
      throw new InvalidParameter(
        'container sharing network namespace with another container or host cannot be connected to any other network',
      );
    }
    return joinings;
  }

  private modeName(wish: SandboxWish): string {
    return wish.networkMode === '' || wish.networkMode === 'default' ? 'bridge' : wish.networkMode;
  }

  /** Makes the sandbox for a start, or gives back the one that is there. */
  async prepare(request: PrepareSandboxRequest): Promise<Prepared> {
    const wish = decodeSpec(request.spec);
    await this.records.fresh();
    return this.queue.run(wish.containerId, async () => {
      const existing = this.records.sandboxes.get(wish.containerId);
      if (existing !== undefined) {
        if (existing.kind === 'host' || this.options.stacks.isAlive(existing.slot)) {
          // A crash may have come between the record and the kernel.
          this.realize(existing, wish.sysctls);
          return this.prepared(existing);
        }
        await this.teardown(existing);
      }
      for (let attempt = 1; ; attempt += 1) {
        try {
          return await this.make(wish);
        } catch (error) {
          // Another replica took an address that we had chosen: choose again.
          if (!isConflict(error) || attempt === maxConflicts) throw error;
          await this.records.fresh();
        }
      }
    });
  }

  private async make(wish: SandboxWish): Promise<Prepared> {
    const joinings = this.joinings(wish);
    const [first] = joinings;
    const base = {
      containerId: wish.containerId,
      containerName: wish.containerName,
      hostname: wish.hostname,
      domainname: wish.domainname,
      sandboxId: randomId(),
      ports: [],
      exposedPorts: exposedPorts(wish),
      dns: wish.dns,
      dnsSearch: wish.dnsSearch,
      dnsOptions: wish.dnsOptions,
      extraHosts: wish.extraHosts,
      links: wish.links,
    };
    if (first?.network.driver === 'host')
      return this.save({ ...base, kind: 'host', slot: '', endpoints: [plainEndpoint(first.network, first.wish)] }, joinings);
    if (first?.network.driver === 'null') {
      const slot = this.options.stacks.makeBareSlot();
      return this.save({ ...base, kind: 'own', slot: slot.name, endpoints: [plainEndpoint(first.network, first.wish)] }, joinings, wish);
    }
    const slot = this.options.slots.take();
    const endpoints: EndpointRecord[] = [];
    try {
      for (const joining of joinings) {
        const index = endpoints.length;
        const hostLink = index === 0 ? slot.hostLink : this.options.stacks.newHostLink();
        endpoints.push(this.chooseEndpoint(joining, { interfaceName: `eth${index}`, hostLink }));
      }
    } catch (error) {
      this.forgetPending(endpoints);
      this.options.stacks.removeSlot(slot.name);
      throw error;
    }
    return this.save({ ...base, kind: 'own', slot: slot.name, endpoints }, joinings, wish);
  }

  /** Chooses the addresses of an endpoint. They count as taken from here on. */
  private chooseEndpoint({ network, wish }: Joining, place: { interfaceName: string; hostLink: string }): EndpointRecord {
    const subnets = networkSubnets(network);
    const isTaken = (address: string): boolean => {
      const id = addressId(network.id, address);
      return this.pending.has(id) || this.records.addresses.has(id);
    };
    const chosen: { address: string; prefixLength: number; gateway: string | undefined; family: 4 | 6 }[] = [];
    for (const family of [4, 6] as const) {
      const ofFamily = subnets.filter(({ cidr }) => cidr.family === family);
      if (ofFamily.length === 0) continue;
      const asked = family === 4 ? wish.IPAMConfig?.IPv4Address : wish.IPAMConfig?.IPv6Address;
      const { address, subnet } = asked ? requestedAddress(ofFamily, family, asked, isTaken) : firstFree(ofFamily, isTaken);
      chosen.push({ address, prefixLength: subnet.prefixLength, gateway: network.internal ? undefined : subnet.gateway, family });
    }
    for (const { address } of chosen) this.pending.add(addressId(network.id, address));
    const v4 = chosen.find(({ family }) => family === 4);
    const v6 = chosen.find(({ family }) => family === 6);
    return {
      id: randomId(),
      networkId: network.id,
      networkName: network.name,
      wish,
      ...place,
      mac: macAddress(wish.MacAddress, v4?.address),
      ...(v4 === undefined ? {} : { ipv4: v4.address, ipv4PrefixLength: v4.prefixLength }),
      ...(v4?.gateway === undefined ? {} : { ipv4Gateway: v4.gateway }),
      ...(v6 === undefined ? {} : { ipv6: v6.address, ipv6PrefixLength: v6.prefixLength }),
      ...(v6?.gateway === undefined ? {} : { ipv6Gateway: v6.gateway }),
    };
  }

  /** Brings a new sandbox into records, kernel and files. What fails is undone. */
  private async save(draft: SandboxRecord, joinings: readonly Joining[], wish?: SandboxWish): Promise<Prepared> {
    const { stacks, nameServers, files } = this.options;
    const netnsPath = draft.slot === '' ? '' : stacks.netnsPath(draft.slot);
    let sandbox = draft;
    let committed = false;
    try {
      const gateway = gatewayEndpoint(draft.endpoints);
      const ports = wish === undefined || gateway === undefined ? [] : this.allocatePorts(draft, wish, gateway);
      sandbox = { ...draft, ports };
      if (usesNameServer(joinings.map(({ network }) => network)))
        sandbox = { ...sandbox, dnsPort: nameServers.start(draft.containerId, netnsPath) };
      const events = joinings.map(({ network }) =>
        event('network', 'connect', network.id, { container: draft.containerId, ...eventAttributes(network) }),
      );
      // The kernel's part runs while Redis writes: whatever a crash leaves without a record goes at the next start.
      const commit = this.records.commit({ puts: this.puts(sandbox, sandbox.endpoints), events });
      let failure: unknown;
      try {
        this.realize(sandbox, wish?.sysctls ?? {});
      } catch (error) {
        failure = error;
      }
      await commit;
      committed = true;
      if (failure !== undefined) throw failure;
      files.refreshLinkedTo(sandbox.containerId);
      return this.prepared(sandbox);
    } catch (error) {
      if (committed) await this.teardown(sandbox);
      else this.dismantle(sandbox);
      throw error;
    } finally {
      this.forgetPending(draft.endpoints);
    }
  }

  /** Makes kernel and files what the record says. Idempotent. */
  private realize(sandbox: SandboxRecord, sysctls: Readonly<Record<string, string>>): void {
    const { stacks, rules, files } = this.options;
    for (const endpoint of sandbox.endpoints) this.attach(sandbox, endpoint);
    if (sandbox.kind === 'own' && Object.keys(sysctls).length > 0) stacks.setSysctls(stacks.netnsPath(sandbox.slot), sysctls);
    rules.addPorts(portForwards(sandbox));
    files.write(sandbox);
  }

  private attach(sandbox: SandboxRecord, endpoint: EndpointRecord): void {
    const network = this.records.networks.get(endpoint.networkId);
    if (network === undefined || endpoint.hostLink === '') return;
    this.options.stacks.attach(interfaceWish(this.options.stacks.netnsPath(sandbox.slot), network, sandbox, endpoint));
  }

  private allocatePorts(sandbox: SandboxRecord, wish: SandboxWish, gateway: EndpointRecord): PublishedPort[] {
    const network = this.records.networks.get(gateway.networkId);
    const wishes = this.portWishesOf(wish, network);
    if (wishes.length === 0) return [];
    const target = {
      ...(gateway.ipv4 === undefined ? {} : { ipv4: gateway.ipv4 }),
      ...(gateway.ipv6 === undefined ? {} : { ipv6: gateway.ipv6 }),
    };
    return this.options.ports.allocate(wishes, target, { name: sandbox.containerName, id: gateway.id });
  }

  private portWishesOf(wish: SandboxWish, network: NetworkRecord | undefined): ReturnType<typeof portWishes> {
    const steering =
      network === undefined || predefinedNames.includes(network.name) ? undefined : bridgeOptions(network.options).hostBinding;
    const defaults = { hostIp: steering ?? this.options.hostIp, ipv6: this.options.stacks.hasIPv6() };
    return portWishes(wish.portBindings, wish.exposedPorts, wish.publishAllPorts, defaults);
  }

  private puts(sandbox: SandboxRecord, newEndpoints: readonly EndpointRecord[]) {
    const { sandboxes, addresses } = this.records;
    return [
      sandboxes.put(sandbox.containerId, sandbox),
      ...addressIds(newEndpoints).map((id) => addresses.put(id, { containerId: sandbox.containerId }, { create: true })),
    ];
  }

  private forgetPending(endpoints: readonly EndpointRecord[]): void {
    for (const id of addressIds(endpoints)) this.pending.delete(id);
  }

  private prepared(sandbox: SandboxRecord): Prepared {
    return {
      netnsPath: sandbox.kind === 'host' ? '' : this.options.stacks.netnsPath(sandbox.slot),
      files: this.options.files.paths(sandbox.containerId),
      settings: this.settings(sandbox),
    };
  }

  /** NetworkSettings of a running container. */
  private settings(sandbox: SandboxRecord): NetworkSettings {
    const networks: Record<string, EndpointSettings> = {};
    for (const endpoint of sandbox.endpoints) {
      const names = predefinedNames.includes(endpoint.networkName) ? null : dnsNames(sandbox, endpoint.wish);
      networks[endpoint.networkName] = endpointDocument(endpoint.wish, endpoint, endpoint.networkId, names);
    }
    const sandboxKey = this.options.stacks.netnsPath(sandbox.slot === '' ? 'default' : sandbox.slot);
    return networkSettings(networks, {
      sandboxId: sandbox.sandboxId,
      sandboxKey,
      ports: sandbox.ports,
      exposedPorts: sandbox.exposedPorts,
    });
  }

  /** NetworkSettings of a container that does not run. */
  private stoppedSettings(
    joinings: readonly Joining[],
    container?: { containerName: string; containerId: string; hostname: string },
  ): NetworkSettings {
    const networks: Record<string, EndpointSettings> = {};
    for (const { network, wish } of joinings) {
      const names = container === undefined || predefinedNames.includes(network.name) ? null : dnsNames(container, wish);
      networks[network.name] = endpointDocument(wish, undefined, network.id, names);
    }
    return networkSettings(networks);
  }

  /** Frees what a run held. Idempotent. */
  async release(request: Pick<ReleaseSandboxRequest, 'containerId' | 'remove'>): Promise<NetworkSettings> {
    checkContainerId(request.containerId);
    return this.queue.run(request.containerId, async () => {
      const sandbox = this.records.sandboxes.get(request.containerId);
      if (sandbox !== undefined) await this.teardown(sandbox);
      if (request.remove) this.options.files.remove(request.containerId);
      return this.stoppedSettings(
        (sandbox?.endpoints ?? []).flatMap(({ networkId, wish }) => {
          const network = this.records.networks.get(networkId);
          return network === undefined ? [] : [{ network, wish }];
        }),
        sandbox,
      );
    });
  }

  /** Takes a sandbox out of kernel and records. */
  private async teardown(sandbox: SandboxRecord): Promise<void> {
    this.dismantle(sandbox);
    const events = sandbox.endpoints.flatMap(({ networkId }) => {
      const network = this.records.networks.get(networkId);
      if (network === undefined) return [];
      return [event('network', 'disconnect', networkId, { container: sandbox.containerId, ...eventAttributes(network) })];
    });
    const { sandboxes, addresses } = this.records;
    await this.records.commit({
      deletes: [sandboxes.delete(sandbox.containerId), ...addressIds(sandbox.endpoints).map((id) => addresses.delete(id))],
      events,
    });
  }

  /** The kernel's part of a teardown; every step is tried, the first failure is thrown. */
  private dismantle(sandbox: SandboxRecord): void {
    const { rules, holder, nameServers, stacks } = this.options;
    const steps = [
      () => rules.removePorts(portForwards(sandbox)),
      ...sandbox.ports.map((port) => () => holder.release(port)),
      () => nameServers.stop(sandbox.containerId),
      ...sandbox.endpoints
        .filter(({ hostLink }) => hostLink !== '')
        .map(
          ({ hostLink }) =>
            () =>
              stacks.detach(hostLink),
        ),
      () => sandbox.slot !== '' && stacks.removeSlot(sandbox.slot),
    ];
    const failures: unknown[] = [];
    for (const step of steps) {
      try {
        step();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw new System('the sandbox could not be taken down', { cause: new AggregateError(failures) });
  }

  /** Adds an endpoint: now when the container runs, else only checked. */
  async connect(request: ConnectSandboxRequest): Promise<{ settings: NetworkSettings; networkName: string }> {
    const wish = decodeSpec(request.spec);
    const settings = decodeEndpoint(request.endpointJson);
    await this.records.fresh();
    const network = this.options.networks.find(request.network);
    checkEndpoint(network, settings);
    if (network.driver === 'host') {
      throw new InvalidParameter('cannot connect container to host network - container must be created in host network mode');
    }
    return this.queue.run(wish.containerId, async () => {
      const sandbox = this.records.sandboxes.get(wish.containerId);
      if (!request.running || sandbox === undefined) {
        const joinings = this.joinings({ ...wish, endpoints: { ...this.otherEndpoints(wish, network), [network.name]: settings } });
        return { settings: this.stoppedSettings(joinings, wish), networkName: network.name };
      }
      return { settings: this.settings(await this.connectLive(sandbox, { network, wish: settings })), networkName: network.name };
    });
  }

  private otherEndpoints(wish: SandboxWish, network: NetworkRecord): Record<string, EndpointSettings> {
    return Object.fromEntries([...this.wantedEndpoints(wish)].filter(([term]) => !this.isSameNetwork(term, network.id)));
  }

  private async connectLive(sandbox: SandboxRecord, joining: Joining): Promise<SandboxRecord> {
    const { network } = joining;
    if (sandbox.kind === 'host') {
      throw new InvalidParameter(
        'container sharing network namespace with another container or host cannot be connected to any other network',
      );
    }
    if (network.driver === 'null' || sandbox.endpoints.some(({ networkName }) => networkName === 'none')) {
      throw new InvalidParameter('container cannot be connected to multiple networks with one of the networks in private (none) mode');
    }
    if (sandbox.endpoints.some(({ networkId }) => networkId === network.id)) {
      throw new Forbidden(`endpoint with name ${sandbox.containerName} already exists in network ${network.name}`);
    }
    const { stacks, nameServers, files } = this.options;
    const netnsPath = stacks.netnsPath(sandbox.slot);
    const endpoint = this.chooseEndpoint(joining, { interfaceName: freeInterface(sandbox.endpoints), hostLink: stacks.newHostLink() });
    let now = sandbox;
    try {
      const dnsPort = sandbox.dnsPort ?? (usesNameServer([network]) ? nameServers.start(sandbox.containerId, netnsPath) : undefined);
      now = { ...sandbox, endpoints: [...sandbox.endpoints, endpoint], ...(dnsPort === undefined ? {} : { dnsPort }) };
      await this.records.commit({
        puts: this.puts(now, [endpoint]),
        events: [event('network', 'connect', network.id, { container: sandbox.containerId, ...eventAttributes(network) })],
      });
    } catch (error) {
      if (sandbox.dnsPort === undefined) nameServers.stop(sandbox.containerId);
      throw error;
    } finally {
      this.forgetPending([endpoint]);
    }
    try {
      this.attach(now, endpoint);
      this.moveGateway(sandbox, now);
      files.refresh(sandbox, now);
      return now;
    } catch (error) {
      await this.disconnectLive(now, network, endpoint);
      throw error;
    }
  }

  /** Lets default routes follow the endpoint that now has the best claim. */
  private moveGateway(before: SandboxRecord, now: SandboxRecord): void {
    const gateway = gatewayEndpoint(now.endpoints);
    if (gateway === undefined || gateway.id === gatewayEndpoint(before.endpoints)?.id) return;
    this.options.stacks.setGateways(gatewaysOf(this.options.stacks.netnsPath(now.slot), gateway));
  }

  async disconnect(request: DisconnectSandboxRequest): Promise<{ settings: NetworkSettings; networkName: string }> {
    checkContainerId(request.containerId);
    await this.records.fresh();
    const network = this.options.networks.find(request.network);
    if (network.driver === 'host') throw new Conflict('container cannot be disconnected from host network or connected to host network');
    return this.queue.run(request.containerId, async () => {
      const sandbox = this.records.sandboxes.get(request.containerId);
      if (sandbox === undefined) return { settings: networkSettings({}), networkName: network.name };
      const endpoint = sandbox.endpoints.find(({ networkId }) => networkId === network.id);
      if (endpoint === undefined) {
        throw new Forbidden(`container ${request.containerId} is not connected to network ${network.name}`);
      }
      const now = await this.disconnectLive(sandbox, network, endpoint);
      return { settings: this.settings(now), networkName: network.name };
    });
  }

  private async disconnectLive(sandbox: SandboxRecord, network: NetworkRecord, endpoint: EndpointRecord): Promise<SandboxRecord> {
    const { stacks, rules, holder, nameServers, files } = this.options;
    const losesPorts = gatewayEndpoint(sandbox.endpoints)?.id === endpoint.id;
    const endpoints = sandbox.endpoints.filter(({ id }) => id !== endpoint.id);
    const { dnsPort, ...rest } = sandbox;
    const keepsNameServer = endpoints.some(({ networkName }) => !predefinedNames.includes(networkName));
    const now: SandboxRecord = {
      ...rest,
      ...(dnsPort === undefined || !keepsNameServer ? {} : { dnsPort }),
      endpoints,
      ports: losesPorts ? [] : sandbox.ports,
    };
    if (losesPorts) {
      rules.removePorts(portForwards(sandbox));
      for (const port of sandbox.ports) holder.release(port);
    }
    if (endpoint.hostLink !== '') stacks.detach(endpoint.hostLink);
    if (!keepsNameServer) nameServers.stop(sandbox.containerId);
    const { sandboxes, addresses } = this.records;
    await this.records.commit({
      puts: [sandboxes.put(sandbox.containerId, now)],
      deletes: addressIds([endpoint]).map((id) => addresses.delete(id)),
      events: [event('network', 'disconnect', network.id, { container: sandbox.containerId, ...eventAttributes(network) })],
    });
    this.moveGateway(sandbox, now);
    files.refresh(sandbox, now);
    return now;
  }

  /** Other containers find it by its new name from now on. */
  async rename(containerId: string, newName: string): Promise<void> {
    checkContainerId(containerId);
    await this.queue.run(containerId, async () => {
      const sandbox = this.records.sandboxes.get(containerId);
      if (sandbox === undefined) return;
      await this.records.commit({ puts: [this.records.sandboxes.put(containerId, { ...sandbox, containerName: newName })] });
    });
  }

  /** Releases the sandboxes of containers that do not run, and removes what is left of those that do not exist. */
  async retain(request: Pick<RetainSandboxesRequest, 'known' | 'running'>): Promise<string[]> {
    await this.records.fresh();
    const [known, running] = [new Set(request.known), new Set(request.running)];
    const released: string[] = [];
    for (const { containerId } of [...this.records.sandboxes.values()]) {
      if (running.has(containerId)) continue;
      await this.release({ containerId, remove: !known.has(containerId) });
      released.push(containerId);
    }
    for (const containerId of this.options.files.containerIds()) {
      if (!known.has(containerId)) this.options.files.remove(containerId);
    }
    return released;
  }
}
