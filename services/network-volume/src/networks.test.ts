import { Forbidden, NotFound } from '@flotilla/errors';
import { beforeEach, describe, expect, it } from 'vitest';
import { addressPools } from './addressPools.ts';
import { type Cidr, parseCidr } from './cidr.ts';
import { timestamp } from './clock.ts';
import { checkEndpoint, dnsNames, endpointSysctls, macAddress } from './endpoint.ts';
import { type MemoryRecords, memoryRecords } from './memoryRecords.ts';
import { type NetworkRecord, networkSubnets } from './network.ts';
import { NetworkKernel } from './networkKernel.ts';
import type { IpamPlugin, NetworkDriverPlugin, Plugins } from './networkPlugin.ts';
import { Networks } from './networks.ts';
import type { SharedNetwork } from './overlay/shared.ts';
import { PluginNetworks } from './pluginNetworks.ts';
import { type DefaultBridgeWish, PredefinedNetworks } from './predefinedNetworks.ts';
import type { SandboxRecord } from './sandbox.ts';

class FakeKernel {
  readonly bridges = new Map<string, readonly string[]>();
  readonly rules = new Set<string>();
  foreign: string[] = [];
  routes: Cidr[] = [];
  ensureBridge = ({ name, addresses }: { name: string; addresses: readonly string[] }): void => void this.bridges.set(name, addresses);
  removeBridge = (name: string): void => void this.bridges.delete(name);
  checkBridge = (): void => undefined;
  made: Readonly<Record<string, readonly string[]>> = {};
  exists = (name: string): boolean => this.made[name] !== undefined;
  addressOf = (name: string, family: 4 | 6): string | undefined =>
    this.made[name]?.find((address) => address.includes(':') === (family === 6));
  isForeign = (name: string): boolean => this.foreign.includes(name);
  occupiedBlocks = (): Cidr[] => this.routes;
  enableForwarding = (): void => undefined;
  addNetwork = ({ bridge }: { bridge: string }): void => void this.rules.add(bridge);
  removeNetwork = ({ bridge }: { bridge: string }): void => void this.rules.delete(bridge);
  readonly parents = new Set<string>();
  lacks: string[] = [];
  supports = (kind: string): boolean => !this.lacks.includes(kind);
  ensureParent = ({ parent }: { parent: string }): void => void this.parents.add(parent);
  removeParent = (name: string): void => void this.parents.delete(name);
}

const noPlugins: Plugins = {
  driver: (name) => Promise.reject(new NotFound(`plugin "${name}" not found`)),
  ipam: (name) => Promise.reject(new NotFound(`plugin "${name}" not found`)),
};

let records: MemoryRecords;
let kernel: FakeKernel;
let errors: unknown[];

async function networks(defaultBridge: Partial<DefaultBridgeWish> = {}, plugins = noPlugins, defaultOptions = {}): Promise<Networks> {
  const pools = addressPools([], 'e');
  const inKernel = new NetworkKernel({ bridges: kernel, parents: kernel, rules: kernel });
  await new PredefinedNetworks({
    records,
    bridges: kernel,
    pools,
    defaultBridge: { icc: true, ipMasq: true, ip: '0.0.0.0', ...defaultBridge },
  }).ensure();
  const plugged = new PluginNetworks({ plugins, onError: (error) => errors.push(error) });
  return new Networks({
    records,
    kernel: inKernel,
    bridges: kernel,
    pools,
    plugged,
    defaultOptions,
    onError: (error) => errors.push(error),
  });
}

beforeEach(() => {
  records = memoryRecords();
  kernel = new FakeKernel();
  errors = [];
});

