import { beforeEach, describe, expect, it } from 'vitest';
import { memoryRecords } from './memoryRecords.ts';
import type { NetworkRecord } from './network.ts';
import type { IpamPlugin, Plugins } from './networkPlugin.ts';
import { networkWish } from './networkRequest.ts';
import { PluginEndpoints } from './pluginEndpoints.ts';
import { PluginNetworks } from './pluginNetworks.ts';

const breaksOut = '10.0.0.5 . 80 }; delete table inet other #/24';

/** What was asked for and is not given back. */
let held: string[];
let answer: string;
let gateway: string | undefined;

function drop(what: string): void {
  held = held.filter((one) => one !== what);
}

const ipam: IpamPlugin = {
  requiresMac: false,
  addressSpace: 'space',
  async requestPool() {
    held.push('pool');
    return { id: 'pool', subnet: '10.0.0.0/24', ...(gateway === undefined ? {} : { gateway }) };
  },
  releasePool: async (id) => drop(id),
  async requestAddress() {
    held.push(answer.split('/')[0] ?? '');
    return answer;
  },
  releaseAddress: async (_pool, address) => drop(address),
};
const plugins: Plugins = { driver: () => Promise.reject(new Error('none')), ipam: async () => ipam };
const onError = (error: unknown): never => expect.unreachable(String(error));

beforeEach(() => {
  held = [];
  answer = '10.0.0.5/24';
  gateway = undefined;
});

describe('what an address plugin answers', () => {
  const wish = networkWish(
    { Name: 'n', IPAM: { Driver: 'plugin', Config: [{ Subnet: '10.0.0.0/24', AuxiliaryAddresses: { other: '10.0.0.9' } }] } },
    { configuration: () => undefined, sharesNats: false, defaultOptions: {} },
  );
  const subnets = () => new PluginNetworks({ plugins, onError }).subnets(wish);

  it('is a subnet with its gateway', async () => {
    expect(await subnets()).toMatchObject([{ subnet: '10.0.0.0/24', gateway: '10.0.0.5', poolId: 'pool' }]);
  });

  it.each([breaksOut, 'fd00::1/64', '10.0.0.5'])('is given back when the gateway is %j', async (text) => {
    gateway = text;
    await expect(subnets()).rejects.toThrow(
      `failed to parse gateway address (${text}) returned by ipam driver: invalid CIDR address: ${text}`,
    );
    expect(held).toEqual([]);
  });

  it('is given back when an auxiliary address is none', async () => {
    gateway = '10.0.0.1/24';
    answer = breaksOut;
    await expect(subnets()).rejects.toThrow(`invalid CIDR address: ${breaksOut}`);
    expect(held).toEqual([]);
  });

  it('is given back when a container’s address is none', async () => {
    const network = { id: 'n', ipamDriver: 'plugin', subnets: [{ subnet: '10.0.0.0/24', configured: true, poolId: 'pool' }] };
    const endpoints = new PluginEndpoints({ records: memoryRecords(), plugins, onError });
    const joining = { network: network as unknown as NetworkRecord, wish: {} };
    expect(await endpoints.addresses(joining)).toMatchObject({ given: [{ address: '10.0.0.5', prefixLength: 24 }] });
    held = [];
    answer = breaksOut;
    await expect(endpoints.addresses(joining)).rejects.toThrow(`invalid CIDR address: ${breaksOut}`);
    expect(held).toEqual([]);
  });
});
