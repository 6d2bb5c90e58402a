/** What the options of a bridge network and of an endpoint do, by the kernel's own words and by packets from outside. */
import type { ChildProcess } from 'node:child_process';
import { connectOutside, waitFor } from '@flotilla/testkit';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { json, NetworkVolumeStack, type Sandbox, sandboxSpec } from './stack.ts';

const bridge = 'com.docker.network.bridge';
const subnet = '10.70.0.0/24';
const subnet6 = 'fd70::/64';
/** On the wire to outside: this host, and the one there. */
const [host6, outside6] = ['fd18::10', 'fd18::1'];

let stack: NetworkVolumeStack;
let outside: Awaited<ReturnType<typeof connectOutside>>;
let made: { networks: string[]; sandboxes: Sandbox[]; servers: ChildProcess[] };

beforeAll(async () => {
  stack = await NetworkVolumeStack.start();
  outside = await connectOutside(stack.host);
  // Somebody outside who knows the way to containers' own addresses.
  await outside.outside.sh(`ip route add 10.70.0.0/16 via ${outside.address}`);
  await stack.host.sh(`ip addr add ${host6}/64 dev eth0 nodad; ip route add default via ${outside6}`);
  await outside.outside.sh(`ip addr add ${outside6}/64 dev wire nodad; ip route add ${subnet6} via ${host6}`);
  made = { networks: [], sandboxes: [], servers: [] };
});
afterAll(() => stack.dispose());
afterEach(async () => {
  for (const server of made.servers.splice(0)) server.kill('SIGKILL');
  for (const { id } of made.sandboxes.splice(0)) await stack.sandboxes.release({ containerId: id, remove: true });
  for (const network of made.networks.splice(0)) await stack.networks.remove({ network });
});

async function network(name: string, options: Record<string, string>, more: object = {}): Promise<string> {
  const id = await stack.createNetwork({ Name: name, IPAM: { Config: [{ Subnet: subnet }] }, Options: options, ...more });
  made.networks.push(name);
  return `br-${id.slice(0, 12)}`;
}

async function container(wish: Parameters<NetworkVolumeStack['prepare']>[0]): Promise<Sandbox> {
  const sandbox = await stack.prepare(wish);
  made.sandboxes.push(sandbox);
  return sandbox;
}

const addressOn = (sandbox: Sandbox, name: string): string => sandbox.settings.Networks[name]?.IPAddress ?? '';

/** Python: a server at `port` that answers with the address of its client. */
const tellerProgram = (port: number, family = 'AF_INET'): string =>
  `import socket; s = socket.create_server(('', ${port}), family=socket.${family}); print('up')\nwhile True: c, peer = s.accept(); c.sendall(peer[0].encode()); c.close()`;

async function told(server: ChildProcess): Promise<void> {
  made.servers.push(server);
  await new Promise((resolve) => server.stdout?.once('data', resolve));
}

const teller = (sandbox: Sandbox, port: number, family?: string): Promise<void> =>
  told(stack.spawnInside(sandbox, '/usr/bin/python3', '-uc', tellerProgram(port, family)));

const tellerOutside = (port: number, family?: string): Promise<void> =>
  told(outside.outside.spawn('/usr/bin/python3', ['-uc', tellerProgram(port, family)]));

/** What the server says; empty when it is not reached. */
async function ask(place: { sh(script: string): Promise<string> }, address: string, port: number): Promise<string> {
  return (await place.sh(`timeout 1 busybox nc ${address} ${port} </dev/null || true`)).trim();
}

const pings = async (place: { sh(script: string): Promise<string> }, address: string): Promise<boolean> =>
  (await place.sh(`ping -c1 -W1 ${address} || true`)).includes('1 received');

