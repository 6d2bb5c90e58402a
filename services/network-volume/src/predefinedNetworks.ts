/** The networks that are always there: bridge, as the engine's options say (or not at all), host and none. */

import { type IPAMConfig, randomId } from '@flotilla/engine-api';
import { InvalidParameter, System } from '@flotilla/errors';
import type { AddressPool } from './addressPools.ts';
import { addressText, cidrText, contains, type Family, parseAddress, parseCidr, parseCidrAddress } from './cidr.ts';
import { timestamp } from './clock.ts';
import { chooseSubnets } from './ipam.ts';
import { type Driver, type NetworkRecord, type SubnetRecord, takenSubnets } from './network.ts';
import type { Bridges } from './networkKernel.ts';
import { saveNetwork } from './networkRecords.ts';
import type { Records } from './records.ts';

/** The engine's wishes for the default bridge. */
export interface DefaultBridgeWish {
  /** An interface that is there already, or `none`: there is no default bridge. */
  readonly bridge?: string;
  readonly bip?: string;
  readonly fixedCidr?: string;
  readonly ipv6?: boolean;
  readonly fixedCidrV6?: string;
  readonly defaultGateway?: string;
  readonly defaultGatewayV6?: string;
  readonly mtu?: number;
  readonly icc: boolean;
  readonly ipMasq: boolean;
  /** Where its ports are published. */
  readonly ip: string;
}

export interface PredefinedNetworksOptions {
  readonly records: Records;
  readonly bridges: Bridges;
  readonly pools: readonly AddressPool[];
  readonly defaultBridge: DefaultBridgeWish;
}

export class PredefinedNetworks {
  private readonly options: PredefinedNetworksOptions;
  private readonly records: Records;

  constructor(options: PredefinedNetworksOptions) {
    this.options = options;
    this.records = options.records;
  }

  /** Makes sure that bridge, host and none exist, and that the default bridge is as the engine's options say. */
  async ensure(): Promise<void> {
    await this.records.withLease('pools', async () => {
      await this.records.fresh();
      for (const [name, driver] of [
        ['host', 'host'],
        ['none', 'null'],
      ] as const) {
        if (!this.records.networkNames.has(name)) await saveNetwork(this.records, plainNetwork(name, driver));
      }
      const id = this.records.networkNames.get('bridge')?.networkId;
      const existing = id === undefined ? undefined : this.records.networks.get(id);
      const isUsed = [...this.records.sandboxes.values()].some(({ endpoints }) => endpoints.some(({ networkId }) => networkId === id));
      if (this.options.defaultBridge.bridge === 'none') {
        // Running containers keep what they are on, as with dockerd.
        if (existing !== undefined && !isUsed) await this.forget(existing);
        return;
      }
      const wanted = this.defaultBridge(existing, isUsed);
      if (existing === undefined) await saveNetwork(this.records, wanted);
      else await this.records.commit({ puts: [this.records.networks.put(wanted.id, wanted)] });
    });
  }

  /** The bridge itself goes when what nobody's record names is cleared away. */
  private async forget({ id, name }: NetworkRecord): Promise<void> {
    const { networks, networkNames } = this.records;
    await this.records.commit({ deletes: [networks.delete(id), networkNames.delete(name)] });
  }

  /** The default bridge; `existing` keeps its id, and its subnets where the options say nothing else or containers are on them. */
  private defaultBridge(existing: NetworkRecord | undefined, isUsed: boolean): NetworkRecord {
    const { defaultBridge } = this.options;
    const id = existing?.id ?? randomId();
    const bridge = isUsed && existing !== undefined ? existing.bridge : this.interfaceName(existing);
    const options: Record<string, string> = {
      'com.docker.network.bridge.default_bridge': 'true',
      'com.docker.network.bridge.enable_icc': String(defaultBridge.icc),
      'com.docker.network.bridge.enable_ip_masquerade': String(defaultBridge.ipMasq),
      'com.docker.network.bridge.host_binding_ipv4': defaultBridge.ip,
      'com.docker.network.bridge.name': bridge,
      'com.docker.network.driver.mtu': String(defaultBridge.mtu ?? 1500),
    };
    return {
      ...plainNetwork('bridge', 'bridge'),
      id,
      created: existing?.created ?? timestamp(),
      enableIPv6: isUsed && existing !== undefined ? existing.enableIPv6 : defaultBridge.ipv6 === true,
      subnets: isUsed && existing !== undefined ? existing.subnets : this.defaultBridgeSubnets(existing, bridge, id),
      options,
      bridge,
    };
  }

