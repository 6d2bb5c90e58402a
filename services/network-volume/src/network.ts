/** A network: its record, its names, the options that steer a bridge, and how the Engine API shows it. */

import type { IPAMConfig, NetworkContainer, NetworkInspect } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import type { Subnet } from './addressAllocator.ts';
import { contains, parseAddress, parseCidr } from './cidr.ts';
import { shortId } from './ids.ts';

export type Driver = 'bridge' | 'host' | 'null' | 'macvlan' | 'ipvlan' | 'overlay';

/** A subnet as it is kept: the client's words, and the gateway chosen where the client named none. */
export interface SubnetRecord {
  readonly subnet: string;
  readonly ipRange?: string;
  readonly gateway?: string;
  readonly auxiliary?: Readonly<Record<string, string>>;
  /** The client named the subnet: only then may it name addresses in it. */
  readonly configured: boolean;
}

export interface NetworkRecord {
  readonly id: string;
  readonly name: string;
  readonly driver: Driver;
  readonly created: string;
  readonly internal: boolean;
  readonly attachable: boolean;
  readonly ingress: boolean;
  readonly enableIPv4: boolean;
  readonly enableIPv6: boolean;
  readonly ipamDriver: string;
  readonly ipamOptions: Readonly<Record<string, string>> | null;
  readonly subnets: readonly SubnetRecord[];
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

/** dockerd's rule for names, which also keeps them out of paths and rules. */
const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

/** @throws InvalidParameter in dockerd's words. */
export function checkNetworkName(name: string): void {
  if (name.trim() === '') throw new InvalidParameter('invalid name: name is empty');
  if (!namePattern.test(name)) {
    throw new InvalidParameter(`invalid name: "${name}" includes invalid characters, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed`);
  }
}

/** What the `com.docker.network.…` options say of a bridge. */
export interface BridgeOptions {
  readonly name?: string;
  readonly interContainer: boolean;
  readonly masquerade: boolean;
  /** Where ports of its containers are published when no address is given. */
  readonly hostBinding?: string;
  readonly mtu?: number;
}

const optionNames = {
  name: 'com.docker.network.bridge.name',
  interContainer: 'com.docker.network.bridge.enable_icc',
  masquerade: 'com.docker.network.bridge.enable_ip_masquerade',
  hostBinding: 'com.docker.network.bridge.host_binding_ipv4',
  mtu: 'com.docker.network.driver.mtu',
} as const;

/** @throws InvalidParameter in dockerd's words for a value that cannot be. */
export function bridgeOptions(options: Readonly<Record<string, string>>): BridgeOptions {
  const hostBinding = options[optionNames.hostBinding];
  if (hostBinding !== undefined && parseAddress(hostBinding)?.family !== 4) {
    throw new InvalidParameter(`failed to parse ${optionNames.hostBinding} value: "${hostBinding}" (Invalid IP)`);
  }
  const name = options[optionNames.name];
  if (name !== undefined && !/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}$/.test(name)) {
    throw new InvalidParameter(`invalid interface name: "${name}"`);
  }
  return {
    ...(name === undefined ? {} : { name }),
    interContainer: booleanOption(options, optionNames.interContainer),
    masquerade: booleanOption(options, optionNames.masquerade),
    ...(hostBinding === undefined ? {} : { hostBinding }),
    ...mtuOption(options),
  };
}

function booleanOption(options: Readonly<Record<string, string>>, name: string): boolean {
  const value = options[name];
  if (value === undefined) return true;
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(value)) return true;
  if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(value)) return false;
  throw new InvalidParameter(`failed to parse ${name} value: "${value}" (strconv.ParseBool: parsing "${value}": invalid syntax)`);
}

function mtuOption(options: Readonly<Record<string, string>>): { mtu?: number } {
  const value = options[optionNames.mtu];
  if (value === undefined) return {};
  const mtu = Number(value);
  if (!/^\d+$/.test(value) || mtu < 68 || mtu > 65_535) {
    throw new InvalidParameter(`failed to parse ${optionNames.mtu} value: "${value}" (strconv.Atoi: parsing "${value}": invalid syntax)`);
  }
  return { mtu };
}

export function bridgeName(id: string): string {
  return `br-${shortId(id)}`;
}

/** A subnet record ready for the allocator. */
export interface NetworkSubnet extends Subnet {
  readonly prefixLength: number;
  readonly gateway?: string;
}

export function networkSubnets(network: NetworkRecord): NetworkSubnet[] {
  return network.subnets.flatMap((record) => {
    const cidr = parseCidr(record.subnet);
    if (cidr === undefined) return [];
    const range = record.ipRange === undefined ? undefined : parseCidr(record.ipRange);
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
        ...(record.gateway === undefined ? {} : { gateway: record.gateway }),
      },
    ];
  });
}

/** `global`: on every host that shares NATS with this one. */
export function networkScope({ driver }: NetworkRecord): 'local' | 'global' {
  return driver === 'overlay' ? 'global' : 'local';
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
      Config: predefinedNames.includes(network.name) && network.driver !== 'bridge' ? null : network.subnets.map(ipamConfig),
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