describe('the predefined networks', () => {
  it('are made once and cannot be removed or made again', async () => {
    await networks();
    const made = await networks();
    expect(
      made
        .list({})
        .map(({ Name, Driver }) => `${Name} ${Driver}`)
        .sort(),
    ).toEqual(['bridge bridge', 'host host', 'none null']);
    expect(made.inspect('bridge').IPAM.Config).toEqual([{ Subnet: '172.17.0.0/16', Gateway: '172.17.0.1' }]);
    for (const name of ['bridge', 'host', 'none']) {
      await expect(made.remove(name)).rejects.toThrow(`${name} is a pre-defined network and cannot be removed`);
      await expect(made.create({ Name: name })).rejects.toMatchObject({ kind: 'Forbidden' });
    }
    expect(records.events).toEqual([]);
  });

  it('obey the engine’s options, and leave docker0 to another engine', async () => {
    kernel.foreign = ['docker0'];
    const made = await networks({ bip: '10.9.8.1/24', fixedCidr: '10.9.8.128/25', mtu: 1400 });
    const bridge = made.inspect('bridge');
    expect(bridge.IPAM.Config).toEqual([{ Subnet: '10.9.8.0/24', IPRange: '10.9.8.128/25', Gateway: '10.9.8.1' }]);
    expect(bridge.Options).toMatchObject({ 'com.docker.network.bridge.name': 'flotilla0', 'com.docker.network.driver.mtu': '1400' });
    await expect(networks({ bip: 'x' })).rejects.toThrow('invalid CIDR address: x');
  });

  it('have the IPv6, the router and the masquerading that the options say', async () => {
    const made = await networks({
      ipv6: true,
      fixedCidrV6: 'fd00:9::/64',
      bip: '10.9.8.1/24',
      defaultGateway: '10.9.8.254',
      ipMasq: false,
    });
    const bridge = made.inspect('bridge');
    expect(bridge).toMatchObject({ EnableIPv6: true, Options: { 'com.docker.network.bridge.enable_ip_masquerade': 'false' } });
    expect(bridge.IPAM.Config).toEqual([
      { Subnet: '10.9.8.0/24', Gateway: '10.9.8.1', AuxiliaryAddresses: { DefaultGatewayIPv4: '10.9.8.254' } },
      { Subnet: 'fd00:9::/64', Gateway: 'fd00:9::1' },
    ]);
    const chosen = (await networks({ ipv6: true, bip: '10.9.8.1/24' })).inspect('bridge').IPAM.Config ?? [];
    expect(chosen.map(({ Subnet }) => Subnet)).toEqual(['10.9.8.0/24', 'fd00:9::/64']);
    const without = (await networks()).inspect('bridge');
    expect([without.EnableIPv6, without.IPAM.Config]).toEqual([false, [{ Subnet: '10.9.8.0/24', Gateway: '10.9.8.1' }]]);
    await expect(networks({ defaultGateway: '10.0.0.1' })).rejects.toThrow(
      "default gateway 10.0.0.1 is not in the default bridge's subnet 10.9.8.0/24",
    );
  });

  it('use the operator’s bridge with its addresses, or none at all', async () => {
    await expect(networks({ bridge: 'br0' })).rejects.toThrow('bridge device with non default name br0 must be created manually');
    kernel.made = { br0: ['10.5.0.1/24', 'fd00:5::1/64'] };
    const made = await networks({ bridge: 'br0', ipv6: true });
    expect(made.find('bridge').bridge).toBe('br0');
    expect(made.inspect('bridge').IPAM.Config?.map(({ Gateway }) => Gateway)).toEqual(['10.5.0.1', 'fd00:5::1']);
    const none = await networks({ bridge: 'none' });
    expect(() => none.find('bridge')).toThrow('network bridge not found');
    expect(none.findForMode('default').name).toBe('none');
    const again = (await networks()).inspect('bridge');
    expect([again.Options?.['com.docker.network.bridge.name'], again.IPAM.Config?.[0]?.Subnet]).toEqual(['docker0', '172.17.0.0/16']);
  });

  it('stay as they are while containers are on them', async () => {
    const id = (await networks()).find('bridge').id;
    const sandbox = { containerId: 'c', endpoints: [{ networkId: id }] } as unknown as SandboxRecord;
    await records.commit({ puts: [records.sandboxes.put('c', sandbox)] });
    for (const change of [{ bridge: 'none' }, { bip: '10.9.8.1/24' }, { ipv6: true }]) {
      const bridge = (await networks(change)).inspect('bridge');
      expect([bridge.Id, bridge.EnableIPv6, bridge.IPAM.Config?.[0]?.Subnet]).toEqual([id, false, '172.17.0.0/16']);
    }
  });

  it('give new networks of a driver the options that the client does not', async () => {
    const options = { 'com.docker.network.driver.mtu': '1400', a: 'b' };
    const made = await networks({}, noPlugins, { bridge: options });
    await made.create({ Name: 'blue', Options: { a: 'c' } });
    expect(made.inspect('blue').Options).toEqual({ ...options, a: 'c' });
    expect(made.inspect('bridge').Options).toMatchObject({ 'com.docker.network.driver.mtu': '1500' });
    await made.create({ Name: 'plan', ConfigOnly: true });
    await made.create({ Name: 'planned', ConfigFrom: { Network: 'plan' } });
    expect(made.inspect('planned').Options).toEqual({});
  });

  it('obey them beside a plugin’s network without addresses, and a configuration with those', async () => {
    const made = await networks();
    const { id } = await made.create({ Name: 'plain' });
    const plain = made.find(id);
    const [whole, planned] = ['0.0.0.0/0', '10.9.8.0/24'].map((subnet) => [{ subnet, configured: false }]);
    const plugged = { ...plain, id: 'p', name: 'p', driver: 'plugin', plugin: { scope: 'local' }, ipamDriver: 'null', subnets: whole };
    const configuration = { ...plain, id: 'c', name: 'c', configOnly: true, subnets: planned };
    for (const one of [plugged, configuration]) {
      await records.commit({ puts: [records.networks.put(one.id, one as NetworkRecord)] });
    }
    const [config] = (await networks({ bip: '10.9.8.1/24' })).inspect('bridge').IPAM.Config ?? [];
    expect(config?.Subnet).toBe('10.9.8.0/24');
  });
});

