/**
 * Sandboxes: what a container's start and end ask for, and live changes between.
 *
 * State is in the records, the kernel follows. One container's calls wait for each other; between replicas its addresses are reserved by the
 * records themselves (`create`), and host ports by being bound.
 */

import { setTimeout } from 'node:timers/promises';
import type {
  CheckSandboxRequest,
  ConnectSandboxRequest,
  DisconnectSandboxRequest,
  PrepareSandboxRequest,
  ReleaseSandboxRequest,
  RetainSandboxesRequest,
} from '@flotilla/contracts/flotilla/network/v1/networks';
import { type NetworkSettings, randomId } from '@flotilla/engine-api';
import { Conflict, Forbidden, InvalidParameter, isConflict, isNotFound, System } from '@flotilla/errors';
import { KeyedQueue } from '@flotilla/service-kit';
import { bridgeOptions } from './bridgeOptions.ts';
import { checkEndpoint } from './endpoint.ts';
import { type ClusterAddresses, claimOf, EndpointChooser } from './endpointChooser.ts';
import type { Slot } from './hostNetwork.ts';
import { type Joining, joinings, otherEndpoints, wantedEndpoints } from './joining.ts';
import { LiveConnections } from './liveConnections.ts';
import { LoopTurns } from './loopTurns.ts';
import { hasBridge, type NetworkRecord, predefinedNames } from './network.ts';
import { eventAttributes } from './networkRecords.ts';
import type { Networks } from './networks.ts';
import type { PluginEndpoints } from './pluginEndpoints.ts';
import { HostPortInUse, type PortAllocator, type PortHolder, type PublishedPort, portsATurn, portWishes, splitRouted } from './ports.ts';
import { addressIds, event, newSandboxPuts, type Records } from './records.ts';
import {
  addressesOf,
  checkContainerId,
  decodeEndpoint,
  decodeSpec,
  type EndpointRecord,
  networkSettings,
  type SandboxRecord,
  type SandboxWish,
} from './sandbox.ts';
import type { SandboxFilePaths } from './sandboxFileSet.ts';
import { SandboxKernel } from './sandboxKernel.ts';
import type { Files, Flows, NameServers, PortRules, Stacks } from './sandboxOutside.ts';
import {
  disablesIPv6,
  exposedPorts,
  gatewayEndpoint,
  interfaceNameFor,
  plainEndpoint,
  portForwards,
  portTarget,
  usesNameServer,
} from './sandboxPlan.ts';
import { runningSettings, stoppedSettings } from './sandboxView.ts';

export interface SandboxesOptions {
  readonly records: Records;
  readonly networks: Networks;
  readonly stacks: Stacks;
  readonly slots: { take(): Slot };
  readonly rules: PortRules;
  readonly flows: Flows;
  readonly ports: PortAllocator;
  readonly holder: PortHolder;
  readonly files: Files;
  readonly nameServers: NameServers;
  readonly plugged: PluginEndpoints;
  /** Absent where NATS is shared with nobody. */
  readonly cluster?: ClusterAddresses | undefined;
  /** Whether other instances of this service live. */
  readonly hasOthers: () => boolean;
  /** The engine's `--ip`: where ports are published when nothing else is said. */
  readonly hostIp: string;
}

export interface Prepared {
  readonly netnsPath: string;
  readonly files: SandboxFilePaths;
  readonly settings: NetworkSettings;
}

const maxConflicts = 8;
/** Another replica hears that a port is free in some milliseconds. */
const lettingGoMs = 100;

/** What goes wrong at a start is told as dockerd tells it; a connect says only what it was. */
async function settingUp<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof System)) throw error;
    throw new System(`failed to set up container networking: ${error.message}`, { cause: error.cause ?? error });
  }
}

export class Sandboxes {
  private readonly options: SandboxesOptions;
  private readonly records: Records;
  private readonly queue = new KeyedQueue();
  private readonly turns = new LoopTurns();
  private readonly kernel: SandboxKernel;
  private readonly chooser: EndpointChooser;
  private readonly live: LiveConnections;

  constructor(options: SandboxesOptions) {
    this.options = options;
    this.records = options.records;
    this.kernel = new SandboxKernel(options);
    this.chooser = new EndpointChooser(options);
    this.live = new LiveConnections({ ...options, kernel: this.kernel, chooser: this.chooser });
  }

