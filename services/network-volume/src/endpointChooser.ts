/** Chooses the addresses of a new endpoint. Between replicas they are reserved by the records (`create`); within this one they count as taken at once. */
import { randomId } from '@flotilla/engine-api';
import { Forbidden, isConflict, Unavailable } from '@flotilla/errors';
import { requestedAddress } from './addressAllocator.ts';
import { dnsNames, macAddress } from './endpoint.ts';
import type { Joining } from './joining.ts';
import { type NetworkRecord, networkSubnets } from './network.ts';
import { isOnParent } from './parentLinks.ts';
import type { GivenAddress, PluginEndpoints, PortNeeds } from './pluginEndpoints.ts';
import { addressId, addressIds, type Records } from './records.ts';
import { addressesOf, type EndpointRecord } from './sandbox.ts';
import { firstFree } from './sandboxPlan.ts';

/** The addresses of networks that hosts share. */
export interface ClusterAddresses {
  isTaken(networkId: string, address: string): boolean;
  /** @throws Conflict when another has it, Unavailable when nobody can say. */
  claim(networkId: string, address: string, whose: EndpointClaim): Promise<void>;
  rename(networkId: string, address: string, whose: EndpointClaim): Promise<void>;
  release(networkId: string, address: string): void;
}

export interface EndpointClaim {
  readonly containerId: string;
  readonly containerName: string;
  readonly mac: string;
  readonly names: string[];
}

interface NamedContainer {
  readonly containerId: string;
  readonly containerName: string;
  readonly hostname: string;
}

interface Place {
  readonly interfaceName: string;
  readonly hostLink: string;
}

/** Where an endpoint goes. */
export interface Destination extends Place {
  readonly netnsPath: string;
  /** Whether an interface inside has that name. */
  readonly isTaken: (name: string) => boolean;
  readonly ports: PortNeeds;
}

/** Nothing leads out of it, so no address there is a gateway; a plugin says itself what leads out. */
function isWireOfItsOwn(network: NetworkRecord): boolean {
  return network.internal || network.plugin !== undefined || (isOnParent(network.driver) && (network.options.parent ?? '') === '');
}

export class EndpointChooser {
  private readonly records: Records;
  private readonly cluster: ClusterAddresses | undefined;
  /** Addresses chosen and not yet committed. */
  private readonly pending = new Set<string>();

  private readonly plugged: PluginEndpoints;

  constructor(options: { records: Records; cluster?: ClusterAddresses | undefined; plugged: PluginEndpoints }) {
    this.records = options.records;
    this.cluster = options.cluster;
    this.plugged = options.plugged;
  }

  /** Chooses the addresses of an endpoint. They count as taken until `settle`. A plugin has made its interface by then. */
  async choose(joining: Joining, destination: Destination, container: NamedContainer): Promise<EndpointRecord> {
    const place = { interfaceName: destination.interfaceName, hostLink: destination.hostLink };
    const given = await this.plugged.addresses(joining);
    if (given !== undefined || joining.network.plugin !== undefined) return this.chooseWithPlugin(joining, destination, given);
    if (joining.network.driver !== 'overlay') return this.chooseHere(joining, place, new Set());
    const refused = new Set<string>();
    for (;;) {
      const endpoint = this.chooseHere(joining, place, refused);
      let lost: string | undefined;
      try {
        lost = await this.claim(endpoint, container);
      } catch (error) {
        this.settle([endpoint]);
        throw error;
      }
      if (lost === undefined) return endpoint;
      this.settle([endpoint]);
      const { IPAMConfig } = joining.wish;
      if (lost === endpoint.ipv4 ? IPAMConfig?.IPv4Address : IPAMConfig?.IPv6Address) throw new Forbidden('Address already in use');
      refused.add(lost);
    }
  }