describe('a network', () => {
  it('is made with a subnet of its own, found by name, id and prefix, and removed', async () => {
    const made = await networks();
    kernel.routes = [parseCidr('172.18.0.0/16') as Cidr];
    const { id } = await made.create({ Name: 'blue', Labels: { a: 'b' } });
    expect(made.inspect('blue')).toMatchObject({
      Id: id,
      IPAM: { Config: [{ Subnet: '172.19.0.0/16', Gateway: '172.19.0.1' }] },
      Labels: { a: 'b' },
    });
    expect(made.find(id.slice(0, 12)).name).toBe('blue');
    expect(kernel.bridges.get(`br-${id.slice(0, 12)}`)).toEqual(['172.19.0.1/16']);
    await expect(made.create({ Name: 'blue' })).rejects.toThrow('network with name blue already exists');
    await made.remove('blue');
    expect([...kernel.bridges.keys()]).toEqual([]);
    expect(kernel.rules.size).toBe(0);
    expect(() => made.find('blue')).toThrow('network blue not found');
    expect(records.events.map(({ action, attributes }) => [action, attributes])).toEqual([
      ['create', { name: 'blue', type: 'bridge' }],
      ['destroy', { name: 'blue', type: 'bridge' }],
    ]);
  });

  it.each(['_project_default', '-x', '../x', 'a b'])('may be called %j', async (Name) => {
    const made = await networks();
    await made.create({ Name });
    expect(made.inspect(Name).Name).toBe(Name);
    await made.remove(Name);
  });

  it.each([
    [{ Name: '' }, 'InvalidParameter'],
    [{ Name: ' ' }, 'InvalidParameter'],
    [{ Name: 'x', Driver: 'nonsense' }, 'NotFound'],
    [{ Name: 'x', Driver: 'host' }, 'Forbidden'],
    [{ Name: 'x', Driver: 'macvlan', Options: { macvlan_mode: 'sideways' } }, 'InvalidParameter'],
    [{ Name: 'x', Driver: 'macvlan', Options: { parent: 'lo' } }, 'InvalidParameter'],
    [{ Name: 'x', Driver: 'ipvlan', Options: { ipvlan_mode: 'l4' } }, 'InvalidParameter'],
    [{ Name: 'x', Scope: 'nonsense' }, 'InvalidParameter'],
    [{ Name: 'x', ConfigFrom: { Network: 'nosuch' } }, 'NotFound'],
    [{ Name: 'x', ConfigOnly: true, Internal: true }, 'Forbidden'],
    [{ Name: 'x', ConfigOnly: true, ConfigFrom: { Network: 'y' } }, 'Forbidden'],
    [{ Name: 'x', ConfigFrom: { Network: 'y' }, Options: { parent: 'eth0' } }, 'Forbidden'],
    [{ Name: 'x', IPAM: { Config: [{ Subnet: '172.17.0.0/24' }] } }, 'Forbidden'],
    [{ Name: 'x', IPAM: { Driver: 'y' } }, 'NotFound'],
    [{ Name: 'x', EnableIPv4: false }, 'InvalidParameter'],
    [{ Name: 'x', Options: { 'com.docker.network.bridge.enable_icc': 'maybe' } }, 'InvalidParameter'],
    [{ Name: 'x', Options: { 'com.docker.network.bridge.name': 'a name/with;more' } }, 'InvalidParameter'],
    [{ Name: 'x', Options: { 'com.docker.network.driver.mtu': '1e9' } }, 'InvalidParameter'],
    [{ Name: 'x', Options: { 'com.docker.network.bridge.gateway_mode_ipv4': 'isolated' } }, 'System'],
    [{ Name: 'x', IPAM: { Config: [{ Subnet: '10.1.0.0/24' }, { Subnet: '10.2.0.0/24' }] } }, 'Forbidden'],
  ])('is refused as %j', async (request, kind) => {
    const made = await networks();
    await expect(made.create(request)).rejects.toMatchObject({ kind });
    expect(made.list({})).toHaveLength(3);
    expect(kernel.bridges.size).toBe(0);
  });

  it('is not left behind when the kernel refuses it', async () => {
    const made = await networks();
    kernel.ensureBridge = () => {
      throw new Error('no more bridges');
    };
    await expect(made.create({ Name: 'blue' })).rejects.toThrow('no more bridges');
    expect(() => made.find('blue')).toThrow('not found');
  });

  it('that hosts have agreed on is left out where a bridge has its addresses, and the next is not', async () => {
    const made = await networks();
    const shared = (name: string, subnet: string): SharedNetwork => ({
      id: name.repeat(8),
      name,
      created: timestamp(),
      vni: 4096,
      subnets: [{ subnet, configured: true, auxiliary: {} }],
      internal: false,
      attachable: true,
      options: {},
      labels: {},
    });
    await made.follow([shared('overlap', '172.17.3.0/24'), shared('another', '10.4.0.0/24')]);
    expect(made.list({ driver: { values: ['overlay'] } }).map(({ Name }) => Name)).toEqual(['another']);
    expect(errors).toEqual([new Forbidden('invalid pool request: Pool overlaps with other one on this address space')]);
  });

  it('that cannot be pruned is reported and keeps no other from it', async () => {
    const made = await networks();
    for (const Name of ['one', 'two', 'three']) await made.create({ Name });
    const failing = made.find('two').bridge;
    kernel.removeBridge = (name) => {
      if (name === failing) throw new Error('busy');
      kernel.bridges.delete(name);
    };
    expect((await made.prune({})).sort()).toEqual(['one', 'three']);
    expect(errors).toEqual([new Error('busy')]);
  });

  it('is listed and pruned by filters', async () => {
    const made = await networks();
    await made.create({ Name: 'blue', Labels: { keep: '1' } });
    const { id } = await made.create({ Name: 'red', Internal: true });
    const names = (filters: Record<string, string[]>): string[] =>
      made.list(Object.fromEntries(Object.entries(filters).map(([name, values]) => [name, { values }]))).map(({ Name }) => Name);
    expect(names({ type: ['custom'] })).toEqual(['blue', 'red']);
    expect(names({ name: ['lu', 'none'] }).sort()).toEqual(['blue', 'none']);
    expect(names({ name: ['^r.d$', 'ridge$', '('] }).sort()).toEqual(['bridge', 'red']);
    expect(names({ id: [id.slice(0, 12), id.slice(1, 20)] })).toEqual(['red']);
    expect(names({ label: ['keep=1'] })).toEqual(['blue']);
    expect(names({ label: ['keep', 'keep=2'] })).toEqual([]);
    expect(names({ driver: ['host', 'nul'] })).toEqual(['host']);
    expect(names({ scope: ['global'] })).toEqual([]);
    expect(names({ scope: ['local'], type: ['builtin'] }).sort()).toEqual(['bridge', 'host', 'none']);
    expect(names({ dangling: ['true'] })).toEqual(['blue', 'red']);
    expect(names({ dangling: ['0'] }).sort()).toEqual(['bridge', 'host', 'none']);
    expect(() => names({ dangling: ['perhaps'] })).toThrow("invalid filter 'dangling=[perhaps]'");
    expect(() => names({ colour: ['x'] })).toThrow("invalid filter 'colour'");
    expect(() => names({ type: ['x'] })).toThrow("invalid filter: 'type'='x'");
    await expect(made.prune({ name: { values: ['red'] } })).rejects.toThrow("invalid filter 'name'");
    await expect(made.prune({ until: { values: ['soon'] } })).rejects.toThrow('failed to parse value as time or duration: "soon"');
    await expect(made.prune({ until: { values: ['1h', '2h'] } })).rejects.toThrow('more than one until filter specified');
    expect(await made.prune({ until: { values: ['1h'] } })).toEqual([]);
    expect(await made.prune({ label: { values: ['keep=2'] } })).toEqual([]);
    expect(await made.prune({ 'label!': { values: ['keep'] } })).toEqual(['red']);
    expect(await made.prune({})).toEqual(['blue']);
  });
});

