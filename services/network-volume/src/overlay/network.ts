/** An overlay network: how it is chosen, given those that hosts have agreed on, and what a host keeps of it. Pure. */
import { randomId } from '@flotilla/engine-api';
import { Conflict } from '@flotilla/errors';
import type { AddressPool } from '../addressPools.ts';
import { type Cidr, overlaps, parseCidr } from '../cidr.ts';
import { timestamp } from '../clock.ts';
import { chooseSubnets } from '../ipam.ts';
import type { NetworkRecord } from '../network.ts';
import { defaultTunnelMtu } from '../networkKernel.ts';
import type { NetworkWish } from '../networkRequest.ts';
import { freeVni, overlayPool, type SharedNetwork } from './shared.ts';
import { overlayBridge } from './tunnel.ts';

const mtuOption = 'com.docker.network.driver.mtu';

/** @throws Conflict, Forbidden in dockerd's words for a name or a subnet that another has. */
export function chooseOverlay(
  { name, request, enableIPv4, enableIPv6 }: NetworkWish,
  networks: readonly SharedNetwork[],
  host: { ours: readonly Cidr[]; routes: readonly Cidr[]; pools: readonly AddressPool[] },
): SharedNetwork {
  if (networks.some((network) => network.name === name)) throw new Conflict(`network with name ${name} already exists`);
  const agreed = networks.flatMap(({ subnets }) => subnets.flatMap(({ subnet }) => parseCidr(subnet) ?? []));
  return {
    id: randomId(),
    name,
    created: timestamp(),
    vni: freeVni(networks),
    subnets: chooseSubnets({
      ipam: request.IPAM,
      enableIPv4,
      enableIPv6,
      gateways: () => 'chosen',
      // Of IPv6 each host has unique local ones of its own.
      pools: [overlayPool, ...host.pools.filter(({ base }) => base.family === 6)],
      ours: [...agreed, ...host.ours],
      routes: host.routes,
    }).map((subnet) => ({ ...subnet, auxiliary: { ...subnet.auxiliary } })),
    internal: request.Internal ?? false,
    attachable: request.Attachable ?? false,
    options: { [mtuOption]: String(defaultTunnelMtu), ...request.Options },
    labels: request.Labels ?? {},
  };
}

/**
 * Those of one's own networks that are not among the agreed ones.
 *
 * @returns `clashing`: those of which the name, the VNI or a subnet is another network's by now.
 */
export function notAgreed(
  own: readonly SharedNetwork[],
  agreed: readonly SharedNetwork[],
): { readonly missing: readonly SharedNetwork[]; readonly clashing: readonly SharedNetwork[] } {
  const missing: SharedNetwork[] = [];
  const clashing: SharedNetwork[] = [];
  for (const network of own) {
    if (agreed.some(({ id }) => id === network.id)) continue;
    const clashes = agreed.some((other) => other.name === network.name || other.vni === network.vni || sharesSubnet(other, network));
    (clashes ? clashing : missing).push(network);
  }
  return { missing, clashing };
}

function sharesSubnet(one: SharedNetwork, other: SharedNetwork): boolean {
  const [ours, theirs] = [one, other].map(({ subnets }) => subnets.flatMap(({ subnet }) => parseCidr(subnet) ?? [])) as [Cidr[], Cidr[]];
  return ours.some((cidr) => theirs.some((their) => overlaps(cidr, their)));
}

export function overlayRecord(shared: SharedNetwork): NetworkRecord {
  return {
    id: shared.id,
    name: shared.name,
    driver: 'overlay',
    created: shared.created,
    internal: shared.internal,
    attachable: shared.attachable,
    ingress: false,
    enableIPv4: shared.subnets.some(({ subnet }) => !subnet.includes(':')),
    enableIPv6: shared.subnets.some(({ subnet }) => subnet.includes(':')),
    ipamDriver: 'default',
    ipamOptions: null,
    subnets: shared.subnets.map(({ subnet, ipRange, gateway, auxiliary, configured }) => ({
      subnet,
      configured,
      ...(ipRange === undefined ? {} : { ipRange }),
      ...(gateway === undefined ? {} : { gateway }),
      ...(auxiliary === undefined || Object.keys(auxiliary).length === 0 ? {} : { auxiliary }),
    })),
    options: shared.options,
    labels: shared.labels,
    bridge: overlayBridge(shared.id),
    vni: shared.vni,
  };
}

/** What hosts have agreed on of a network that this one has a record of; nothing for one that is no overlay. */
export function sharedNetworkOf(network: NetworkRecord): SharedNetwork[] {
  const { id, name, created, vni, subnets, internal, attachable, options, labels } = network;
  return network.driver === 'overlay' && vni !== undefined
    ? [{ id, name, created, vni, subnets: subnets.map((subnet) => ({ ...subnet })), internal, attachable, options, labels }]
    : [];
}
