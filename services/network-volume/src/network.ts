/** A network: its record, its names, and how the Engine API shows it. */

import { type IPAMConfig, type NetworkContainer, type NetworkInspect, shortId } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import type { Subnet } from './addressAllocator.ts';
import { type Cidr, contains, parseAddress, parseCidr } from './cidr.ts';

/** Our own drivers; any other is a plugin's. */
export type Driver = 'bridge' | 'host' | 'null' | 'macvlan' | 'ipvlan' | 'overlay';

/** A subnet as it is kept: the client's words, and the gateway chosen where the client named none. */
export interface SubnetRecord {
  readonly subnet: string;
  readonly ipRange?: string;
  readonly gateway?: string;
  readonly auxiliary?: Readonly<Record<string, string>>;
  /** The client named the subnet: only then may it name addresses in it. */
  readonly configured: boolean;
  /** The plugin's name of it, where a plugin gives its addresses. */
  readonly poolId?: string;
}

export interface NetworkRecord {
  readonly id: string;
  readonly name: string;
  /** One of ours, or the name of a plugin. */
  readonly driver: Driver | (string & {});
  /** Its driver is a plugin. */
  readonly plugin?: { readonly scope: 'local' | 'global' };
  readonly created: string;
  readonly internal: boolean;
  readonly attachable: boolean;
  readonly ingress: boolean;
  readonly enableIPv4: boolean;
  readonly enableIPv6: boolean;
  readonly ipamDriver: string;
  readonly ipamOptions: Readonly<Record<string, string>> | null;
  readonly subnets: readonly SubnetRecord[];
  /** What the client wrote for a family that is off: it is shown, and addresses in it may be asked for, but nobody gets one. */
  readonly idleSubnets?: readonly SubnetRecord[];
  readonly options: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
  /** The bridge's interface; empty where there is none. */
  readonly bridge: string;
  /** Of an overlay: the number of its tunnel, the same on all hosts. */
  readonly vni?: number;
  /** It is there only to be named by others' `configFrom`. */
  readonly configOnly?: true;
  /** Name of the network whose configuration this one took. */
  readonly configFrom?: string;
}

export const predefinedNames: readonly string[] = ['bridge', 'host', 'none'];

/**
 * Any name that is not blank, as with dockerd: Compose 1 makes `_project_default`. A name is no part of a path or rule.
 *
 * @throws InvalidParameter in dockerd's words.
 */
export function checkNetworkName(name: string): void {
  if (name.trim() === '') throw new InvalidParameter('invalid name: name is empty');
}

export function bridgeName(id: string): string {
  return `br-${shortId(id)}`;
}

/** Whether its containers are given addresses: a plugin may make interfaces without any, and its subnet is then the whole of IPv4. */
export function hasAddresses({ plugin, ipamDriver }: NetworkRecord): boolean {
  return plugin === undefined || ipamDriver !== 'null';
}

/** The subnets that networks have for themselves: another must not overlap them. */
export function takenSubnets(networks: Iterable<NetworkRecord>): Cidr[] {
  const made = [...networks].filter((network) => network.configOnly !== true && hasAddresses(network));
  return made.flatMap(({ subnets }) => subnets.flatMap(({ subnet }) => parseCidr(subnet) ?? []));
}

/** Whether its containers are ports of a bridge on this host. */
export function hasBridge({ driver }: Pick<NetworkRecord, 'driver'>): boolean {
  return driver === 'bridge' || driver === 'overlay';
}

/** A subnet record ready for the allocator. */
export interface NetworkSubnet extends Subnet {
  readonly prefixLength: number;
  readonly gateway?: string;
}

export function networkSubnets(network: NetworkRecord): NetworkSubnet[] {
  if (!hasAddresses(network)) return [];
  return network.subnets.flatMap((record) => {
    const cidr = parseCidr(record.subnet);
    if (cidr === undefined) return [];
    const range = record.ipRange === undefined ? undefined : parseCidr(record.ipRange);
    // dockerd's way to send a bridge's containers by another router than the bridge itself.
    const other = network.driver === 'bridge' ? record.auxiliary?.[`DefaultGatewayIPv${cidr.family}`] : undefined;
    const gateway = other ?? record.gateway;
    const reserved = [record.gateway, ...Object.values(record.auxiliary ?? {})].flatMap((text) => {
      const address = text === undefined ? undefined : parseAddress(text);
      return address === undefined || !contains(cidr, address.family, address.value) ? [] : [address.value];
    });
    return [
      {
        cidr,
        ...(range === undefined ? {} : { range }),
        reserved,
        prefixLength: cidr.prefixLength,
        ...(gateway === undefined ? {} : { gateway }),
      },
    ];
  });
}

/** `global`: on every host that shares NATS with this one. */
export function networkScope({ driver, plugin }: NetworkRecord): 'local' | 'global' {
  return driver === 'overlay' ? 'global' : (plugin?.scope ?? 'local');
}

export function networkDocument(network: NetworkRecord, containers: Record<string, NetworkContainer> = {}): NetworkInspect {
  return {
    Name: network.name,
    Id: network.id,
    Created: network.created,
    Scope: networkScope(network),
    Driver: network.driver,
    EnableIPv4: network.enableIPv4,
    EnableIPv6: network.enableIPv6,
    IPAM: {
      Driver: network.ipamDriver,
      Options: network.ipamOptions === null ? null : { ...network.ipamOptions },
      Config: predefinedNames.includes(network.name) && network.driver !== 'bridge' ? null : writtenAndChosen(network).map(ipamConfig),
    },
    Internal: network.internal,
    Attachable: network.attachable,
    Ingress: network.ingress,
    ConfigFrom: { Network: network.configFrom ?? '' },
    ConfigOnly: network.configOnly ?? false,
    Containers: containers,
    Options: { ...network.options },
    Labels: { ...network.labels },
  };
}

/** All subnets that the API knows of, also those of a family that is off. */
export function writtenAndChosen({ subnets, idleSubnets = [] }: NetworkRecord): readonly SubnetRecord[] {
  return idleSubnets.length === 0 ? subnets : [...subnets, ...idleSubnets];
}

function ipamConfig(subnet: SubnetRecord): IPAMConfig {
  return {
    Subnet: subnet.subnet,
    ...(subnet.ipRange === undefined ? {} : { IPRange: subnet.ipRange }),
    ...(subnet.gateway === undefined ? {} : { Gateway: subnet.gateway }),
    ...(subnet.auxiliary === undefined || Object.keys(subnet.auxiliary).length === 0
      ? {}
      : { AuxiliaryAddresses: { ...subnet.auxiliary } }),
  };
}