describe('a network on a parent interface', () => {
  it('has no gateway that nobody named, and shares its parent unless one is passthru', async () => {
    const made = await networks();
    const onEth0 = { Driver: 'macvlan', Options: { parent: 'eth0' } };
    await made.create({ Name: 'one', ...onEth0 });
    expect(made.inspect('one')).toMatchObject({ Driver: 'macvlan', IPAM: { Config: [{ Subnet: '172.18.0.0/16' }] } });
    expect(made.inspect('one').IPAM.Config?.[0]?.Gateway).toBeUndefined();
    await made.create({ Name: 'two', ...onEth0, IPAM: { Config: [{ Subnet: '10.0.0.0/24', Gateway: '10.0.0.254' }] } });
    expect(made.inspect('two').IPAM.Config).toEqual([{ Subnet: '10.0.0.0/24', Gateway: '10.0.0.254' }]);
    await expect(made.create({ Name: 'three', Driver: 'macvlan', Options: { parent: 'eth0', macvlan_mode: 'passthru' } })).rejects.toThrow(
      'cannot use mode passthru, macvlan network',
    );
    await expect(made.create({ Name: 'three', Driver: 'ipvlan', Options: { parent: 'eth0' } })).rejects.toMatchObject({
      kind: 'Forbidden',
    });
    await made.remove('one');
    expect([...kernel.parents]).toEqual(['eth0']);
    await made.remove('two');
    expect([...kernel.parents]).toEqual([]);
  });

  it('is a wire of its own without a parent', async () => {
    const made = await networks();
    const { id } = await made.create({ Name: 'own', Driver: 'macvlan' });
    expect([...kernel.parents]).toEqual([`dm-${id.slice(0, 12)}`]);
  });

  it('is refused where the kernel has no such driver, and nothing stays', async () => {
    const made = await networks();
    kernel.lacks = ['ipvlan'];
    await expect(made.create({ Name: 'x', Driver: 'ipvlan' })).rejects.toThrow("this host's kernel has no ipvlan");
    expect(made.list({})).toHaveLength(3);
  });
});

