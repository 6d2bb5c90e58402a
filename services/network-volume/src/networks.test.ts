import { beforeEach, describe, expect, it } from 'vitest';
import { addressPools } from './addressPools.ts';
import { type Cidr, parseCidr } from './cidr.ts';
import { checkEndpoint, dnsNames, macAddress } from './endpoint.ts';
import { type MemoryRecords, memoryRecords } from './memoryRecords.ts';
import { Networks, type NetworksOptions } from './networks.ts';

class FakeKernel {
  readonly bridges = new Map<string, readonly string[]>();
  readonly rules = new Set<string>();
  foreign: string[] = [];
  routes: Cidr[] = [];
  ensureBridge = ({ name, addresses }: { name: string; addresses: readonly string[] }): void => void this.bridges.set(name, addresses);
  removeBridge = (name: string): void => void this.bridges.delete(name);
  isForeign = (name: string): boolean => this.foreign.includes(name);
  occupiedBlocks = (): Cidr[] => this.routes;
  enableForwarding = (): void => undefined;
  addNetwork = ({ bridge }: { bridge: string }): void => void this.rules.add(bridge);
  removeNetwork = ({ bridge }: { bridge: string }): void => void this.rules.delete(bridge);
}

let records: MemoryRecords;
let kernel: FakeKernel;

async function networks(defaultBridge: Partial<NetworksOptions['defaultBridge']> = {}): Promise<Networks> {
  const made = new Networks({
    records,
    bridges: kernel,
    rules: kernel,
    pools: addressPools([]),
    defaultBridge: { icc: true, ...defaultBridge },
  });
  await made.ensurePredefined();
  return made;
}

beforeEach(() => {
  records = memoryRecords();
  kernel = new FakeKernel();
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

  it.each([
    [{ Name: '' }, 'InvalidParameter'],
    [{ Name: '../x' }, 'InvalidParameter'],
    [{ Name: 'x', Driver: 'nonsense' }, 'NotFound'],
    [{ Name: 'x', Driver: 'host' }, 'Forbidden'],
    [{ Name: 'x', Driver: 'macvlan' }, 'NotImplemented'],
    [{ Name: 'x', IPAM: { Config: [{ Subnet: '172.17.0.0/24' }] } }, 'Forbidden'],
    [{ Name: 'x', IPAM: { Driver: 'y' } }, 'InvalidParameter'],
    [{ Name: 'x', EnableIPv4: false }, 'InvalidParameter'],
    [{ Name: 'x', Options: { 'com.docker.network.bridge.enable_icc': 'maybe' } }, 'InvalidParameter'],
    [{ Name: 'x', Options: { 'com.docker.network.bridge.name': 'a name/with;more' } }, 'InvalidParameter'],
    [{ Name: 'x', Options: { 'com.docker.network.driver.mtu': '1e9' } }, 'InvalidParameter'],
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

  it('is listed and pruned by filters', async () => {
    const made = await networks();
    await made.create({ Name: 'blue', Labels: { keep: '1' } });
    await made.create({ Name: 'red' });
    const names = (filters: Record<string, string[]>): string[] =>
      made.list(Object.fromEntries(Object.entries(filters).map(([name, values]) => [name, { values }]))).map(({ Name }) => Name);
    expect(names({ type: ['custom'] })).toEqual(['blue', 'red']);
    expect(names({ name: ['lu', 'none'] }).sort()).toEqual(['blue', 'none']);
    expect(names({ label: ['keep=1'] })).toEqual(['blue']);
    expect(names({ driver: ['host'] })).toEqual(['host']);
    expect(names({ dangling: ['true'] })).toEqual(['blue', 'red']);
    expect(() => names({ colour: ['x'] })).toThrow("invalid filter 'colour'");
    expect(() => names({ type: ['x'] })).toThrow("invalid filter: 'type'='x'");
    expect(await made.prune({ until: { values: ['1h'] } })).toEqual([]);
    expect(await made.prune({ 'label!': { values: ['keep'] } })).toEqual(['red']);
    expect(await made.prune({})).toEqual(['blue']);
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
    expect(() => checkEndpoint(made.find('fixed'), { MacAddress: 'zz' })).toThrow('invalid MAC address');
  });

  it('has a MAC address of its address, and names without doubles', () => {
    expect(macAddress(undefined, '172.17.0.2')).toBe('02:42:ac:11:00:02');
    expect(macAddress('AA-bb-cc-dd-ee-ff', '172.17.0.2')).toBe('aa:bb:cc:dd:ee:ff');
    const container = { containerName: 'web', containerId: 'f'.repeat(64), hostname: 'f'.repeat(12) };
    expect(dnsNames(container, { Aliases: ['a', 'web'] })).toEqual(['web', 'a', 'ffffffffffff']);
  });
});
