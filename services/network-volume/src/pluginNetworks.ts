/** Networks that plugins have a part in: their subnets from an address plugin, their interfaces from a driver. */
import { errorMessage, InvalidParameter, System } from '@flotilla/errors';
import { cidrText, contains, type Family, parseAddress, parseCidr } from './cidr.ts';
import type { NetworkRecord, SubnetRecord } from './network.ts';
import type { IpamPlugin, Plugins, PoolData } from './networkPlugin.ts';
import type { NetworkWish } from './networkRequest.ts';
import { pluginAddress, withoutLength } from './pluginAddress.ts';

export interface PluginNetworksOptions {
  readonly plugins: Plugins;
  readonly onError: (error: unknown) => void;
}

const askedForGateway = { RequestAddressType: 'com.docker.network.gateway' };

export class PluginNetworks {
  private readonly options: PluginNetworksOptions;

  constructor(options: PluginNetworksOptions) {
    this.options = options;
  }

  /** @returns the scope of the network's driver; undefined when it is one of ours. @throws NotFound in dockerd's words. */
  async scopeOf({ driver, isPlugin }: NetworkWish): Promise<'local' | 'global' | undefined> {
    return isPlugin ? (await this.options.plugins.driver(driver)).scope : undefined;
  }

  /** The subnets of a network whose addresses a plugin gives, or that has none; undefined when they are ours to choose. */
  async subnets(wish: NetworkWish): Promise<SubnetRecord[] | undefined> {
    const { ipamDriver, isPlugin } = wish;
    if (ipamDriver === 'null' && isPlugin) return [withoutAddresses(wish)];
    if (ipamDriver === 'default' || ipamDriver === 'null') return undefined;
    const ipam = await this.options.plugins.ipam(ipamDriver);
    const subnets: SubnetRecord[] = [];
    try {
      for (const config of poolWishes(wish)) {
        subnets.push(await requestSubnet(ipam, config, wish.request.IPAM?.Options ?? {}));
      }
      return subnets;
    } catch (error) {
      await this.release(ipamDriver, subnets);
      throw error;
    }
  }

  /** Tells a new network's driver of it. */
  async create(network: NetworkRecord): Promise<void> {
    if (network.plugin === undefined) return;
    const driver = await this.options.plugins.driver(network.driver);
    const pools = await this.pools(network);
    const options = {
      'com.docker.network.enable_ipv6': network.enableIPv6,
      ...(network.internal ? { 'com.docker.network.internal': true } : {}),
      'com.docker.network.generic': network.options,
    };
    await driver.createNetwork(network.id, options, pools[4], pools[6]);
  }

  private async pools({ ipamDriver, subnets }: NetworkRecord): Promise<Record<4 | 6, PoolData[]>> {
    const isPlugged = subnets.some(({ poolId }) => poolId !== undefined);
    const space = isPlugged ? (await this.options.plugins.ipam(ipamDriver)).addressSpace : ipamDriver === 'null' ? 'null' : 'LocalDefault';
    const pools: Record<4 | 6, PoolData[]> = { 4: [], 6: [] };
    for (const { subnet, gateway, auxiliary } of subnets) {
      const length = subnet.split('/')[1];
      const extra = Object.entries(auxiliary ?? {}).map(([name, address]) => [name, `${address}/${length}`] as const);
      pools[subnet.includes(':') ? 6 : 4].push({
        AddressSpace: space,
        Pool: subnet,
        ...(gateway === undefined ? {} : { Gateway: `${gateway}/${length}` }),
        ...(extra.length === 0 ? {} : { AuxAddresses: Object.fromEntries(extra) }),
      });
    }
    return pools;
  }

  /** Gives a network back. What a plugin says against it keeps nothing from being removed. */
  async remove(network: NetworkRecord): Promise<void> {
    if (network.plugin !== undefined) await this.deleteFrom(network);
    await this.release(network.ipamDriver, network.subnets);
  }

  /** Takes a network from its driver alone. */
  async deleteFrom(network: NetworkRecord): Promise<void> {
    await this.tried(async () => (await this.options.plugins.driver(network.driver)).deleteNetwork(network.id));
  }