describe('gateway modes', () => {
  it('nat: only published ports of the host are reached', async () => {
    await network('lan', {});
    const web = await container({ networkMode: 'lan', ports: { '80/tcp': [{ HostPort: '8080' }] } });
    await teller(web, 80);
    expect(await ask(outside.outside, outside.address, 8080)).toBe(outside.outsideAddress);
    expect(await ask(outside.outside, addressOn(web, 'lan'), 80)).toBe('');
    expect(await pings(outside.outside, addressOn(web, 'lan'))).toBe(false);
  });

  it('nat-unprotected: all ports are, by the container’s address', async () => {
    await network('lan', { [`${bridge}.gateway_mode_ipv4`]: 'nat-unprotected' });
    const web = await container({ networkMode: 'lan', ports: { '80/tcp': [{ HostPort: '8080' }] } });
    for (const port of [80, 81]) await teller(web, port);
    expect(await ask(outside.outside, outside.address, 8080)).toBe(outside.outsideAddress);
    expect(await ask(outside.outside, addressOn(web, 'lan'), 81)).toBe(outside.outsideAddress);
  });

  it('routed: published ports are, by the container’s address, and nothing is translated', async () => {
    await network('lan', { [`${bridge}.gateway_mode_ipv4`]: 'routed' });
    const web = await container({ networkMode: 'lan', ports: { '80/tcp': [{ HostPort: '8080' }] } });
    for (const port of [80, 81]) await teller(web, port);
    expect(web.settings.Ports['80/tcp']).toEqual([
      { HostIp: '0.0.0.0', HostPort: '' },
      { HostIp: '::', HostPort: '8080' },
    ]);
    const address = addressOn(web, 'lan');
    expect(await ask(outside.outside, address, 80)).toBe(outside.outsideAddress);
    expect(await pings(outside.outside, address)).toBe(true);
    expect(await ask(outside.outside, address, 81)).toBe('');
    expect(await ask(outside.outside, outside.address, 8080)).toBe('');
    // What it sends has its own address, and no other.
    await tellerOutside(7000);
    expect((await stack.inside(web, `timeout 1 busybox nc ${outside.outsideAddress} 7000 </dev/null`)).trim()).toBe(address);
    // The rules come back with it, and go with the container.
    await stack.host.sh('nft flush ruleset');
    await waitFor(async () => (await stack.host.sh('nft list ruleset')).includes(`${address} . tcp . 80`), { what: 'the rules' });
    expect(await ask(outside.outside, address, 81)).toBe('');
    await stack.sandboxes.release({ containerId: web.id, remove: true });
    expect(await stack.host.sh('nft list set inet flotilla opened4')).not.toContain('elements');
  });

  it('isolated: the bridge has no address, and its containers reach each other only', async () => {
    const name = await network('lan', { [`${bridge}.gateway_mode_ipv4`]: 'isolated' }, { Internal: true });
    const [one, two] = [await container({ networkMode: 'lan' }), await container({ networkMode: 'lan' })];
    expect(await stack.host.sh(`ip -4 -o addr show dev ${name}`)).toBe('');
    expect(addressOn(one, 'lan')).toBe('10.70.0.1');
    expect(await stack.inside(one, `ping -c1 -W2 ${addressOn(two, 'lan')}`)).toContain('1 received');
  });
});

describe('gateway modes of IPv6', () => {
  const dualStack = { EnableIPv6: true, IPAM: { Config: [{ Subnet: subnet }, { Subnet: subnet6 }] } };

  it.each([
    // Whether outside reaches the host's published port, the container's own port 80, its port 81 that is not published, and it by ping.
    { mode: 'nat', reached: [true, false, false, false], leavesAs: 'the host' },
    { mode: 'nat-unprotected', reached: [true, true, true, true], leavesAs: 'the host' },
    { mode: 'routed', reached: [false, true, false, true], leavesAs: 'itself' },
  ])('$mode: what is reached from outside, and how packets leave', async ({ mode, reached, leavesAs }) => {
    await network('lan', { [`${bridge}.gateway_mode_ipv6`]: mode }, dualStack);
    const web = await container({ networkMode: 'lan', ports: { '80/tcp': [{ HostPort: '8080' }] } });
    const address = web.settings.Networks.lan?.GlobalIPv6Address ?? '';
    for (const port of [80, 81]) await teller(web, port, 'AF_INET6');
    // IPv4 of the same network is as ever.
    expect(web.settings.Ports['80/tcp']).toContainEqual({ HostIp: '0.0.0.0', HostPort: '8080' });
    expect(web.settings.Ports['80/tcp']).toContainEqual({ HostIp: '::', HostPort: mode === 'routed' ? '' : '8080' });
    expect([
      (await ask(outside.outside, host6, 8080)) === outside6,
      (await ask(outside.outside, address, 80)) === outside6,
      (await ask(outside.outside, address, 81)) === outside6,
      await pings(outside.outside, address),
    ]).toEqual(reached);
    await tellerOutside(7000, 'AF_INET6');
    expect((await stack.inside(web, `timeout 1 busybox nc ${outside6} 7000 </dev/null`)).trim()).toBe(
      leavesAs === 'itself' ? address : host6,
    );
  });

  it('isolated: the bridge has no address, and its containers reach each other only', async () => {
    const name = await network('lan', { [`${bridge}.gateway_mode_ipv6`]: 'isolated' }, { ...dualStack, Internal: true });
    const [one, two] = [await container({ networkMode: 'lan' }), await container({ networkMode: 'lan' })];
    const address = two.settings.Networks.lan?.GlobalIPv6Address ?? '';
    expect(await stack.host.sh(`ip -6 -o addr show dev ${name} scope global`)).toBe('');
    expect(await stack.inside(one, `ping -c1 -W2 ${address}`)).toContain('1 received');
    expect(await stack.inside(one, 'ip -6 route show default')).toBe('');
    expect(await pings(outside.outside, address)).toBe(false);
    expect(await pings(stack.host, address)).toBe(false);
  });
});

