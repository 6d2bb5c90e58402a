/**
 * Containers start, stop, join and leave networks in any order, the service is killed in the midst of it, and a plain model says what must be there: then
 * records, interfaces, addresses, routes, published ports and hosts files agree with it. FLOTILLA_MODEL_SEED repeats a run; FLOTILLA_SOAK makes it long.
 */
import { randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { json, NetworkVolumeStack, type Sandbox, sandboxSpec } from './stack.ts';

const isSoak = process.env.FLOTILLA_SOAK === '1';
const seed = Number(process.env.FLOTILLA_MODEL_SEED ?? randomInt(2 ** 31));
const rounds = isSoak ? 60 : 3;
const stepsPerRound = 12;

/** By name, as the default gateway is chosen. */
const networkNames = ['alpha', 'beta', 'bridge', 'inner'] as const;
type Network = (typeof networkNames)[number];

interface Container {
  readonly name: string;
  readonly id: string;
  readonly hostPort: number;
  readonly networks: Set<Network>;
  running: boolean;
  sandbox?: Sandbox;
}

let stack: NetworkVolumeStack;
let bridges: Map<Network, string>;
const containers: Container[] = [];

/** Mulberry32. */
let state = seed;
function random(below: number): number {
  state = (state + 0x6d2b79f5) | 0;
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
  mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed);
  return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
}

beforeAll(async () => {
  stack = await NetworkVolumeStack.start();
  await stack.createNetwork({ Name: 'alpha' });
  await stack.createNetwork({ Name: 'beta', EnableIPv6: true });
  await stack.createNetwork({ Name: 'inner', Internal: true });
  const bridgeOf = async (name: Network) =>
    name === 'bridge' ? 'docker0' : `br-${String((await stack.inspectNetwork(name)).Id).slice(0, 12)}`;
  bridges = new Map(await Promise.all(networkNames.map(async (name) => [name, await bridgeOf(name)] as const)));
  for (let index = 0; index < 8; index += 1) {
    const name = `c${index}`;
    const networks = new Set([networkNames[random(networkNames.length)] ?? 'bridge']);
    containers.push({ name, id: sandboxSpec().containerId, hostPort: 20_000 + index, networks, running: false });
  }
});
afterAll(() => stack.dispose());

function specOf(container: Container): ReturnType<typeof sandboxSpec> {
  const [mode = 'none'] = container.networks;
  return sandboxSpec({
    containerId: container.id,
    containerName: container.name,
    networkMode: mode,
    endpoints: Object.fromEntries([...container.networks].map((network) => [network, {}])),
    ports: { '80/tcp': [{ HostIp: '0.0.0.0', HostPort: String(container.hostPort) }] },
  });
}

async function start(container: Container): Promise<void> {
  container.running = true;
  container.sandbox = await stack.prepare(specOf(container) as never);
}

async function stop(container: Container): Promise<void> {
  container.running = false;
  await stack.sandboxes.release({ containerId: container.id, remove: false });
}

async function connect(container: Container, network: Network): Promise<void> {
  const spec = specOf(container);
  container.networks.add(network);
  await stack.sandboxes
    .connect({ network, spec, endpointJson: json({}), running: container.running })
    .catch(unless('already exists in network'));
}

async function disconnect(container: Container, network: Network): Promise<void> {
  container.networks.delete(network);
  const call = { network, containerId: container.id, containerName: container.name, force: false, running: container.running };
  await stack.sandboxes.disconnect(call).catch(unless('is not connected to network'));
}

/** A call that is repeated because its answer was lost may find its work done. */
function unless(words: string): (error: Error) => void {
  return (error) => {
    if (!error.message.includes(words)) throw error;
  };
}

/** One thing that may happen to a container now; called again it does what is left of it. */
function nextStep(container: Container): () => Promise<void> {
  const network = networkNames[random(networkNames.length)] ?? 'bridge';
  if (random(3) === 0) return container.running ? () => stop(container) : () => start(container);
  if (!container.networks.has(network)) return () => connect(container, network);
  return container.networks.size > 1 ? () => disconnect(container, network) : () => start(container);
}

interface Shown {
  readonly IPAM: { Config: { Gateway: string }[] };
  readonly Containers: Record<string, { Name: string; IPv4Address: string; IPv6Address: string }>;
}