  /** @throws InvalidParameter for what no start could do. A network that is not there is no reason: it may be by then. */
  check(request: CheckSandboxRequest): { warnings: string[] } {
    const wish = decodeSpec(request.spec);
    this.portWishesOf(wish, undefined);
    for (const [term, settings] of wantedEndpoints(this.options.networks, wish)) {
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

  /** Whether this instance is changing the container's sandbox now. */
  isChanging(containerId: string): boolean {
    return this.queue.has(containerId);
  }

  /** Makes the sandbox for a start, or gives back the one that is there. */
  async prepare(request: PrepareSandboxRequest): Promise<Prepared> {
    const wish = decodeSpec(request.spec);
    await this.records.fresh();
    return this.queue.run(wish.containerId, () => settingUp(() => this.choosingAgain(() => this.findOrMake(wish))));
  }

  private async findOrMake(wish: SandboxWish): Promise<Prepared> {
    const existing = this.records.sandboxes.get(wish.containerId);
    if (existing !== undefined) {
      if (existing.kind === 'host' || this.options.stacks.isAlive(existing.slot)) {
        // A crash may have come between the record and the kernel.
        this.kernel.realize(existing, wish.sysctls);
        return this.prepared(existing);
      }
      await this.teardown(existing);
    }
    return this.make(wish);
  }

  /** Another replica may make the sandbox itself, take an address that we had chosen, or hold a port that is free by the records for a moment yet: then we choose again. */
  private async choosingAgain<T>(work: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await work();
      } catch (error) {
        const isLetGoSoon = error instanceof HostPortInUse && this.options.hasOthers();
        if (attempt === maxConflicts || (!isConflict(error) && !isLetGoSoon)) throw error;
        if (isLetGoSoon) await setTimeout(lettingGoMs);
        await this.records.fresh();
      }
    }
  }

