import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { busyboxImage, waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { useStack } from './stack.ts';

const stack = useStack();
const must = (...args: string[]) => stack.host.mustDocker(...args);
const refused = async (...args: string[]) => (await stack.host.docker(...args)).stderr;

let folder = '';
let plugin: ChildProcess | undefined;
let networkFolder = '';
let networkPlugin: ChildProcess | undefined;

async function begin(program: string, socket: string, ...args: string[]): Promise<ChildProcess> {
  rmSync(socket, { force: true });
  const child = stack.host.spawn(process.execPath, [join(import.meta.dirname, program), socket, ...args]);
  await new Promise<void>((resolve) => child.stdout?.once('data', () => resolve()));
  return child;
}

async function end(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined) return;
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGKILL');
  await gone;
}

/** Starts the plugin whose socket the description in /etc/docker/plugins names. */
async function startPlugin(): Promise<void> {
  plugin = await begin('volumePlugin.ts', join(folder, 'plugin.sock'), folder);
}

async function stopPlugin(): Promise<void> {
  await end(plugin);
  plugin = undefined;
}

/** What the plugin was asked since the last time, without questions that change nothing. */
function calls(): string[] {
  const path = join(folder, 'calls');
  const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean) : [];
  writeFileSync(path, '');
  return lines
    .map((line) => JSON.parse(line) as { method: string; Name: string })
    .filter(({ method }) => /Create|Remove|Mount$|Unmount/.test(method))
    .map(({ method, Name }) => `${method.replace('VolumeDriver.', '')} ${Name}`);
}

beforeAll(async () => {
  folder = join(stack.host.filesDirectory, 'plugin');
  mkdirSync(folder);
  // Folders that only this host sees.
  await stack.host.sh('mkdir -p /etc/docker && mount -t tmpfs tmpfs /etc/docker && mkdir /etc/docker/plugins');
  await stack.host.sh(`echo unix://${join(folder, 'plugin.sock')} > /etc/docker/plugins/blue.spec`);
  await startPlugin();
  networkFolder = join(stack.host.filesDirectory, 'networkPlugin');
  mkdirSync(networkFolder);
  await stack.host.sh(`echo '{"Addr":"unix://${join(networkFolder, 'plugin.sock')}"}' > /etc/docker/plugins/red.json`);
  networkPlugin = await begin('networkPlugin.ts', join(networkFolder, 'plugin.sock'), networkFolder);
});

afterAll(async () => {
  await stopPlugin();
  await end(networkPlugin);
  await stack.host.sh('umount /etc/docker');
});