describe('a bridge that somebody else made', () => {
  it('gets what it lacks, is used, keeps its own, and is left in place over kill -9 and the network’s removal', async () => {
    await stack.host.sh('ip link add theirs type bridge; ip addr add 192.0.2.1/24 dev theirs; ip link set theirs mtu 1400 alias mine');
    await network('lan', { [`${bridge}.name`]: 'theirs' });
    const addresses = async (): Promise<string[]> =>
      JSON.parse(await stack.host.sh('ip -j -4 addr show dev theirs'))[0].addr_info.map(
        (one: { local: string; prefixlen: number }) => `${one.local}/${one.prefixlen}`,
      );
    expect(await addresses()).toEqual(['192.0.2.1/24', '10.70.0.1/24']);
    const web = await container({ networkMode: 'lan', ports: { '80/tcp': [{ HostPort: '8080' }] } });
    await teller(web, 80);
    expect(await ask(outside.outside, outside.address, 8080)).toBe(outside.outsideAddress);
    await stack.stopService('SIGKILL');
    await stack.startService();
    expect(await addresses()).toEqual(['192.0.2.1/24', '10.70.0.1/24']);
    expect(await ask(outside.outside, outside.address, 8080)).toBe(outside.outsideAddress);
    await stack.sandboxes.release({ containerId: web.id, remove: true });
    await stack.networks.remove({ network: 'lan' });
    made.networks.pop();
    expect(await addresses()).toEqual(['192.0.2.1/24', '10.70.0.1/24']);
    expect(await stack.host.sh('ip -o link show dev theirs')).toMatch(/mtu 1400 .*state (UP|DOWN|UNKNOWN).*alias mine/s);
    await waitFor(async () => (await stack.host.sh('ls /sys/class/net/theirs/brif')) === '', { what: 'its ports to go' });
    await stack.host.sh('ip link del theirs');
  });

  it('must be one', async () => {
    await expect(network('lan', { [`${bridge}.name`]: 'eth0' })).rejects.toMatchObject({
      kind: 'System',
      message: 'existing interface eth0 is not a bridge',
    });
  });
});

describe('macvlan modes', () => {
  it.each([
    { mode: 'bridge', reached: true },
    { mode: 'private', reached: false },
  ])('$mode: whether neighbours on one parent reach each other, while both are reached from its wire', async ({ mode, reached }) => {
    const Config = [{ Subnet: '198.18.0.0/24', IPRange: '198.18.0.64/26' }];
    await network('lan', { parent: 'eth0', macvlan_mode: mode }, { Driver: 'macvlan', IPAM: { Config } });
    const [one, two] = [await container({ networkMode: 'lan' }), await container({ networkMode: 'lan' })];
    expect(await pings({ sh: (script) => stack.inside(one, script) }, addressOn(two, 'lan'))).toBe(reached);
    for (const sandbox of [one, two]) expect(await pings(outside.outside, addressOn(sandbox, 'lan'))).toBe(true);
  });
});