describe('a network of a plugin', () => {
  /** What the plugin has, and whether it was in the records when it was told of it, or that it goes. */
  let pools: string[];
  let told: { what: string; isRecorded: boolean }[];
  let whileAsked: () => Promise<unknown>;
  const tell = async (what: string): Promise<void> => {
    told.push({ what, isRecorded: [...records.networks.values()].some(({ name }) => name === 'theirs') });
  };
  const driver: Partial<NetworkDriverPlugin> = {
    scope: 'local',
    createNetwork: async () => {
      await tell('create');
      await whileAsked();
    },
    deleteNetwork: () => tell('delete'),
  };
  const ipam: Partial<IpamPlugin> = {
    requestPool: async ({ subnet }) => {
      pools.push(subnet);
      await whileAsked();
      return { id: subnet, subnet, gateway: '10.7.0.1/24' };
    },
    releaseAddress: async () => undefined,
    releasePool: async (id) => {
      pools = pools.filter((one) => one !== id);
    },
  };
  const plugins: Plugins = { driver: async () => driver as NetworkDriverPlugin, ipam: async () => ipam as IpamPlugin };
  const subnet = '10.7.0.0/24';
  const theirs = { Name: 'theirs', IPAM: { Driver: 'plugin', Config: [{ Subnet: subnet }] } };

  beforeEach(() => {
    pools = [];
    told = [];
    whileAsked = async () => undefined;
  });

  it('is in the records only while its driver knows it', async () => {
    const made = await networks({}, plugins);
    await made.create({ ...theirs, Driver: 'plugin' });
    await made.remove('theirs');
    expect(told).toEqual([
      { what: 'create', isRecorded: false },
      { what: 'delete', isRecorded: true },
    ]);
    expect(pools).toEqual([]);
  });

  it('gives its pools back, and is taken from its driver, when it cannot be saved', async () => {
    const made = await networks({}, plugins);
    const { commit } = records;
    Object.assign(records, { commit: () => Promise.reject(new Error('no Redis')) });
    await expect(made.create({ ...theirs, Driver: 'plugin' })).rejects.toThrow('no Redis');
    await expect(made.create(theirs)).rejects.toThrow('no Redis');
    Object.assign(records, { commit });
    expect(told.map(({ what }) => what)).toEqual(['create', 'delete']);
    expect(pools).toEqual([]);
  });

  it('keeps no other waiting while its plugin is asked, and is refused what the other has by then', async () => {
    const made = await networks({}, plugins);
    let asked = 0;
    whileAsked = async () => {
      asked += 1;
      if (asked === 1) await made.create({ Name: 'quicker', IPAM: { Config: [{ Subnet: subnet }] } });
    };
    await expect(made.create(theirs)).rejects.toThrow('Pool overlaps with other one on this address space');
    expect(pools).toEqual([]);
  });

  it('has another subnet when the one that was chosen for it is taken meanwhile', async () => {
    const made = await networks({}, plugins);
    whileAsked = async () => {
      if (told.length === 1) await made.create({ Name: 'quicker' });
    };
    await made.create({ Name: 'theirs', Driver: 'plugin' });
    expect(told.map(({ what }) => what)).toEqual(['create', 'delete', 'create']);
    expect(['quicker', 'theirs'].map((name) => made.find(name).subnets[0]?.subnet)).toEqual(['172.18.0.0/16', '172.19.0.0/16']);
  });
});