describe('a volume plugin', () => {
  it('makes, shows, lists and removes its volumes', async () => {
    expect(await must('info', '-f', '{{json .Plugins.Volume}}')).toContain('"blue"');
    await must('volume', 'create', '-d', 'blue', '-o', 'size=big', '--label', 'a=b', 'first');
    expect(readFileSync(join(folder, 'calls'), 'utf8')).toContain('"Opts":{"size":"big"}');
    const [volume] = JSON.parse(await must('volume', 'inspect', 'first'));
    expect(volume).toMatchObject({
      Name: 'first',
      Driver: 'blue',
      Scope: 'global',
      Mountpoint: join(folder, 'volumes/first'),
      Status: { colour: 'blue' },
      Options: { size: 'big' },
      Labels: { a: 'b' },
    });
    expect(await must('volume', 'ls', '--format', '{{.Driver}} {{.Name}}')).toBe('blue first');
    expect(await must('volume', 'ls', '-q', '--filter', 'driver=local')).toBe('');
    // Only local volumes are pruned.
    await must('volume', 'prune', '-af');
    expect(await refused('volume', 'create', '-d', 'local', 'first')).toContain("driver 'blue' already has volume 'first'");
    await must('volume', 'rm', 'first');
    expect(calls()).toEqual(['Create first', 'Remove first']);
  });

  it('mounts for each container, and keeps what was written', async () => {
    await must('run', '--rm', '-v', 'kept:/x', '--volume-driver', 'blue', stack.busybox, 'sh', '-c', 'echo here > /x/file');
    expect(calls()).toEqual(['Create kept', 'Mount kept', 'Unmount kept']);
    const id = await must('run', '-d', '--mount', 'type=volume,src=kept,dst=/y,volume-driver=blue', stack.busybox, 'sleep', '1000');
    expect(await must('exec', id, 'cat', '/y/file')).toBe('here');
    expect(await must('inspect', '-f', '{{range .Mounts}}{{.Driver}} {{.Source}}{{end}}', id)).toBe(`blue ${join(folder, 'volumes/kept')}`);
    expect(await refused('volume', 'rm', 'kept')).toContain(`volume is in use - [${id}]`);
    await must('rm', '-f', id);
    await must('volume', 'rm', 'kept');
    expect(calls()).toEqual(['Mount kept', 'Unmount kept', 'Remove kept']);
  });

  it('gets what the image has at the mount point', async () => {
    const image = await busyboxImage({
      layers: [
        [
          { path: 'data/', mode: 0o755 },
          { path: 'data/seed', content: 'planted' },
        ],
      ],
    });
    const reference = await stack.push(image, 'plugins/seeded');
    expect(await must('run', '--rm', '-v', 'seeded:/data', '--volume-driver', 'blue', reference, 'cat', '/data/seed')).toBe('planted');
    await must('volume', 'rm', 'seeded');
    calls();
  });

  it('has volumes of its own, which are shown and can be used', async () => {
    mkdirSync(join(folder, 'volumes/foreign'));
    expect(await must('volume', 'ls', '--format', '{{.Driver}} {{.Name}}')).toBe('blue foreign');
    expect(await must('volume', 'inspect', '-f', '{{.Driver}} {{.Scope}}', 'foreign')).toBe('blue global');
    rmSync(join(folder, 'volumes/foreign'), { recursive: true });
    expect(await refused('volume', 'inspect', 'foreign')).toContain('get foreign: no such volume');
  });

  it('says in its own words what it cannot do, and nothing is left of it', async () => {
    writeFileSync(join(folder, 'fail-VolumeDriver.Create'), 'out of paint');
    expect(await refused('volume', 'create', '-d', 'blue', 'no')).toContain('create no: VolumeDriver.Create: out of paint');
    expect((await stack.host.docker('run', '-v', 'no:/x', '--volume-driver', 'blue', stack.busybox)).code).toBe(125);
    rmSync(join(folder, 'fail-VolumeDriver.Create'));
    writeFileSync(join(folder, 'fail-VolumeDriver.Mount'), 'wall is wet');
    expect(await refused('run', '--name', 'wet', '-v', 'no:/x', '--volume-driver', 'blue', stack.busybox)).toContain('wall is wet');
    rmSync(join(folder, 'fail-VolumeDriver.Mount'));
    await must('rm', 'wet');
    await must('volume', 'rm', 'no');
    expect(await must('volume', 'ls', '-q')).toBe('');
    calls();
  });

  it('that is down is reported, does not hold up a container’s end, and serves again when it is back', async () => {
    const id = await must('run', '-d', '-v', 'later:/x', '--volume-driver', 'blue', stack.busybox, 'sleep', '1000');
    await stopPlugin();
    expect(await refused('volume', 'create', '-d', 'blue', 'no')).toContain('connect: connection refused');
    expect(await must('volume', 'ls', '-q')).toBe('later');
    await must('rm', '-f', id);
    expect(await refused('volume', 'rm', 'later')).toContain('remove later: ');
    await startPlugin();
    await waitFor(async () => (await stack.host.docker('volume', 'inspect', 'later')).code === 0);
    await must('volume', 'rm', 'later');
    expect(existsSync(join(folder, 'volumes/later'))).toBe(false);
  });

  it('that is slow holds up nobody else', async () => {
    const waiting = join(folder, 'wait-VolumeDriver.Create');
    writeFileSync(waiting, '');
    const slow = must('volume', 'create', '-d', 'blue', 'slow');
    await waitFor(() => calls().includes('Create slow'), { what: 'the plugin to be asked' });
    expect(await must('run', '--rm', '-v', 'quick:/x', stack.busybox, 'echo', 'done')).toBe('done');
    expect(await must('volume', 'ls', '-q')).toBe('quick');
    await must('volume', 'rm', 'quick');
    rmSync(waiting);
    expect(await slow).toBe('slow');
    await must('volume', 'rm', 'slow');
    calls();
  });

  it('that is not there is refused in dockerd’s words', async () => {
    expect(await refused('volume', 'create', '-d', 'nosuch', 'no')).toContain(
      'create no: error looking up volume plugin nosuch: plugin "nosuch" not found',
    );
    expect(await refused('network', 'create', '-d', 'nosuch', 'no')).toContain('plugin "nosuch" not found');
  });
});