  private async chooseWithPlugin(
    joining: Joining,
    destination: Destination,
    answer: { given: GivenAddress[]; mac: string } | undefined,
  ): Promise<EndpointRecord> {
    const { network } = joining;
    const { interfaceName, hostLink } = destination;
    const endpoint =
      answer === undefined
        ? this.chooseHere(joining, { interfaceName, hostLink }, new Set())
        : this.withAddresses(joining, { interfaceName, hostLink }, answer.given);
    // A driver of ours makes a MAC address itself; a plugin may.
    const mac = network.plugin === undefined ? endpoint.mac : (answer?.mac ?? joining.wish.MacAddress ?? '');
    try {
      return await this.plugged.join({ ...endpoint, mac }, destination);
    } catch (error) {
      this.settle([endpoint]);
      await this.plugged.releaseAddresses(network, [endpoint.ipv4, endpoint.ipv6]);
      throw error;
    }
  }

  /** Hosts that share the network agree that the addresses are this one's. @returns one that another has; then none is taken. */
  private async claim(endpoint: EndpointRecord, container: NamedContainer): Promise<string | undefined> {
    const { networkId, networkName } = endpoint;
    if (this.cluster === undefined) throw new Unavailable(`overlay network ${networkName}: NATS is shared with no other host now`);
    const claimed: string[] = [];
    for (const address of addressesOf(endpoint)) {
      try {
        await this.cluster.claim(networkId, address, claimOf(container, endpoint));
        claimed.push(address);
      } catch (error) {
        for (const one of claimed) this.cluster.release(networkId, one);
        if (isConflict(error)) return address;
        throw error;
      }
    }
    return undefined;
  }

  private chooseHere({ network, wish }: Joining, place: Place, refused: ReadonlySet<string>): EndpointRecord {
    const subnets = networkSubnets(network);
    const isTaken = (address: string): boolean => {
      const id = addressId(network.id, address);
      const isElsewhere = refused.has(address) || this.cluster?.isTaken(network.id, address) === true;
      return this.pending.has(id) || this.records.addresses.has(id) || isElsewhere;
    };
    const chosen: GivenAddress[] = [];
    for (const family of [4, 6] as const) {
      const ofFamily = subnets.filter(({ cidr }) => cidr.family === family);
      if (ofFamily.length === 0) continue;
      const asked = family === 4 ? wish.IPAMConfig?.IPv4Address : wish.IPAMConfig?.IPv6Address;
      const { address, subnet } = asked ? requestedAddress(ofFamily, family, asked, isTaken) : firstFree(network, ofFamily, isTaken);
      chosen.push({ address, prefixLength: subnet.prefixLength, gateway: subnet.gateway, family });
    }
    return this.withAddresses({ network, wish }, place, chosen);
  }

  private withAddresses({ network, wish }: Joining, place: Place, chosen: readonly GivenAddress[]): EndpointRecord {
    const leadsOut = !isWireOfItsOwn(network);
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
      ...(v4?.gateway === undefined || !leadsOut ? {} : { ipv4Gateway: v4.gateway }),
      ...(v6 === undefined ? {} : { ipv6: v6.address, ipv6PrefixLength: v6.prefixLength }),
      ...(v6?.gateway === undefined || !leadsOut ? {} : { ipv6Gateway: v6.gateway }),
    };
  }

  /** These endpoints are in the records now, or given up. */
  settle(endpoints: readonly EndpointRecord[]): void {
    for (const id of addressIds(endpoints)) this.pending.delete(id);
  }

  /** They will not be: their addresses are free again, on all hosts. */
  async giveUp(endpoints: readonly EndpointRecord[]): Promise<void> {
    await this.plugged.leave(endpoints, () => this.settle(endpoints));
    for (const endpoint of endpoints) {
      if (this.records.networks.get(endpoint.networkId)?.driver !== 'overlay') continue;
      for (const address of addressesOf(endpoint)) this.cluster?.release(endpoint.networkId, address);
    }
  }
}

/** What other hosts are told of an endpoint on a network they share. */
export function claimOf(container: NamedContainer, endpoint: EndpointRecord): EndpointClaim {
  const { containerId, containerName } = container;
  return { containerId, containerName, mac: endpoint.mac, names: dnsNames(container, endpoint.wish) };
}
