/** The networks that are always there: bridge, as the engine's options say, host and none. */
import { InvalidParameter } from '@flotilla/errors';
import type { AddressPool } from './addressPools.ts';
import { addressText, cidrText, parseCidrAddress } from './cidr.ts';
import { randomId, timestamp } from './ids.ts';
import { chooseSubnets } from './ipam.ts';
import { type Driver, type NetworkRecord, takenSubnets } from './network.ts';
import type { Bridges } from './networkKernel.ts';
import { saveNetwork } from './networkRecords.ts';
import type { Records } from './records.ts';

/** The engine's wishes for the default bridge. */
export interface DefaultBridgeWish {
  readonly bip?: string;
  readonly fixedCidr?: string;
  readonly mtu?: number;
  readonly icc: boolean;
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
      const wanted = this.defaultBridge(existing);
      if (existing === undefined) await saveNetwork(this.records, wanted);
      else await this.records.commit({ puts: [this.records.networks.put(wanted.id, wanted)] });
    });
  }

  /** The default bridge; `existing` keeps its id and, where the options say nothing else, its subnet. */
  private defaultBridge(existing: NetworkRecord | undefined): NetworkRecord {
    const { bridges, defaultBridge, pools } = this.options;
    const id = existing?.id ?? randomId();
    // A real dockerd beside us owns docker0.
    const bridge = existing?.bridge ?? (bridges.isForeign('docker0') ? 'flotilla0' : 'docker0');
    const options: Record<string, string> = {
      'com.docker.network.bridge.default_bridge': 'true',
      'com.docker.network.bridge.enable_icc': String(defaultBridge.icc),
      'com.docker.network.bridge.enable_ip_masquerade': 'true',
      'com.docker.network.bridge.host_binding_ipv4': '0.0.0.0',
      'com.docker.network.bridge.name': bridge,
      'com.docker.network.driver.mtu': String(defaultBridge.mtu ?? 1500),
    };
    return {
      ...plainNetwork('bridge', 'bridge'),
      id,
      created: existing?.created ?? timestamp(),
      subnets: this.defaultBridgeSubnets(existing, pools, id),
      options,
      bridge,
    };
  }

  private defaultBridgeSubnets(existing: NetworkRecord | undefined, pools: readonly AddressPool[], id: string): NetworkRecord['subnets'] {
    const { bip, fixedCidr } = this.options.defaultBridge;
    const range = fixedCidr === undefined ? {} : { IPRange: fixedCidr };
    if (bip !== undefined) {
      const own = parseCidrAddress(bip);
      if (own === undefined) throw new InvalidParameter(`invalid CIDR address: ${bip}`);
      const Gateway = addressText(own.cidr.family, own.address);
      return chooseSubnets({ ...this.choice(id, pools), ipam: { Config: [{ Subnet: cidrText(own.cidr), Gateway, ...range }] } });
    }
    if (fixedCidr !== undefined) return chooseSubnets({ ...this.choice(id, pools), ipam: { Config: [{ Subnet: fixedCidr, ...range }] } });
    return existing?.subnets ?? chooseSubnets({ ...this.choice(id, pools), ipam: undefined });
  }

  private choice(exceptId: string, pools: readonly AddressPool[]): Omit<Parameters<typeof chooseSubnets>[0], 'ipam'> {
    const others = [...this.records.networks.values()].filter(({ id }) => id !== exceptId);
    return {
      enableIPv4: true,
      enableIPv6: false,
      gateways: () => 'chosen',
      pools,
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