interface NetworkCall {
  readonly method: string;
  readonly [field: string]: unknown;
}

/** What the network plugin was asked since the last time. */
function networkCalls(): NetworkCall[] {
  const path = join(networkFolder, 'calls');
  const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean) : [];
  writeFileSync(path, '');
  return lines.map((line) => JSON.parse(line));
}

const methodsOf = (calls: readonly NetworkCall[]): string[] => calls.map(({ method }) => method);
const links = async (): Promise<string> => stack.host.sh('ip -o link');
const createRed = (name: string, ...args: string[]): Promise<string> =>
  must('network', 'create', '-d', 'red', '--ipam-driver', 'red', ...args, name);

describe('a network plugin', () => {
  it('makes a network with the addresses of an address plugin, and containers on it reach each other', async () => {
    const id = await createRed(
      'warm',
      '--subnet',
      '10.77.0.0/16',
      '--gateway',
      '10.77.0.1',
      '--aux-address',
      'printer=10.77.0.2',
      '-o',
      'colour=red',
      '--ipam-opt',
      'a=b',
    );
    const made = networkCalls();
    expect(made).toContainEqual({
      method: 'IpamDriver.RequestPool',
      AddressSpace: 'redLocal',
      Pool: '10.77.0.0/16',
      SubPool: '',
      Options: { a: 'b' },
      V6: false,
    });
    expect(made).toContainEqual({
      method: 'NetworkDriver.CreateNetwork',
      NetworkID: id,
      Options: { 'com.docker.network.enable_ipv6': false, 'com.docker.network.generic': { colour: 'red' } },
      IPv4Data: [{ AddressSpace: 'redLocal', Pool: '10.77.0.0/16', Gateway: '10.77.0.1/16', AuxAddresses: { printer: '10.77.0.2/16' } }],
      IPv6Data: [],
    });
    expect(await links()).toContain(`rb-${id.slice(0, 8)}`);
    expect(JSON.parse(await must('network', 'inspect', 'warm'))[0]).toMatchObject({
      Driver: 'red',
      Scope: 'local',
      IPAM: { Driver: 'red', Options: { a: 'b' }, Config: [{ Subnet: '10.77.0.0/16', Gateway: '10.77.0.1' }] },
    });
    expect(await must('info', '-f', '{{json .Plugins.Network}}')).toContain('"red"');

    await must('run', '-d', '--name', 'one', '--network', 'warm', '-p', '8085:80', stack.busybox, 'sleep', '1000');
    const two = await must('run', '-d', '--name', 'two', '--network', 'warm', '--ip', '10.77.0.50', stack.busybox, 'sleep', '1000');
    expect(await must('exec', 'one', 'ping', '-c', '1', '-W', '2', 'two')).toContain('(10.77.0.50)');
    const endpoint = JSON.parse(await must('inspect', '-f', '{{json .NetworkSettings.Networks.warm}}', 'two'));
    expect(endpoint).toMatchObject({ IPAddress: '10.77.0.50', Gateway: '10.77.0.1', MacAddress: expect.stringMatching(/^0a:ff:/) });
    expect(await must('exec', 'two', 'ip', 'link')).toContain(endpoint.MacAddress);
    const routes = await must('exec', 'two', 'ip', 'route');
    expect(routes).toContain('default via 10.77.0.1 dev red0');
    expect(routes).toContain('10.99.0.0/16 via 10.77.0.1 dev red0');
    // The ports are its to publish: we hold none.
    const asked = networkCalls();
    expect(asked.find(({ method, Options }) => method === 'NetworkDriver.Join' && JSON.stringify(Options).includes('8085'))).toBeDefined();
    expect(asked.filter(({ method }) => method === 'NetworkDriver.Join')[1]).toMatchObject({
      NetworkID: id,
      EndpointID: endpoint.EndpointID,
      SandboxKey: await must('inspect', '-f', '{{.NetworkSettings.SandboxKey}}', 'two'),
    });
    expect(await stack.host.sh('ss -ltn')).not.toContain(':8085');

    expect(await refused('network', 'rm', 'warm')).toContain('has active endpoints');
    expect(await refused('run', '--network', 'warm', '--ip', '10.77.0.50', stack.busybox)).toContain('remote: 10.77.0.50 is taken');
    networkCalls();
    await must('rm', '-f', two);
    expect(methodsOf(networkCalls())).toEqual([
      'NetworkDriver.RevokeExternalConnectivity',
      'NetworkDriver.Leave',
      'NetworkDriver.DeleteEndpoint',
      'IpamDriver.ReleaseAddress',
    ]);
    expect(await links()).not.toContain(`rh-${endpoint.EndpointID.slice(0, 8)}`);
    await must('rm', '-f', 'one');
    networkCalls();
    await must('network', 'rm', 'warm');
    expect(methodsOf(networkCalls())).toEqual([
      'NetworkDriver.DeleteNetwork',
      'IpamDriver.ReleaseAddress',
      'IpamDriver.ReleaseAddress',
      'IpamDriver.ReleasePool',
    ]);
    expect(await links()).not.toMatch(/ r[bhc]-/);
  });

  it('takes part in live connects, and knows its endpoints after a kill -9 of network-volume', async () => {
    await createRed('warm');
    await must('run', '-d', '--name', 'one', stack.busybox, 'sleep', '1000');
    await must('run', '-d', '--name', 'two', '--network', 'warm', stack.busybox, 'sleep', '1000');
    await must('network', 'connect', '--alias', 'uno', 'warm', 'one');
    await must('exec', 'two', 'ping', '-c', '1', '-W', '2', 'uno');
    await stack.host.kill('network-volume');
    await waitFor(async () => (await stack.host.docker('network', 'inspect', 'warm')).code === 0, {
      what: 'network-volume',
      timeoutMs: 20_000,
    });
    await must('exec', 'one', 'ping', '-c', '1', '-W', '2', 'two');
    networkCalls();
    await must('network', 'disconnect', 'warm', 'one');
    expect(await must('exec', 'one', 'ip', 'link')).not.toContain('red0');
    expect((await stack.host.docker('exec', 'two', 'ping', '-c', '1', '-W', '1', 'uno')).code).not.toBe(0);
    await must('rm', '-f', 'one', 'two');
    await must('network', 'rm', 'warm');
    expect(methodsOf(networkCalls()).filter((method) => /Delete|Release/.test(method))).toEqual([
      'NetworkDriver.DeleteEndpoint',
      'IpamDriver.ReleaseAddress',
      'NetworkDriver.DeleteEndpoint',
      'IpamDriver.ReleaseAddress',
      'NetworkDriver.DeleteNetwork',
      'IpamDriver.ReleaseAddress',
      'IpamDriver.ReleasePool',
    ]);
    expect(await links()).not.toMatch(/ r[bhc]-/);
  });

  it('may have a part in it only: a driver without addresses or with ours, addresses for a bridge', async () => {
    await must('network', 'create', '-d', 'red', '--ipam-driver', 'null', 'bare');
    expect(await must('network', 'inspect', '-f', '{{json .IPAM.Config}}', 'bare')).toBe('[{"Subnet":"0.0.0.0/0"}]');
    const bare = await must('run', '--rm', '--network', 'bare', stack.busybox, 'ip', '-o', 'address', 'show', 'dev', 'red0');
    expect(bare).not.toContain('inet ');
    await must('network', 'create', '-d', 'red', '--subnet', '10.78.0.0/24', '--subnet', '10.79.0.0/24', 'ours');
    expect(await must('run', '--rm', '--network', 'ours', stack.busybox, 'ip', '-o', 'address', 'show', 'dev', 'red0')).toContain(
      '10.78.0.2/24',
    );
    await must('network', 'create', '--ipam-driver', 'red', 'theirs');
    expect(await must('network', 'inspect', '-f', '{{.Driver}} {{.IPAM.Driver}} {{json .IPAM.Config}}', 'theirs')).toBe(
      'bridge red [{"Subnet":"10.88.0.0/16","Gateway":"10.88.0.1"}]',
    );
    const address = await must(
      'run',
      '--rm',
      '--network',
      'theirs',
      stack.busybox,
      'sh',
      '-c',
      'ip -o address show dev eth0; ping -c 1 -W 2 10.88.0.1',
    );
    expect(address).toContain('10.88.0.2/16');
    await must('network', 'rm', 'bare', 'ours', 'theirs');
    expect(methodsOf(networkCalls())).toContain('IpamDriver.ReleasePool');
  });

  it('that fails is told in its own words, and nothing stays', async () => {
    const failing = async (method: string, words: string, work: () => Promise<string>): Promise<void> => {
      writeFileSync(join(networkFolder, `fail-${method}`), words);
      expect(await work()).toContain(`remote: ${words}`);
      rmSync(join(networkFolder, `fail-${method}`));
    };
    const create = () => refused('network', 'create', '-d', 'red', '--ipam-driver', 'red', 'cold');
    await failing('IpamDriver.RequestPool', 'dry', create);
    await failing('IpamDriver.RequestAddress', 'none left', create);
    await failing('NetworkDriver.CreateNetwork', 'frozen', create);
    expect(await must('network', 'ls', '-q', '--filter', 'type=custom')).toBe('');
    await createRed('warm');
    const run = () => refused('run', '--rm', '--network', 'warm', stack.busybox, 'true');
    await failing('NetworkDriver.CreateEndpoint', 'no wire', run);
    await failing('NetworkDriver.Join', 'no plug', run);
    await must('run', '--rm', '--network', 'warm', stack.busybox, 'true');
    // What it will not do at an end holds up nobody.
    writeFileSync(join(networkFolder, 'fail-NetworkDriver.Leave'), 'stuck');
    await must('run', '--rm', '--network', 'warm', stack.busybox, 'true');
    rmSync(join(networkFolder, 'fail-NetworkDriver.Leave'));
    await must('network', 'rm', 'warm');
    expect(methodsOf(networkCalls()).at(-1)).toBe('IpamDriver.ReleasePool');
    expect(await links()).not.toMatch(/ r[bhc]-/);
    expect(await refused('network', 'create', '-d', 'blue', 'no')).toContain(
      'Plugin does not implement the requested driver: plugin="blue"',
    );
    expect(await refused('network', 'create', '--ipam-driver', 'nosuch', 'no')).toContain('plugin "nosuch" not found');
  });
});