  /** @throws System, in dockerd's words, when the operator's bridge is not there. */
  private interfaceName(existing: NetworkRecord | undefined): string {
    const { bridges, defaultBridge } = this.options;
    const named = defaultBridge.bridge;
    if (named !== undefined && named !== 'docker0') {
      if (!bridges.exists(named)) throw new System(`bridge device with non default name ${named} must be created manually`);
      bridges.checkBridge(named);
      return named;
    }
    if (existing !== undefined && ['docker0', 'flotilla0'].includes(existing.bridge)) return existing.bridge;
    // A real dockerd beside us owns docker0.
    return bridges.isForeign('docker0') ? 'flotilla0' : 'docker0';
  }

  private defaultBridgeSubnets(existing: NetworkRecord | undefined, bridge: string, id: string): NetworkRecord['subnets'] {
    const families: Family[] = this.options.defaultBridge.ipv6 === true ? [4, 6] : [4];
    return families.flatMap((family) => {
      const config = this.wishOf(family, bridge);
      // A subnet of a bridge that the default network is not on any more is let go.
      const kept = existing?.bridge === bridge ? existing.subnets.filter(({ subnet }) => parseCidr(subnet)?.family === family) : [];
      const subnets =
        config === undefined && kept.length > 0
          ? kept
          : chooseSubnets({ ...this.choice(id, family), ipam: config === undefined ? undefined : { Config: [config] } });
      return subnets.map((subnet) => this.withRouter(family, subnet));
    });
  }

  /** What the options say of a family, or the addresses of the operator's own bridge. */
  private wishOf(family: Family, bridge: string): IPAMConfig | undefined {
    const { bip, fixedCidr, fixedCidrV6, bridge: named } = this.options.defaultBridge;
    const range = family === 4 ? fixedCidr : fixedCidrV6;
    const own = family === 4 && bip !== undefined ? bip : named === undefined ? undefined : this.options.bridges.addressOf(bridge, family);
    if (own !== undefined) {
      const address = parseCidrAddress(own);
      if (address === undefined) throw new InvalidParameter(`invalid CIDR address: ${own}`);
      const Gateway = addressText(family, address.address);
      return { Subnet: cidrText(address.cidr), Gateway, ...(range === undefined ? {} : { IPRange: range }) };
    }
    if (range === undefined) return undefined;
    // dockerd takes the IPv6 range for the subnet, and has the IPv4 one as both.
    return { Subnet: range, ...(family === 4 ? { IPRange: range } : {}) };
  }

  /** The subnet with the router that the options name in place of the bridge. */
  private withRouter(family: Family, { auxiliary: _before, ...subnet }: SubnetRecord): SubnetRecord {
    const { defaultGateway, defaultGatewayV6 } = this.options.defaultBridge;
    const router = family === 4 ? defaultGateway : defaultGatewayV6;
    if (router === undefined) return subnet;
    const [cidr, address] = [parseCidr(subnet.subnet), parseAddress(router)];
    if (cidr === undefined || address === undefined || !contains(cidr, address.family, address.value)) {
      throw new InvalidParameter(`default gateway ${router} is not in the default bridge's subnet ${subnet.subnet}`);
    }
    return { ...subnet, auxiliary: { [`DefaultGatewayIPv${family}`]: router } };
  }

  private choice(exceptId: string, family: Family): Omit<Parameters<typeof chooseSubnets>[0], 'ipam'> {
    const others = [...this.records.networks.values()].filter(({ id }) => id !== exceptId);
    return {
      enableIPv4: family === 4,
      enableIPv6: family === 6,
      gateways: () => 'chosen',
      pools: this.options.pools,
      ours: takenSubnets(others),
      routes: this.options.bridges.occupiedBlocks(),
    };
  }
}

function plainNetwork(name: string, driver: Driver): NetworkRecord {
  return {
    id: randomId(),
    name,
    driver,
    created: timestamp(),
    internal: false,
    attachable: false,
    ingress: false,
    enableIPv4: true,
    enableIPv6: false,
    ipamDriver: 'default',
    ipamOptions: null,
    subnets: [],
    options: {},
    labels: {},
    bridge: '',
  };
}