  /** Gives pools back, and the addresses in them that are a network's own. */
  async release(ipamDriver: string, subnets: readonly SubnetRecord[]): Promise<void> {
    for (const { poolId, gateway, auxiliary } of subnets) {
      if (poolId === undefined) continue;
      for (const address of [gateway, ...Object.values(auxiliary ?? {})]) {
        if (address === undefined) continue;
        await this.tried(async () => (await this.options.plugins.ipam(ipamDriver)).releaseAddress(poolId, address));
      }
      await this.tried(async () => (await this.options.plugins.ipam(ipamDriver)).releasePool(poolId));
    }
  }

  private async tried(work: () => Promise<void>): Promise<void> {
    await work().catch(this.options.onError);
  }
}

/** @throws InvalidParameter for addresses wished for where there are none. */
function withoutAddresses({ request, enableIPv6 }: NetworkWish): SubnetRecord {
  const [config] = request.IPAM?.Config ?? [];
  if (config?.Subnet) throw new InvalidParameter('null ipam driver does not handle specific address pool requests');
  if (enableIPv6) throw new InvalidParameter('null ipam driver does not handle IPv6 address pool pool requests');
  return { subnet: '0.0.0.0/0', configured: false };
}

interface PoolWish {
  readonly subnet: string;
  readonly range: string;
  readonly gateway: string;
  readonly auxiliary: Readonly<Record<string, string>>;
  readonly isV6: boolean;
}

function poolWishes({ request, enableIPv4, enableIPv6 }: NetworkWish): PoolWish[] {
  const given = (request.IPAM?.Config ?? []).map(({ Subnet = '', IPRange = '', Gateway = '', AuxiliaryAddresses }) => {
    const isV6 = Subnet.includes(':');
    return { subnet: Subnet, range: IPRange, gateway: Gateway, auxiliary: AuxiliaryAddresses ?? {}, isV6 };
  });
  return [false, true].flatMap((isV6) => {
    if (isV6 ? !enableIPv6 : !enableIPv4) return [];
    const ofFamily = given.filter((wish) => wish.isV6 === isV6);
    return ofFamily.length > 0 ? ofFamily : [{ subnet: '', range: '', gateway: '', auxiliary: {}, isV6 }];
  });
}

/** One subnet: the pool, its gateway, and the addresses in it that are not the plugin's to give to containers. */
async function requestSubnet(ipam: IpamPlugin, wish: PoolWish, options: Readonly<Record<string, string>>): Promise<SubnetRecord> {
  const pool = await ipam.requestPool({ subnet: wish.subnet, range: wish.range, options, isV6: wish.isV6 });
  const held: string[] = [];
  try {
    const cidr = parseCidr(pool.subnet);
    if (cidr === undefined) throw new System(`invalid CIDR address: ${pool.subnet}`);
    const isNamed = wish.gateway === '' && pool.gateway !== undefined;
    const gatewayText = isNamed ? pool.gateway : await requestGateway(ipam, pool.id, wish.gateway);
    held.push(withoutLength(gatewayText));
    const gateway = parseGateway(gatewayText, cidr.family);
    for (const text of Object.values(wish.auxiliary)) {
      const address = parseAddress(text);
      if (address === undefined || !contains(cidr, address.family, address.value)) continue;
      const answer = await ipam.requestAddress(pool.id, text, {});
      held.push(withoutLength(answer));
      pluginAddress(answer, cidr.family);
    }
    return {
      subnet: cidrText(cidr),
      ...(wish.range === '' ? {} : { ipRange: wish.range }),
      gateway,
      configured: wish.subnet !== '',
      ...(Object.keys(wish.auxiliary).length === 0 ? {} : { auxiliary: wish.auxiliary }),
      poolId: pool.id,
    };
  } catch (error) {
    for (const address of held) await ipam.releaseAddress(pool.id, address).catch(() => undefined);
    await ipam.releasePool(pool.id).catch(() => undefined);
    throw error;
  }
}

async function requestGateway(ipam: IpamPlugin, poolId: string, wished: string): Promise<string> {
  try {
    return await ipam.requestAddress(poolId, wished, askedForGateway);
  } catch (error) {
    throw new System(`failed to allocate gateway (${wished}): ${errorMessage(error)}`, { cause: error });
  }
}

/** @throws InvalidParameter in dockerd's words. */
function parseGateway(text: string, family: Family): string {
  try {
    return pluginAddress(text, family).address;
  } catch (error) {
    throw new InvalidParameter(`failed to parse gateway address (${text}) returned by ipam driver: ${errorMessage(error)}`);
  }
}
