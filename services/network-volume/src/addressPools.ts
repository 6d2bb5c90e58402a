/** Where subnets come from when a client names none: dockerd's default pools, or the operator's, without what the host has routes to. */
import { createHash } from 'node:crypto';
import { InvalidParameter } from '@flotilla/errors';
import { addressBits, type Cidr, cidrOf, type Family, overlaps, parseCidr } from './cidr.ts';

export interface AddressPool {
  readonly base: Cidr;
  /** Prefix length of the subnets cut from it. */
  readonly size: number;
}

function pool(base: string, size: number): AddressPool {
  const cidr = parseCidr(base);
  if (cidr === undefined) throw new InvalidParameter(`invalid address pool: ${base}`);
  return { base: cidr, size };
}

/** dockerd's own, in its order: the default bridge gets the first. */
const dockerPools: readonly AddressPool[] = [
  pool('172.17.0.0/16', 16),
  pool('172.18.0.0/16', 16),
  pool('172.19.0.0/16', 16),
  pool('172.20.0.0/14', 16),
  pool('172.24.0.0/14', 16),
  pool('172.28.0.0/14', 16),
  pool('192.168.0.0/16', 20),
];

/**
 * @param engineId - says which IPv6 subnets there are where the operator names none: dockerd's unique local ones.
 * @throws InvalidParameter in dockerd's words for a pool that cannot be.
 */
export function addressPools(configured: readonly { base: string; size: number }[], engineId: string): AddressPool[] {
  const pools = configured.map(({ base, size }) => {
    const one = pool(base, size);
    if (size < one.base.prefixLength || size > addressBits(one.base.family)) {
      throw new InvalidParameter(`invalid pool request: address pool ${base} cannot be cut into subnets of /${size}`);
    }
    return one;
  });
  const chosen = pools.length === 0 ? dockerPools : pools;
  return chosen.some(({ base }) => base.family === 6) ? [...chosen] : [...chosen, uniqueLocalPool(engineId)];
}

/** RFC 4193: a /48 whose global id, 40 bits, comes from the engine's own id and so is the same after every restart. */
function uniqueLocalPool(engineId: string): AddressPool {
  const globalId = createHash('sha256').update(engineId).digest().subarray(3, 8).toString('hex');
  return { base: cidrOf(6, BigInt(`0xfd${globalId}`) << 80n, 48), size: 64 };
}

/**
 * The first subnet of the pools that overlaps nothing in `taken`.
 *
 * @throws InvalidParameter when there is none.
 */
export function freeSubnet(pools: readonly AddressPool[], family: Family, taken: readonly Cidr[]): Cidr {
  for (const { base, size } of pools) {
    if (base.family !== family) continue;
    const step = 1n << BigInt(addressBits(family) - size);
    const count = 1n << BigInt(size - base.prefixLength);
    for (let index = 0n; index < count; index += 1n) {
      const subnet = cidrOf(family, base.base + index * step, size);
      if (!taken.some((other) => overlaps(subnet, other))) return subnet;
    }
  }
  throw new InvalidParameter('all predefined address pools have been fully subnetted');
}
