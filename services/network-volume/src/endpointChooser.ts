/** Chooses the addresses of a new endpoint. Between replicas they are reserved by the records (`create`); within this one they count as taken at once. */
import { requestedAddress } from './addressAllocator.ts';
import { macAddress } from './endpoint.ts';
import { randomId } from './ids.ts';
import type { Joining } from './joining.ts';
import { type NetworkRecord, networkSubnets } from './network.ts';
import { isOnParent } from './parentLinks.ts';
import { addressId, addressIds, type Records } from './records.ts';
import type { EndpointRecord } from './sandbox.ts';
import { firstFree } from './sandboxPlan.ts';

/** Nothing leads out of it, so no address there is a gateway. */
function isWireOfItsOwn(network: NetworkRecord): boolean {
  return network.internal || (isOnParent(network.driver) && (network.options.parent ?? '') === '');
}

export class EndpointChooser {
  private readonly records: Records;
  /** Addresses chosen and not yet committed. */
  private readonly pending = new Set<string>();

  constructor(records: Records) {
    this.records = records;
  }

  /** Chooses the addresses of an endpoint. They count as taken until `settle`. */
  choose({ network, wish }: Joining, place: { interfaceName: string; hostLink: string }): EndpointRecord {
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
      chosen.push({ address, prefixLength: subnet.prefixLength, gateway: isWireOfItsOwn(network) ? undefined : subnet.gateway, family });
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

  /** These endpoints are in the records now, or given up. */
  settle(endpoints: readonly EndpointRecord[]): void {
    for (const id of addressIds(endpoints)) this.pending.delete(id);
  }
}
