import { beforeEach, describe, expect, it, vi } from 'vitest';
import { memoryRecords } from './memoryRecords.ts';
import type { NetworkRecord } from './network.ts';
import type { IpamPlugin, NetworkDriverPlugin, Plugins } from './networkPlugin.ts';
import { PluginEndpoints } from './pluginEndpoints.ts';
import type { EndpointRecord } from './sandbox.ts';

let calls: string[];
let prefix: string;
let errors: unknown[];
/** What the plugin waits for before it answers. */
let answers: Promise<void>;

const call = async (name: string): Promise<void> => {
  calls.push(name);
  await answers;
};
const driver: Partial<NetworkDriverPlugin> = {
  createEndpoint: async () => ({ Address: '', AddressIPv6: '', MacAddress: '' }),
  join: async () => ({ source: 'veth1', prefix, routes: [] }),
  unpublish: () => call('unpublish'),
  leave: () => call('leave'),
  deleteEndpoint: () => call('deleteEndpoint'),
};
const ipam: Partial<IpamPlugin> = {
  requestAddress: async () => '10.0.0.2/24',
  releaseAddress: (_pool, address) => call(`release ${address}`),
};
const plugins: Plugins = { driver: async () => driver as NetworkDriverPlugin, ipam: async () => ipam as IpamPlugin };
const network = {
  id: 'n',
  name: 'net',
  driver: 'plugin',
  plugin: { scope: 'local' },
  ipamDriver: 'plugin',
  subnets: [{ subnet: '10.0.0.0/24', configured: true, poolId: 'pool' }],
} as unknown as NetworkRecord;
const endpoint = {
  id: 'e',
  networkId: 'n',
  ipv4: '10.0.0.2',
  mac: '',
  wish: {},
  plugin: { source: 'veth1', routes: [] },
} as unknown as EndpointRecord;
let endpoints: PluginEndpoints;

beforeEach(async () => {
  calls = [];
  errors = [];
  prefix = 'red';
  answers = Promise.resolve();
  const records = memoryRecords();
  await records.commit({ puts: [records.networks.put('n', network)] });
  endpoints = new PluginEndpoints({ records, plugins, onError: (error) => errors.push(error) });
});

describe('a plugin’s endpoint', () => {
  it('is given back to the plugin also when the kernel’s part fails', async () => {
    const takeOut = (): never => {
      throw new Error('busy');
    };
    await expect(endpoints.leave([endpoint], takeOut)).rejects.toThrow('busy');
    expect(calls).toEqual(['unpublish', 'leave', 'deleteEndpoint', 'release 10.0.0.2']);
  });

  it('has a name that the kernel takes, or is given back', async () => {
    const place = { netnsPath: '', isTaken: (name: string) => name === 'red0', ports: { exposedPorts: [], portBindings: {} } };
    expect((await endpoints.join(endpoint, place)).interfaceName).toBe('red1');
    prefix = 'fifteen-letters';
    await expect(endpoints.join(endpoint, place)).rejects.toThrow('invalid name "fifteen-letters0"');
    expect(calls).toEqual(['leave', 'deleteEndpoint']);
  });

  it('that is lost is given back in the background, before anybody asks for another', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    answers = promise;
    endpoints.leaveLater([endpoint, { ...endpoint, ipv4: '10.0.0.3' }]);
    const asked = endpoints.addresses({ network, wish: {} }).then(() => calls.push('asked'));
    resolve();
    await asked;
    const told = ['unpublish', 'leave', 'deleteEndpoint'];
    expect(calls).toEqual([...told, 'release 10.0.0.2', ...told, 'release 10.0.0.3', 'asked']);
  });

  it('that is lost to a plugin that hangs is given up after a while', async () => {
    vi.useFakeTimers();
    try {
      const { promise, resolve } = Promise.withResolvers<void>();
      answers = promise;
      endpoints.leaveLater([endpoint, { ...endpoint, id: 'other' }]);
      while (calls.length === 0) await Promise.resolve();
      vi.setSystemTime(Date.now() + 120_000);
      resolve();
      await endpoints.addresses({ network, wish: {} });
      expect(calls).toEqual(['unpublish', 'leave', 'deleteEndpoint', 'release 10.0.0.2']);
      expect(errors.map(String)).toEqual(['Unavailable: network net: its plugin is not told that endpoint other is gone']);
    } finally {
      vi.useRealTimers();
    }
  });
});