describe('a configuration-only network', () => {
  it('gives others its configuration, has no subnet and no endpoints itself, and stays while it is named', async () => {
    const made = await networks();
    const IPAM = { Config: [{ Subnet: '10.3.0.0/24', Gateway: '10.3.0.9' }] };
    await made.create({
      Name: 'plan',
      ConfigOnly: true,
      IPAM,
      Options: { 'com.docker.network.driver.mtu': '1400' },
      Labels: { a: '1', b: '2' },
    });
    expect(made.inspect('plan')).toMatchObject({ Driver: 'null', ConfigOnly: true, IPAM: { Config: IPAM.Config } });
    expect(kernel.bridges.size).toBe(0);
    expect(() => checkEndpoint(made.find('plan'), {})).toThrow('cannot create endpoint on configuration-only network');
    await made.create({ Name: 'built', ConfigFrom: { Network: 'plan' }, Labels: { b: '3' } });
    expect(made.inspect('built')).toMatchObject({
      Driver: 'bridge',
      ConfigFrom: { Network: 'plan' },
      IPAM: { Config: IPAM.Config },
      Options: { 'com.docker.network.driver.mtu': '1400' },
      Labels: { a: '1', b: '3' },
    });
    await expect(made.remove('plan')).rejects.toThrow('configuration network "plan" is in use');
    await made.remove('built');
    await made.remove('plan');
  });
});