async function check(): Promise<void> {
  const running = containers.filter((container) => container.running);
  const shown = new Map<Network, Shown['Containers']>();
  const gateways = new Map<Network, string | undefined>();
  for (const name of networkNames) {
    const { Containers, IPAM } = (await stack.inspectNetwork(name)) as unknown as Shown;
    shown.set(name, Containers);
    gateways.set(name, IPAM.Config[0]?.Gateway);
  }
  for (const [network, members] of shown) {
    const wanted = running.filter(({ networks }) => networks.has(network)).map(({ name }) => name);
    expect(
      Object.values(members)
        .map(({ Name }) => Name)
        .sort(),
      `records of ${network}`,
    ).toEqual(wanted.sort());
    const addresses = Object.values(members).map(({ IPv4Address }) => IPv4Address);
    expect(new Set(addresses).size, `addresses of ${network}`).toBe(addresses.length);
  }
  // Interfaces go in the background.
  const portsOf = async (bridge: string): Promise<number> =>
    (await stack.host.sh(`ls /sys/class/net/${bridge}/brif`)).split('\n').filter(Boolean).length;
  for (const [network, bridge] of bridges) {
    const count = Object.keys(shown.get(network) ?? {}).length;
    await waitFor(async () => (await portsOf(bridge)) === count, { what: `${count} ports of ${network}` });
  }
  const recorded = new Map<string, string>();
  for (const container of running) {
    const mine = [...container.networks].flatMap((network) => shown.get(network)?.[container.id] ?? []);
    const kernel = JSON.parse(await stack.inside(container.sandbox as Sandbox, 'ip -j addr')) as {
      ifname: string;
      addr_info: { scope: string; local: string; prefixlen: number }[];
    }[];
    const has = kernel
      .filter(({ ifname }) => ifname !== 'lo')
      .flatMap(({ addr_info }) =>
        addr_info.filter(({ scope }) => scope === 'global').map(({ local, prefixlen }) => `${local}/${prefixlen}`),
      );
    const wants = mine.flatMap(({ IPv4Address, IPv6Address }) => [IPv4Address, IPv6Address]).filter((address) => address !== '');
    expect(has.sort(), `addresses of ${container.name}`).toEqual(wants.sort());
    const gateway = [...container.networks].filter((network) => network !== 'inner').sort()[0];
    const route = JSON.parse(await stack.inside(container.sandbox as Sandbox, 'ip -j -4 route show default')) as { gateway: string }[];
    const via = gateway === undefined ? [] : [gateways.get(gateway)];
    expect(
      route.map((one) => one.gateway),
      `default routes of ${container.name}`,
    ).toEqual(via);
    const hosts = readFileSync((container.sandbox as Sandbox).files.hosts, 'utf8');
    const named = [...hosts.matchAll(new RegExp(`^(\\S+)\\t${container.id.slice(0, 12)}$`, 'gm'))].map(([, address]) => address);
    expect(named.sort(), `addresses in the hosts file of ${container.name}`).toEqual(wants.map((address) => address.split('/')[0]).sort());
    const address = gateway === undefined ? undefined : shown.get(gateway)?.[container.id]?.IPv4Address.split('/')[0];
    if (address !== undefined) recorded.set(String(container.hostPort), address);
  }
  const [map] = (
    JSON.parse(await stack.host.sh('nft -j list map inet flotilla published4_any')) as {
      nftables: { map?: { elem?: [{ concat: [string, number] }, { concat: [string, number] }][] } }[];
    }
  ).nftables.flatMap((entry) => entry.map ?? []);
  const published = (map?.elem ?? []).map(([from, to]) => [String(from.concat[1]), to.concat[0]]);
  expect(published.sort(), 'published ports').toEqual([...recorded].sort());
}

it(
  `kernel and records agree with what was asked for (seed ${seed})`,
  async () => {
    for (let round = 0; round < rounds; round += 1) {
      for (let index = 0; index < stepsPerRound; index += 1) {
        // One step each of two or three containers at once.
        const chosen = new Set(Array.from({ length: 1 + random(3) }, () => containers[random(containers.length)] as Container));
        await Promise.all([...chosen].map((container) => nextStep(container)()));
      }
      await check();
      // All at once, and the service dies in the midst of it: what was not answered is asked for again, as container-service does.
      const steps = containers.map(nextStep);
      const results = steps.map((step) =>
        step().then(
          () => true,
          () => false,
        ),
      );
      await new Promise((resolve) => setTimeout(resolve, random(60)));
      await stack.stopService('SIGKILL');
      const answered = await Promise.all(results);
      await stack.startService();
      await stack.sandboxes.retain({
        known: containers.map(({ id }) => id),
        running: containers.filter(({ running }) => running).map(({ id }) => id),
      });
      await Promise.all(steps.map((step, index) => (answered[index] === true ? undefined : step())));
      await check();
    }
  },
  isSoak ? 1_200_000 : 120_000,
);
