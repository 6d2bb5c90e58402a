/** What follows from a sandbox's record and its networks: the interface, the routes, the rules. Pure. */

import { type EndpointSettings, randomId } from '@flotilla/engine-api';
import { System } from '@flotilla/errors';
import { lowestFree } from './addressAllocator.ts';
import { bridgeOptions } from './bridgeOptions.ts';
import { endpointSysctls, interfaceNameOption } from './endpoint.ts';
import type { PortForward } from './firewall.ts';
import type { Gateways, InterfaceWish, Joint } from './hostNetwork.ts';
import type { Joining } from './joining.ts';
import { type NetworkRecord, type networkSubnets, predefinedNames } from './network.ts';
import { isOnParent, linkNamePattern, parentWish } from './parentLinks.ts';
import type { PortTarget } from './ports.ts';
import type { EndpointRecord, SandboxRecord, SandboxWish } from './sandbox.ts';

/** Whether loopback, by which a container is known to have IPv6, loses it. */
export function disablesIPv6(sysctls: Readonly<Record<string, string>>): boolean {
  return ['all', 'lo'].some((name) => !['', '0'].includes((sysctls[`net.ipv6.conf.${name}.disable_ipv6`] ?? '').trim()));
}

/** An endpoint on host or none: there only to be shown. */
export function plainEndpoint(network: NetworkRecord, wish: EndpointSettings): EndpointRecord {
  return { id: randomId(), networkId: network.id, networkName: network.name, wish, interfaceName: '', hostLink: '', mac: '' };
}

export function exposedPorts(wish: SandboxWish): string[] {
  return [...new Set([...wish.exposedPorts, ...Object.keys(wish.portBindings)])];
}

/** The lowest free address of the first subnet that has one. @throws System in dockerd's words when all are taken. */
export function firstFree(
  network: Pick<NetworkRecord, 'name' | 'id'>,
  subnets: ReturnType<typeof networkSubnets>,
  isTaken: (address: string) => boolean,
): { address: string; subnet: ReturnType<typeof networkSubnets>[number] } {
  for (const subnet of subnets) {
    const address = lowestFree(subnet, isTaken);
    if (address !== undefined) return { address, subnet };
  }
  const family = subnets[0]?.cidr.family ?? 4;
  throw new System(`no available IPv${family} addresses on this network's address pools: ${network.name} (${network.id})`);
}

/** The embedded server serves containers on networks that users made. */
export function usesNameServer(networks: readonly NetworkRecord[]): boolean {
  return networks.some(({ name }) => !predefinedNames.includes(name));
}

/** The name the client wants for an endpoint's interface, or the first free one of its network's prefix. @throws System for one that cannot be. */
export function interfaceNameFor({ network, wish }: Joining, others: readonly EndpointRecord[]): string {
  const isTaken = (name: string): boolean => name === 'lo' || others.some(({ interfaceName }) => interfaceName === name);
  const wanted = wish.DriverOpts?.[interfaceNameOption];
  if (wanted !== undefined && wanted !== '') {
    const problem = isTaken(wanted) ? 'file exists' : linkNamePattern.test(wanted) ? undefined : 'invalid argument';
    if (problem === undefined) return wanted;
    throw new System(`error renaming interface "eth0" to "${wanted}": ${problem}`);
  }
  const { interfacePrefix } = bridgeOptions(network.options);
  for (let index = 0; ; index += 1) if (!isTaken(`${interfacePrefix}${index}`)) return `${interfacePrefix}${index}`;
}

/** The endpoint that default routes and published ports use: highest priority, then by network name. */
export function gatewayEndpoint(endpoints: readonly EndpointRecord[]): EndpointRecord | undefined {
  const able = endpoints.filter(({ ipv4Gateway, ipv6Gateway }) => ipv4Gateway !== undefined || ipv6Gateway !== undefined);
  return able.sort((a, b) => (b.wish.GwPriority ?? 0) - (a.wish.GwPriority ?? 0) || (a.networkName < b.networkName ? -1 : 1))[0];
}

/** What the kernel is asked for an endpoint. */
export function interfaceWish(netnsPath: string, network: NetworkRecord, sandbox: SandboxRecord, endpoint: EndpointRecord): InterfaceWish {
  const { mtu } = bridgeOptions(network.options);
  const isGateway = gatewayEndpoint(sandbox.endpoints)?.id === endpoint.id;
  return {
    netnsPath,
    name: endpoint.interfaceName,
    joint: jointOf(network, sandbox, endpoint),
    mac: endpoint.mac,
    ...(mtu === undefined ? {} : { mtu }),
    sysctls: endpointSysctls(endpoint.wish, endpoint.interfaceName),
    addresses: [
      ...(endpoint.ipv4 === undefined ? [] : [`${endpoint.ipv4}/${endpoint.ipv4PrefixLength}`]),
      ...(endpoint.ipv6 === undefined ? [] : [`${endpoint.ipv6}/${endpoint.ipv6PrefixLength}`]),
      // `--link-local-ip`: of no pool, with the prefix of its class as dockerd gives it.
      ...(endpoint.wish.IPAMConfig?.LinkLocalIPs ?? []).map((address) => `${address}/${address.includes(':') ? 64 : 16}`),
    ],
    routes: endpoint.plugin?.routes ?? [],
    ...(isGateway ? { gateways: gatewaysOf(netnsPath, endpoint) } : {}),
  };
}

function jointOf(network: NetworkRecord, sandbox: SandboxRecord, endpoint: EndpointRecord): Joint {
  if (endpoint.plugin !== undefined) return { kind: 'given', source: endpoint.plugin.source };
  if (isOnParent(network.driver)) {
    const { parent, child } = parentWish(network.driver, network.id, network.options);
    return { kind: 'child', parent, child };
  }
  return {
    kind: 'port',
    hostLink: endpoint.hostLink,
    bridge: network.bridge,
    interContainer: bridgeOptions(network.options).interContainer,
    hairpin: sandbox.ports.length > 0,
  };
}

export function gatewaysOf(netnsPath: string, gateway: EndpointRecord): Gateways {
  return {
    netnsPath,
    name: gateway.interfaceName,
    ...(gateway.ipv4Gateway === undefined ? {} : { ipv4: gateway.ipv4Gateway }),
    ...(gateway.ipv6Gateway === undefined ? {} : { ipv6: gateway.ipv6Gateway }),
  };
}

/** Where a sandbox's published ports lead. */
export function portTarget({ endpoints }: Pick<SandboxRecord, 'endpoints'>): PortTarget {
  const gateway = gatewayEndpoint(endpoints);
  return {
    ...(gateway?.ipv4 === undefined ? {} : { ipv4: gateway.ipv4 }),
    ...(gateway?.ipv6 === undefined ? {} : { ipv6: gateway.ipv6 }),
  };
}

/** What the packet filter does for a sandbox's ports. IPv6 to a container without it is the holder's relay. */
export function portForwards(sandbox: SandboxRecord): PortForward[] {
  const gateway = gatewayEndpoint(sandbox.endpoints);
  return sandbox.ports.flatMap(({ protocol, hostIp, hostPort, containerPort, opened = false }) => {
    const family = hostIp.includes(':') ? 6 : 4;
    const containerAddress = family === 4 ? gateway?.ipv4 : gateway?.ipv6;
    if (containerAddress === undefined) return [];
    const isAny = hostIp === '0.0.0.0' || hostIp === '::';
    const host = hostPort === 0 ? {} : { hostPort, ...(isAny ? {} : { hostAddress: hostIp }) };
    return [{ family, protocol, ...host, containerAddress, containerPort, opened } as const];
  });
}
