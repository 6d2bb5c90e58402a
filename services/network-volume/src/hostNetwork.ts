/** What the domain asks of the host's network: bridges, ready namespaces, interfaces in them. adapters/kernelNetwork.ts does it. */
import type { PluginRoute } from './networkPlugin.ts';
import type { ChildKind } from './parentLinks.ts';

export interface BridgeWish {
  readonly name: string;
  /** `address/prefix`, both families. */
  readonly addresses: readonly string[];
  readonly mtu?: number;
}

/** A namespace with one interface, eth0, whose other end is on the host and joined to nothing yet. */
export interface Slot {
  readonly name: string;
  readonly netnsPath: string;
  readonly hostLink: string;
  readonly hostIndex: number;
  readonly innerIndex: number;
}

/** How an interface inside is joined to the world. */
export type Joint =
  | {
      /** Its other end is a port of a bridge. */
      readonly kind: 'port';
      readonly hostLink: string;
      readonly bridge: string;
      /** Whether other containers on the bridge may reach it. */
      readonly interContainer: boolean;
      /** Whether it may reach itself by a published port where br_netfilter translates on the bridge. */
      readonly hairpin: boolean;
    }
  | { readonly kind: 'child'; readonly parent: string; readonly child: ChildKind }
  /** A plugin made it, under this name; it is moved inside. */
  | { readonly kind: 'given'; readonly source: string };

export interface InterfaceWish {
  readonly netnsPath: string;
  /** The name inside: eth0, eth1 … */
  readonly name: string;
  readonly joint: Joint;
  /** Empty: the one it has. */
  readonly mac: string;
  readonly mtu?: number;
  readonly addresses: readonly string[];
  /** Settings of the interface itself, by their path below /proc/sys. */
  readonly sysctls: Readonly<Record<string, string>>;
  readonly routes: readonly PluginRoute[];
  /** Where packets for elsewhere go, when they leave by this interface. */
  readonly gateways?: { readonly ipv4?: string; readonly ipv6?: string };
}

export interface Gateways {
  readonly netnsPath: string;
  /** The interface default routes leave by; none when undefined. */
  readonly name: string | undefined;
  readonly ipv4?: string;
  readonly ipv6?: string;
}