describe('other options', () => {
  it('trusted_host_interfaces: from there published ports are reached by the container’s address', async () => {
    await network('lan', { [`${bridge}.trusted_host_interfaces`]: 'eth7:eth0' });
    const web = await container({ networkMode: 'lan', ports: { '80/tcp': [{ HostPort: '8080' }] } });
    for (const port of [80, 81]) await teller(web, port);
    expect(await ask(outside.outside, addressOn(web, 'lan'), 80)).toBe(outside.outsideAddress);
    expect(await ask(outside.outside, addressOn(web, 'lan'), 81)).toBe('');
    expect(await ask(outside.outside, outside.address, 8080)).toBe(outside.outsideAddress);
  });

  it('enable_ip_masquerade and host_ipv4 say with which address packets leave', async () => {
    await tellerOutside(7000);
    const second = outside.address.replace(/\d+$/, '77');
    await stack.host.sh(`ip addr add ${second}/24 dev eth0`);
    const leaves = async (options: Record<string, string>): Promise<string> => {
      await network('lan', options);
      const sandbox = await stack.prepare({ networkMode: 'lan' });
      const seen = (await stack.inside(sandbox, `timeout 1 busybox nc ${outside.outsideAddress} 7000 </dev/null`)).trim();
      await stack.sandboxes.release({ containerId: sandbox.id, remove: true });
      await stack.networks.remove({ network: made.networks.pop() ?? '' });
      return seen === addressOn(sandbox, 'lan') ? 'its own' : seen;
    };
    expect(await leaves({})).toBe(outside.address);
    expect(await leaves({ [`${bridge}.enable_ip_masquerade`]: 'false' })).toBe('its own');
    expect(await leaves({ 'com.docker.network.host_ipv4': second })).toBe(second);
    await stack.host.sh(`ip addr del ${second}/24 dev eth0`);
  });

  it('name, mtu, inhibit_ipv4, host_binding_ipv4, container_iface_prefix', async () => {
    await network('lan', {
      [`${bridge}.name`]: 'lan0',
      [`${bridge}.inhibit_ipv4`]: 'true',
      [`${bridge}.host_binding_ipv4`]: '127.0.0.1',
      'com.docker.network.driver.mtu': '1400',
      'com.docker.network.container_iface_prefix': 'lan',
    });
    const web = await container({ networkMode: 'lan', ports: { '80/tcp': [{ HostPort: '8080' }] } });
    expect(await stack.host.sh('ip -4 -o addr show dev lan0')).toBe('');
    expect(web.settings.Ports['80/tcp']).toEqual([{ HostIp: '127.0.0.1', HostPort: '8080' }]);
    expect(await stack.inside(web, 'ip -o link show dev lan0')).toContain('mtu 1400');
    expect(await stack.inside(web, 'ip -4 route')).toContain('default via 10.70.0.1 dev lan0');
    expect(await stack.inside(web, 'ip -o link')).not.toContain('eth0');
  });

  it('a gateway for containers beside the bridge’s own', async () => {
    const Config = [{ Subnet: subnet, Gateway: '10.70.0.1', AuxiliaryAddresses: { DefaultGatewayIPv4: '10.70.0.254' } }];
    const name = await network('lan', {}, { IPAM: { Config } });
    const one = await container({ networkMode: 'lan' });
    expect(await stack.inside(one, 'ip -4 route')).toContain('default via 10.70.0.254 dev eth0');
    expect(await stack.host.sh(`ip -4 -o addr show dev ${name}`)).toContain('10.70.0.1/24');
  });

  it('endpoint.ifname and endpoint.sysctls, at start and at connect', async () => {
    await network('lan', {});
    const driverOpts = (ifname: string, sysctls: string) => ({
      DriverOpts: { 'com.docker.network.endpoint.ifname': ifname, 'com.docker.network.endpoint.sysctls': sysctls },
    });
    const spec = sandboxSpec({ endpoints: { bridge: driverOpts('wan', 'net.ipv4.conf.IFNAME.log_martians=1') } });
    const one = await container(spec as never);
    expect((await stack.inside(one, 'cat /proc/sys/net/ipv4/conf/wan/log_martians; ip -4 -o addr show dev wan')).trim()).toMatch(
      /^1\n.*172\.17\.0\./,
    );
    const connect = (endpoint: object) => stack.sandboxes.connect({ network: 'lan', spec, endpointJson: json(endpoint), running: true });
    await expect(connect(driverOpts('wan', 'net.ipv4.conf.IFNAME.forwarding=0'))).rejects.toThrow(
      'error renaming interface "eth0" to "wan": file exists',
    );
    await expect(connect(driverOpts('a name/of nothing', 'net.ipv4.conf.IFNAME.forwarding=0'))).rejects.toThrow('invalid argument');
    await expect(connect(driverOpts('lan', 'net.ipv4.conf.IFNAME.nosuch=0'))).rejects.toThrow(
      'failed to set /proc/sys/net/ipv4/conf/lan/nosuch=0: no such file or directory',
    );
    await connect(driverOpts('lan', 'net.ipv4.conf.IFNAME.forwarding=0'));
    expect(await stack.inside(one, 'cat /proc/sys/net/ipv4/conf/lan/forwarding; ip -4 -o addr show dev lan')).toMatch(/^0\n.*10\.70\.0\.2/);
  });
});