  private async make(wish: SandboxWish): Promise<Prepared> {
    await this.turns.next();
    const joining = joinings(this.options.networks, wish);
    const [first] = joining;
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
      ...(disablesIPv6(wish.sysctls) ? { withoutIPv6: true as const } : {}),
    };
    if (first?.network.driver === 'host')
      return this.save({ ...base, kind: 'host', slot: '', endpoints: [plainEndpoint(first.network, first.wish)] }, joining);
    if (first?.network.driver === 'null') {
      const slot = this.options.stacks.makeBareSlot();
      return this.save({ ...base, kind: 'own', slot: slot.name, endpoints: [plainEndpoint(first.network, first.wish)] }, joining, wish);
    }
    // Slots of the pool have an eth0 with its other end on the host.
    const slot =
      first !== undefined && !hasBridge(first.network)
        ? { ...this.options.stacks.makeBareSlot(), hostLink: '' }
        : this.options.slots.take();
    const endpoints: EndpointRecord[] = [];
    try {
      for (const one of joining) {
        const hasPeer = hasBridge(one.network);
        const hostLink = !hasPeer ? '' : endpoints.length === 0 ? slot.hostLink : this.options.stacks.newHostLink();
        const interfaceName = interfaceNameFor(one, endpoints);
        const isTaken = (name: string): boolean => endpoints.some((other) => other.interfaceName === name);
        const place = { interfaceName, hostLink, netnsPath: slot.netnsPath, isTaken, ports: wish };
        endpoints.push(await this.chooser.choose(one, place, wish));
      }
    } catch (error) {
      await this.chooser.giveUp(endpoints);
      this.options.stacks.removeSlot(slot.name);
      throw error;
    }
    return this.save({ ...base, kind: 'own', slot: slot.name, endpoints }, joining, wish);
  }

  /** Brings a new sandbox into records, kernel and files. What fails is undone. */
  private async save(draft: SandboxRecord, joined: readonly Joining[], wish?: SandboxWish): Promise<Prepared> {
    const { stacks, nameServers, files } = this.options;
    const netnsPath = draft.slot === '' ? '' : stacks.netnsPath(draft.slot);
    let sandbox = draft;
    let committed = false;
    try {
      const gateway = gatewayEndpoint(draft.endpoints);
      const ports = wish === undefined || gateway === undefined ? [] : await this.allocatePorts(draft, wish, gateway);
      sandbox = { ...draft, ports };
      if (usesNameServer(joined.map(({ network }) => network)))
        sandbox = { ...sandbox, dnsPort: nameServers.start(draft.containerId, netnsPath) };
      const events = joined.map(({ network }) =>
        event('network', 'connect', network.id, { container: draft.containerId, ...eventAttributes(network) }),
      );
      // The kernel's part runs while Redis writes: whatever a crash leaves without a record goes at the next start.
      const commit = this.records.commit({ puts: newSandboxPuts(this.records, sandbox), events });
      let failure: unknown;
      try {
        this.kernel.realize(sandbox, wish?.sysctls ?? {});
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
      else await this.options.plugged.leave(sandbox.endpoints, () => this.kernel.dismantle(sandbox));
      throw error;
    } finally {
      this.chooser.settle(draft.endpoints);
    }
  }

  private async allocatePorts(sandbox: SandboxRecord, wish: SandboxWish, gateway: EndpointRecord): Promise<PublishedPort[]> {
    const network = this.records.networks.get(gateway.networkId);
    const wishes = this.portWishesOf(wish, network);
    // Containers on a parent's wire are reached there; a plugin publishes ports itself.
    if (network === undefined || !hasBridge(network) || wishes.length === 0) return [];
    const { gatewayMode, trustedHostInterfaces } = bridgeOptions(network.options);
    const { direct, wishes: translated } = splitRouted(wishes, (family) => gatewayMode[family] === 'routed');
    const held = await this.options.ports.allocate(translated, portTarget(sandbox), { name: sandbox.containerName, id: gateway.id });
    return [...direct, ...(trustedHostInterfaces.length === 0 ? held : held.map((port) => ({ ...port, opened: true as const })))];
  }

  private portWishesOf(wish: SandboxWish, network: NetworkRecord | undefined): ReturnType<typeof portWishes> {
    const steering =
      network === undefined || predefinedNames.includes(network.name) ? undefined : bridgeOptions(network.options).hostBinding;
    const defaults = { hostIp: steering ?? this.options.hostIp, ipv6: this.options.stacks.hasIPv6() };
    return portWishes(wish.portBindings, wish.exposedPorts, wish.publishAllPorts, defaults);
  }

  private settings(sandbox: SandboxRecord): NetworkSettings {
    return runningSettings(sandbox, this.options.stacks.netnsPath(sandbox.slot === '' ? 'default' : sandbox.slot));
  }

  private prepared(sandbox: SandboxRecord): Prepared {
    return {
      netnsPath: sandbox.kind === 'host' ? '' : this.options.stacks.netnsPath(sandbox.slot),
      files: this.options.files.paths(sandbox.containerId),
      settings: this.settings(sandbox),
    };
  }

  /** Frees what a run held. Idempotent. */
  async release(request: Pick<ReleaseSandboxRequest, 'containerId' | 'remove'>): Promise<NetworkSettings> {
    checkContainerId(request.containerId);
    return this.queue.run(request.containerId, async () => {
      // Another instance may have made it a moment ago, and died.
      await this.records.fresh();
      const sandbox = this.records.sandboxes.get(request.containerId);
      if (sandbox !== undefined) await this.teardown(sandbox);
      if (request.remove) this.options.files.remove(request.containerId);
      return stoppedSettings(
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
    const hasMany = sandbox.ports.length > portsATurn;
    if (hasMany) await this.kernel.closePortsByTurns(sandbox);
    // Not closed twice: by now they may be another's.
    const rest = hasMany ? { ...sandbox, ports: [] } : sandbox;
    await this.options.plugged.leave(sandbox.endpoints, () => this.kernel.dismantle(rest));
    await this.forget(sandbox);
  }

  /** Frees what a run held whose namespace is gone. Its plugins are told of it later: one that hangs keeps nobody waiting. */
  async releaseLost(containerId: string): Promise<void> {
    await this.queue.run(containerId, async () => {
      const sandbox = this.records.sandboxes.get(containerId);
      if (sandbox === undefined) return;
      this.kernel.dismantle(sandbox);
      await this.forget(sandbox);
      this.options.plugged.leaveLater(sandbox.endpoints);
    });
  }

  private async forget(sandbox: SandboxRecord): Promise<void> {
    // Before its addresses are free: a flow that is forgotten later could be their next owner's.
    await this.options.flows.forgetThoseOf(portForwards(sandbox));
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
        const { networks } = this.options;
        const endpoints = { ...otherEndpoints(networks, wish, network), [network.name]: settings };
        return { settings: stoppedSettings(joinings(networks, { ...wish, endpoints }), wish), networkName: network.name };
      }
      const now = await this.choosingAgain(() =>
        this.live.connect(sandbox, { network, wish: settings }, (draft, gateway) => this.allocatePorts(draft, wish, gateway)),
      );
      return { settings: this.settings(now), networkName: network.name };
    });
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
      const now = await this.live.disconnect(sandbox, network, endpoint);
      return { settings: this.settings(now), networkName: network.name };
    });
  }

  /** Other containers find it by its new name from now on. */
  async rename(containerId: string, newName: string): Promise<void> {
    checkContainerId(containerId);
    await this.queue.run(containerId, async () => {
      await this.records.fresh();
      const sandbox = this.records.sandboxes.get(containerId);
      if (sandbox === undefined) return;
      const now = { ...sandbox, containerName: newName };
      await this.records.commit({ puts: [this.records.sandboxes.put(containerId, now)] });
      for (const endpoint of sandbox.endpoints) {
        if (this.records.networks.get(endpoint.networkId)?.driver !== 'overlay') continue;
        for (const address of addressesOf(endpoint)) {
          await this.options.cluster?.rename(endpoint.networkId, address, claimOf(now, endpoint));
        }
      }
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
