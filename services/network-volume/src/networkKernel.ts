/** What a network is in the kernel: a bridge with its rules, or the parent interface that its containers' interfaces hang on. */

import { NotImplemented } from '@flotilla/errors';
import { bridgeOptions, skipsGateway } from './bridgeOptions.ts';
import type { Cidr } from './cidr.ts';
import type { FirewallNetwork } from './firewall.ts';
import type { BridgeWish } from './hostNetwork.ts';
import { hasBridge, type NetworkRecord } from './network.ts';
import { isOnParent, type ParentWish, parentWish } from './parentLinks.ts';

export interface Bridges {
  /** @throws System when an interface of this name is no bridge. */
  checkBridge(name: string): void;
  ensureBridge(wish: BridgeWish): void;
  /** Removes one that we made; others stay. */
  removeBridge(name: string): void;
  isForeign(name: string): boolean;
  exists(name: string): boolean;
  /** An interface's first address of a family that is not link-local, with its prefix. */
  addressOf(name: string, family: 4 | 6): string | undefined;
  occupiedBlocks(): Cidr[];
  enableForwarding(family: 4 | 6): void;
}

/** Interfaces that containers' own hang on. */
export interface Parents {
  /** Whether this host's kernel can make such an interface. */
  supports(kind: 'macvlan' | 'ipvlan'): boolean;
  /** Makes it where it is ours to make. @throws NotFound, InvalidParameter, NotImplemented when it cannot be had. */
  ensureParent(wish: ParentWish): void;
  /** Removes one that we made; others stay. */
  removeParent(name: string): void;
}

/** The packet filter's side of a network. */
export interface NetworkRules {
  addNetwork(network: FirewallNetwork): void;
  removeNetwork(network: FirewallNetwork): void;
}

/** The tunnels of overlay networks to other hosts. */
export interface Tunnels {
  realize(network: NetworkRecord, mtu: number): void;
  remove(bridge: string): void;
}

export interface NetworkKernelOptions {
  readonly bridges: Bridges;
  readonly parents: Parents;
  readonly rules: NetworkRules;
  /** Absent where NATS is shared with nobody. */
  readonly tunnels?: Tunnels | undefined;
}

/** An Ethernet's, without the tunnel's headers. */
export const defaultTunnelMtu = 1450;

export class NetworkKernel {
  private readonly options: NetworkKernelOptions;

  constructor(options: NetworkKernelOptions) {
    this.options = options;
  }

  /** @throws NotImplemented before anything is made, for a driver that this host's kernel lacks. */
  check(driver: string): void {
    if (!isOnParent(driver) || this.options.parents.supports(driver)) return;
    throw new NotImplemented(`this host's kernel has no ${driver}: networks of that driver cannot be made here`);
  }

  /** Brings a network into the kernel. Idempotent. */
  realize(network: NetworkRecord): void {
    if (network.configOnly === true) return;
    if (isOnParent(network.driver)) this.options.parents.ensureParent(parentWish(network.driver, network.id, network.options));
    if (hasBridge(network)) this.realizeBridge(network);
    if (network.driver === 'overlay') this.options.tunnels?.realize(network, bridgeOptions(network.options).mtu ?? defaultTunnelMtu);
  }

  private realizeBridge(network: NetworkRecord): void {
    const { bridges, rules } = this.options;
    const steering = bridgeOptions(network.options);
    const addresses = network.subnets.flatMap(({ subnet, gateway }) => {
      const length = subnet.split('/')[1];
      const family = subnet.includes(':') ? 6 : 4;
      const isBare = (family === 4 && steering.inhibitIPv4) || skipsGateway(steering, family, network.internal);
      return gateway === undefined || length === undefined || isBare ? [] : [`${gateway}/${length}`];
    });
    bridges.ensureBridge({ name: network.bridge, addresses, ...(steering.mtu === undefined ? {} : { mtu: steering.mtu }) });
    if (network.enableIPv4) bridges.enableForwarding(4);
    if (network.enableIPv6) bridges.enableForwarding(6);
    rules.addNetwork(firewallNetwork(network));
  }

  /** Takes it out again. @param others - networks that stay: a parent that one of them is on stays too. */
  remove(network: NetworkRecord, others: Iterable<NetworkRecord>): void {
    if (network.configOnly === true) return;
    if (network.driver === 'overlay') this.options.tunnels?.remove(network.bridge);
    if (hasBridge(network)) {
      this.options.rules.removeNetwork(firewallNetwork(network));
      this.options.bridges.removeBridge(network.bridge);
    }
    if (!isOnParent(network.driver)) return;
    const { parent } = parentWish(network.driver, network.id, network.options);
    const isUsed = [...others].some(
      (other) =>
        isOnParent(other.driver) && other.configOnly !== true && parentWish(other.driver, other.id, other.options).parent === parent,
    );
    if (!isUsed) this.options.parents.removeParent(parent);
  }
}

export function firewallNetwork(network: NetworkRecord): FirewallNetwork {
  const steering = bridgeOptions(network.options);
  return {
    bridge: network.bridge,
    subnets: network.subnets.map(({ subnet }) => subnet),
    masquerade: steering.masquerade,
    gatewayMode: steering.gatewayMode,
    hostAddress: steering.hostAddress,
    trusted: steering.trustedHostInterfaces,
    internal: network.internal,
    interContainer: steering.interContainer,
  };
}
