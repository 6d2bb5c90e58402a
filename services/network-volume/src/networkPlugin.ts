/** What a network's plugins are asked, in dockerd's protocol: one that makes interfaces, and one that gives addresses. adapters/networkPlugins.ts calls them. */

/** A subnet as a driver is told of it. */
export interface PoolData {
  readonly AddressSpace: string;
  readonly Pool: string;
  /** With its prefix length; absent where there is none. */
  readonly Gateway?: string;
  readonly AuxAddresses?: Readonly<Record<string, string>>;
}

/** Addresses carry their prefix length; an empty text: none. */
export interface PluginInterface {
  readonly Address: string;
  readonly AddressIPv6: string;
  readonly MacAddress: string;
}

/** What a driver says when a sandbox joins. */
export interface PluginJoint {
  /** The interface in the host's namespace that is moved into the sandbox. Empty: there is none. */
  readonly source: string;
  /** Its name inside: this and a number. */
  readonly prefix: string;
  readonly ipv4Gateway?: string;
  readonly ipv6Gateway?: string;
  readonly routes: readonly PluginRoute[];
}

export interface PluginRoute {
  /** A block. */
  readonly destination: string;
  /** Absent: what is there is on the interface's own wire. */
  readonly gateway?: string;
}

export type PluginOptions = Readonly<Record<string, unknown>>;

export interface NetworkDriverPlugin {
  readonly scope: 'local' | 'global';
  createNetwork(id: string, options: PluginOptions, ipv4: readonly PoolData[], ipv6: readonly PoolData[]): Promise<void>;
  deleteNetwork(id: string): Promise<void>;
  /** @returns what the driver chose itself; empty texts for what it left as it was given. */
  createEndpoint(networkId: string, endpointId: string, given: PluginInterface, options: PluginOptions): Promise<PluginInterface>;
  deleteEndpoint(networkId: string, endpointId: string): Promise<void>;
  join(networkId: string, endpointId: string, netnsPath: string, options: PluginOptions): Promise<PluginJoint>;
  leave(networkId: string, endpointId: string): Promise<void>;
  /** Publishes its ports, which is the driver's own business; one that has no such method publishes none. */
  publish(networkId: string, endpointId: string, options: PluginOptions): Promise<void>;
  unpublish(networkId: string, endpointId: string): Promise<void>;
}

export interface Pool {
  readonly id: string;
  readonly subnet: string;
  /** With its prefix length; absent where the plugin named none. */
  readonly gateway?: string;
}

export interface IpamPlugin {
  /** Whether it wants to know the MAC address when it is asked for an address. */
  readonly requiresMac: boolean;
  readonly addressSpace: string;
  requestPool(wish: { subnet: string; range: string; options: Readonly<Record<string, string>>; isV6: boolean }): Promise<Pool>;
  releasePool(poolId: string): Promise<void>;
  /** @param address - empty: any. @returns it with its prefix length. */
  requestAddress(poolId: string, address: string, options: Readonly<Record<string, string>>): Promise<string>;
  releaseAddress(poolId: string, address: string): Promise<void>;
}

export interface Plugins {
  /** @throws NotFound in dockerd's words. */
  driver(name: string): Promise<NetworkDriverPlugin>;
  ipam(name: string): Promise<IpamPlugin>;
}
