/** Hosts on one wire that share a nats-server which stands outside of them: overlay networks between their containers. */
import { busyboxImage, createLab, cutPower, type Lab, pushImage, startRegistry, type TestHost, waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const natsPort = 4222;
let lab: Lab;
let busybox = '';
const hosts = (): TestHost[] => lab.hosts.map(({ host }) => host);
const [first, second, third] = [() => hosts()[0] as TestHost, () => hosts()[1] as TestHost, () => hosts()[2] as TestHost];
const natsUrl = () => `nats://${lab.outsideAddress}:${natsPort}`;

async function run(host: TestHost, name: string, ...args: string[]): Promise<string> {
  await host.mustDocker('run', '-d', '--name', name, ...args, busybox, 'sleep', '1000');
  return host.mustDocker('inspect', '-f', '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}', name);
}

const answers = (host: TestHost, container: string, target: string): Promise<unknown> =>
  waitFor(async () => (await host.docker('exec', container, 'ping', '-c', '1', '-W', '1', target)).code === 0, {
    what: `${target} to answer ${container}`,
    timeoutMs: 60_000,
  });
/** Of the other hosts, what their ends of a network's tunnel have received so far. */
const received = (id: string): Promise<number[]> =>
  Promise.all(
    [second(), third()].map(async (host) => {
      const [link] = JSON.parse(await host.sh(`ip -j -s link show dev vx-${id.slice(0, 12)}`)) as {
        stats64: { rx: { packets: number } };
      }[];
      return link?.stats64.rx.packets ?? 0;
    }),
  );
const silent = async (host: TestHost, container: string, target: string): Promise<boolean> =>
  (await host.docker('exec', container, 'ping', '-c', '1', '-W', '1', target)).code !== 0;

/** The wire of a host, pulled or plugged. */
const wire = (host: TestHost, state: 'up' | 'down'): Promise<string> =>
  host.sh(`ip link set eth0 ${state}${state === 'up' ? `; ip route replace default via ${lab.outsideAddress}` : ''}`);

beforeAll(async () => {
  lab = await createLab({ hosts: 3 });
  const nats = lab.outside.spawn('nats-server', [
    '-a',
    lab.outsideAddress,
    '-p',
    String(natsPort),
    '-js',
    '-sd',
    `${lab.outside.filesDirectory}/nats`,
  ]);
  lab.outside.onDispose(() => void nats.kill('SIGKILL'));
  const image = await busyboxImage();
  await Promise.all(
    hosts().map(async (host) => {
      const registry = await startRegistry({ place: host, port: 5000 });
      host.onDispose(() => registry.stop());
      busybox = `${registry.address}/busybox:latest`;
      await pushImage(image, { address: registry.address, repository: 'busybox', tag: 'latest' }, host);
      await host.startStack({ env: { NATS_URL: natsUrl() }, timeoutMs: 200_000 });
      await host.mustDocker('pull', '-q', busybox);
    }),
  );
}, 400_000);

afterAll(async () => {
  for (const host of hosts()) await host.flotilla('down').catch(() => {});
  await lab.dispose();
}, 120_000);

describe('an overlay network', () => {
  it('is on every host, and its containers reach each other by name and address', async () => {
    const id = await first().mustDocker('network', 'create', '-d', 'overlay', '--attachable', '--subnet', '10.98.0.0/24', '--ipv6', 'sea');
    for (const host of hosts()) {
      await waitFor(async () => (await host.docker('network', 'inspect', '-f', '{{.Id}}', 'sea')).stdout.trim() === id, {
        what: 'the network',
      });
      expect(await host.mustDocker('network', 'ls', '--filter', 'driver=overlay', '--format', '{{.Name}} {{.Scope}}')).toBe('sea global');
    }
    const addresses = [
      await run(first(), 'one', '--network', 'sea'),
      await run(second(), 'two', '--network', 'sea', '--network-alias', 'port'),
      await run(third(), 'three', '--network', 'sea'),
    ];
    expect(new Set(addresses).size).toBe(3);
    await answers(first(), 'one', 'two');
    await answers(second(), 'two', 'three');
    await answers(third(), 'three', addresses[0] as string);
    await answers(first(), 'one', 'port');
    expect(await first().mustDocker('exec', 'one', 'nslookup', addresses[1] as string)).toContain('two.sea');
    // Nothing is learnt or flooded: entries are for exactly the others, and permanent.
    const entries = await first().sh(`bridge fdb show dev vx-${id.slice(0, 12)} | grep dst`);
    expect(entries.trim().split('\n')).toHaveLength(2);
    expect(entries).toContain(`dst ${lab.hosts[1]?.address} self permanent`);
    // A large packet goes through: the tunnel's headers are allowed for.
    expect((await first().docker('exec', 'one', 'ping', '-c', '1', '-W', '2', '-s', '4000', 'two')).code).toBe(0);
    // By IPv6 too, names and addresses, in both directions.
    const six = (host: TestHost, name: string): Promise<string> =>
      host.mustDocker('inspect', '-f', '{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end}}', name);
    const [ofOne, ofTwo] = [await six(first(), 'one'), await six(second(), 'two')];
    expect(ofOne).not.toBe(ofTwo);
    for (const target of ['two', ofTwo]) {
      expect((await first().docker('exec', 'one', 'ping', '-6', '-c', '1', '-W', '2', '-s', '4000', target)).stderr).toBe('');
    }
    expect((await second().docker('exec', 'two', 'ping', '-6', '-c', '1', '-W', '2', ofOne)).code).toBe(0);
    expect(await first().mustDocker('exec', 'one', 'nslookup', ofTwo)).toContain('two.sea');
    // The way out is the host's own.
    expect((await first().docker('exec', 'one', 'ping', '-c', '1', '-W', '2', lab.outsideAddress)).code).toBe(0);
  });

  it('floods nothing: what is for nobody reaches nobody, and what is for one host no other', async () => {
    const id = await first().mustDocker('network', 'inspect', '-f', '{{.Id}}', 'sea');
    const before = await received(id);
    const stray = await first().mustDocker('network', 'inspect', '-f', '{{(index .IPAM.Config 0).Gateway}}', 'sea');
    const [nobody, everybody] = [stray.replace(/\d+$/, '200'), stray.replace(/\d+$/, '255')];
    for (const target of [nobody, everybody, 'ff02::1%eth0']) {
      await first().docker('exec', 'one', 'ping', '-c', '3', '-i', '0.2', '-W', '1', target);
    }
    expect(await received(id)).toEqual(before);
    expect((await first().docker('exec', 'one', 'ping', '-c', '3', '-i', '0.2', '-W', '2', 'two')).code).toBe(0);
    const after = await received(id);
    expect(after[0]).toBeGreaterThanOrEqual((before[0] ?? 0) + 3);
    expect(after[1]).toBe(before[1]);
  });

  it('gives no address twice, whichever hosts ask at once', async () => {
    const wanted = await second().mustDocker('network', 'create', '-d', 'overlay', '--subnet', '10.99.0.0/28', 'pond');
    await waitFor(async () => (await third().docker('network', 'inspect', wanted)).code === 0);
    const starts = hosts().flatMap((host, index) => [0, 1, 2].map((round) => run(host, `p${index}${round}`, '--network', 'pond')));
    const addresses = await Promise.all(starts);
    expect(new Set(addresses).size).toBe(9);
    expect((await first().docker('run', '--rm', '--network', 'pond', '--ip', addresses[8] as string, busybox, 'true')).stderr).toContain(
      'Address already in use',
    );
    const brook = await first().mustDocker('network', 'create', '-d', 'overlay', 'brook');
    const shape = '{{.EnableIPv6}} {{range .IPAM.Config}}{{.Subnet}} {{.Gateway}}{{end}}';
    await waitFor(
      async () => (await third().docker('network', 'inspect', '-f', shape, brook)).stdout.trim() === 'false 10.0.0.0/24 10.0.0.1',
      {
        what: 'a subnet of the pool for such networks',
      },
    );
    await third().mustDocker('network', 'rm', 'brook');
    const refused = await first().docker('network', 'create', '-d', 'overlay', '--subnet', '10.99.0.0/24', 'lake');
    expect(refused.stderr).toContain('Pool overlaps with other one on this address space');
    expect((await third().docker('network', 'create', '-d', 'overlay', 'pond')).stderr).toContain('network with name pond already exists');
    expect((await first().docker('network', 'rm', 'pond')).stderr).toContain('has active endpoints');
    await Promise.all(hosts().map((host, index) => host.mustDocker('rm', '-f', ...[0, 1, 2].map((round) => `p${index}${round}`))));
    await waitFor(async () => (await first().docker('network', 'rm', 'pond')).code === 0, { what: 'pond to be removed' });
    for (const host of hosts())
      await waitFor(async () => (await host.docker('network', 'inspect', 'pond')).code !== 0, { what: 'pond to go' });
  });

  it('follows what containers do: stopped, renamed, connected while they run', async () => {
    await second().mustDocker('rename', 'two', 'deux');
    await answers(first(), 'one', 'deux');
    await second().mustDocker('network', 'disconnect', 'sea', 'deux');
    await waitFor(() => silent(first(), 'one', 'deux'), { what: 'deux to be unknown' });
    await second().mustDocker('network', 'connect', 'sea', 'deux');
    await answers(first(), 'one', 'deux');
    await second().mustDocker('restart', '-t', '0', 'deux');
    await answers(first(), 'one', 'deux');
  });

  it('goes on without its service, and when a host that was cut off is back', async () => {
    await first().kill('network-volume');
    await answers(first(), 'one', 'three');
    await first().waitHealthy('network-volume');
    await answers(first(), 'one', 'deux');
    await wire(third(), 'down');
    await waitFor(() => silent(first(), 'one', 'three'), { what: 'three to be out of reach' });
    await second().mustDocker('rm', '-f', 'deux');
    await run(second(), 'late', '--network', 'sea');
    await wire(third(), 'up');
    await answers(first(), 'one', 'three');
    await answers(third(), 'three', 'late');
  }, 240_000);

  it('outlives a host that loses its power: its names go, its addresses stay its own, and both are right when it is back', async () => {
    const id = await first().mustDocker('network', 'inspect', '-f', '{{.Id}}', 'sea');
    await third().mustDocker('update', '--restart', 'always', 'three');
    const address = await third().mustDocker('inspect', '-f', '{{.NetworkSettings.Networks.sea.IPAddress}}', 'three');
    await wire(third(), 'down');
    const booted = await cutPower(third());
    const named = async (host: TestHost, container: string, name: string): Promise<boolean> =>
      (await host.docker('exec', container, 'nslookup', '-type=a', `${name}.`)).code === 0;
    await waitFor(async () => !(await named(first(), 'one', 'three')), { what: 'the name to be told no more', timeoutMs: 60_000 });
    expect(await named(first(), 'one', 'late')).toBe(true);
    // Nobody can know whether its containers still run.
    const wish = ['run', '--rm', '--network', 'sea', '--ip', address, busybox, 'true'];
    expect((await second().docker(...wish)).stderr).toContain('Address already in use');
    await wire(third(), 'up');
    await third().startStack({ env: { NATS_URL: natsUrl() }, timeoutMs: 200_000 });
    await booted();
    await answers(first(), 'one', 'three');
    await answers(third(), 'three', 'late');
    // Entries are those of what runs now, and no more: one IPv4 and one IPv6 address of each of the two others.
    const now = await third().mustDocker('inspect', '-f', '{{.NetworkSettings.Networks.sea.IPAddress}}', 'three');
    const neighbours = JSON.parse(await first().sh(`ip -j neigh show dev vx-${id.slice(0, 12)}`)) as { dst: string; state: string[] }[];
    expect(neighbours.map(({ dst }) => dst)).toContain(now);
    expect(neighbours.filter(({ state }) => state.includes('PERMANENT'))).toHaveLength(4);
    const entries = await first().sh(`bridge fdb show dev vx-${id.slice(0, 12)} | grep dst`);
    expect(entries.trim().split('\n')).toHaveLength(2);
    expect(entries).toContain(`dst ${lab.hosts[2]?.address} self permanent`);
  }, 240_000);

  it('is refused encrypted, and leaves nothing on any host when it is removed', async () => {
    expect((await first().docker('network', 'create', '-d', 'overlay', '--opt', 'encrypted', 'secret')).stderr).toContain(
      'encrypted overlay networks are not supported',
    );
    await Promise.all([
      first().mustDocker('rm', '-f', 'one'),
      second().mustDocker('rm', '-f', 'late'),
      third().mustDocker('rm', '-f', 'three'),
    ]);
    await waitFor(async () => (await second().docker('network', 'rm', 'sea')).code === 0, { what: 'sea to be removed' });
    for (const host of hosts()) {
      await waitFor(async () => (await host.docker('network', 'inspect', 'sea')).code !== 0, { what: 'sea to go' });
      expect(await host.sh('ls /sys/class/net')).not.toMatch(/^(ov|vx)-/m);
    }
  });
});