describe('an endpoint', () => {
  it('may ask for an address only where the client chose the subnet', async () => {
    const made = await networks();
    await made.create({ Name: 'auto' });
    await made.create({ Name: 'fixed', IPAM: { Config: [{ Subnet: '10.0.0.0/24' }] } });
    const ask = (network: string, IPv4Address: string) => () => checkEndpoint(made.find(network), { IPAMConfig: { IPv4Address } });
    expect(ask('bridge', '172.17.0.9')).toThrow('user specified IP address is supported on user defined networks only');
    expect(ask('auto', '172.18.0.9')).toThrow('only when connecting to networks with user configured subnets');
    expect(ask('fixed', '10.0.1.9')).toThrow('no configured subnet or ip-range contain the IP address 10.0.1.9');
    expect(ask('fixed', '10.0.0.9')).not.toThrow();
    expect(() => checkEndpoint(made.find('bridge'), { Aliases: ['x'] })).toThrow('only supported for user-defined networks');
    // A subnet whose family is off is shown, and taken for the client's word.
    await made.create({ Name: 'off', IPAM: { Config: [{ Subnet: '2001:db8::/64', Gateway: '2001:db8::1' }] } });
    expect(made.inspect('off')).toMatchObject({
      EnableIPv6: false,
      IPAM: { Config: [{ Gateway: expect.any(String) }, { Subnet: '2001:db8::/64', Gateway: '2001:db8::1' }] },
    });
    expect(() => checkEndpoint(made.find('off'), { IPAMConfig: { IPv6Address: '2001:db8::5' } })).not.toThrow();
    expect(() => checkEndpoint(made.find('off'), { IPAMConfig: { IPv6Address: '2001:db9::5' } })).toThrow('2001:db9::5');
    expect(networkSubnets(made.find('off')).map(({ cidr }) => cidr.family)).toEqual([4]);
    expect(() => checkEndpoint(made.find('fixed'), { MacAddress: 'zz' })).toThrow('invalid MAC address');
  });

  it('may have settings of its interface, which are named by dockerd’s rules', async () => {
    const made = await networks();
    const wish = (text: string) => ({ DriverOpts: { 'com.docker.network.endpoint.sysctls': text } });
    expect(endpointSysctls(wish('net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.neigh.ifname.a.b=2'), 'eth0.7')).toEqual({
      'net/ipv4/conf/eth0.7/log_martians': '1',
      'net/ipv6/neigh/eth0.7/a/b': '2',
    });
    for (const bad of ['net.ipv4.ip_forward=1', 'net.core.conf.IFNAME.x=1', 'kernel.ipv4.conf.IFNAME.x=1', 'net.ipv4.conf.eth0.x=1']) {
      expect(() => checkEndpoint(made.find('bridge'), wish(bad))).toThrow(
        `invalid endpoint settings:\nunrecognised network interface sysctl '${bad}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'`,
      );
    }
  });

  it('has a MAC address of its address, and names without doubles', () => {
    expect(macAddress(undefined, '172.17.0.2')).toBe('02:42:ac:11:00:02');
    expect(macAddress('AA-bb-cc-dd-ee-ff', '172.17.0.2')).toBe('aa:bb:cc:dd:ee:ff');
    const container = { containerName: 'web', containerId: 'f'.repeat(64), hostname: 'f'.repeat(12) };
    expect(dnsNames(container, { Aliases: ['a', 'web'] })).toEqual(['web', 'a', 'ffffffffffff']);
  });
});
