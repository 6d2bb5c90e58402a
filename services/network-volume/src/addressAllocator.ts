/** Choosing addresses in a network's subnets. Which ones are taken is in the records: this only looks and picks. */
import { Forbidden, InvalidParameter } from '@flotilla/errors';
import { addressText, type Cidr, cidrText, contains, type Family, lastAddress, parseAddress } from './cidr.ts';

/** A subnet of a network as the allocator needs it. */
export interface Subnet {
  readonly cidr: Cidr;
  /** Addresses given out without being asked for come from here; default: all of `cidr`. */
  readonly range?: Cidr;
  /** Never given out: gateway and auxiliary addresses. */
  readonly reserved: readonly bigint[];
}

/** Network and, for IPv4, broadcast address are nobody's. */
function isUsable(subnet: Subnet, address: bigint): boolean {
  const { cidr } = subnet;
  const hostBits = (cidr.family === 4 ? 32 : 128) - cidr.prefixLength;
  if (hostBits >= 2 && address === cidr.base) return false;
  if (cidr.family === 4 && hostBits >= 2 && address === lastAddress(cidr)) return false;
  return !subnet.reserved.includes(address);
}

/**
 * The lowest free address, as dockerd gives them.
 *
 * @param from - where to begin to look: addresses below are known to be taken.
 * @returns undefined when all are taken.
 */
export function lowestFree(subnet: Subnet, isTaken: (address: string) => boolean): string | undefined {
  const within = subnet.range ?? subnet.cidr;
  const last = lastAddress(within);
  for (let address = within.base; address <= last; address += 1n) {
    if (!isUsable(subnet, address)) continue;
    const text = addressText(subnet.cidr.family, address);
    if (!isTaken(text)) return text;
  }
  return undefined;
}

/** The first usable address of a subnet: the gateway where none is given. */
export function defaultGateway(cidr: Cidr, range: Cidr | undefined, reserved: readonly bigint[]): bigint {
  for (const within of [cidr, range]) {
    if (within === undefined) continue;
    for (let address = within.base; address <= lastAddress(within); address += 1n) {
      if (isUsable({ cidr, reserved }, address)) return address;
    }
  }
  throw new InvalidParameter(`subnet ${cidrText(cidr)} has no room for a gateway`);
}

/**
 * Checks an address that was asked for (`--ip`).
 *
 * @returns its canonical text and the subnet it is in.
 * @throws InvalidParameter, Forbidden in dockerd's words.
 */
export function requestedAddress<S extends Subnet>(
  subnets: readonly S[],
  family: Family,
  text: string,
  isTaken: (address: string) => boolean,
): { address: string; subnet: S } {
  const address = parseAddress(text);
  if (address === undefined || address.family !== family) throw new InvalidParameter(`invalid IPv${family} address: ${text}`);
  const subnet = subnets.find(({ cidr }) => contains(cidr, family, address.value));
  if (subnet === undefined) {
    throw new InvalidParameter(`no configured subnet or ip-range contain the IP address ${text}`);
  }
  const canonical = addressText(family, address.value);
  if (!isUsable(subnet, address.value) || isTaken(canonical)) throw new Forbidden('Address already in use');
  return { address: canonical, subnet };
}
