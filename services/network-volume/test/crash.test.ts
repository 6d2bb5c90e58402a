/** kill -9 in the middle of starts and ends, again and again: afterwards kernel, disk and records hold what should be there and no more. */
import { randomInt } from 'node:crypto';
import { waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { json, NetworkVolumeStack, type Sandbox, sandboxSpec } from './stack.ts';

const rounds = 6;
const crowdSize = 100;
let stack: NetworkVolumeStack;

beforeAll(async () => {
  stack = await NetworkVolumeStack.start();
  await stack.createNetwork({ Name: 'blue' });
});
afterAll(() => stack.dispose());

/** Starts and ends sandboxes until the service is gone; those whose last call ended in an error may be there or not. */
async function work(kept: Map<string, Sandbox>, until: AbortSignal): Promise<void> {
  while (!until.aborted) {
    const spec = sandboxSpec({
      networkMode: randomInt(2) === 0 ? 'blue' : 'default',
      publishAllPorts: randomInt(2) === 0,
      exposedPorts: ['80/tcp'],
    });
    try {
      const sandbox = await stack.prepare(spec as never);
      if (randomInt(4) === 0 && !until.aborted) kept.set(sandbox.id, sandbox);
      else await stack.sandboxes.release({ containerId: sandbox.id, remove: true });
    } catch {
      return;
    }
  }
}

it(`gives ${crowdSize} containers that join one network at once, over a kill -9, an address each and none twice`, async () => {
  await stack.createNetwork({ Name: 'crowd', IPAM: { Config: [{ Subnet: '10.60.0.0/24' }, { Subnet: 'fd60::/64' }] }, EnableIPv6: true });
  const specs = Array.from({ length: crowdSize }, () => sandboxSpec());
  const sandboxes = await Promise.all(specs.map((spec) => stack.prepare(spec as never)));
  let answered = 0;
  const join = async (spec: (typeof specs)[number]): Promise<boolean> =>
    stack.sandboxes.connect({ network: 'crowd', spec, endpointJson: json({}), running: true }).then(
      () => {
        answered += 1;
        return true;
      },
      // What was done and not answered is there already when it is asked for again.
      (error: Error) => error.message.includes('already exists in network crowd'),
    );
  const joined = Promise.all(specs.map(join));
  await waitFor(() => answered > crowdSize / 4, { what: 'a quarter to have joined', intervalMs: 1 });
  await stack.stopService('SIGKILL');
  expect(answered).toBeLessThan(crowdSize);
  const before = await joined;
  await stack.startService();
  const ids = specs.map(({ containerId }) => containerId);
  await stack.sandboxes.retain({ known: ids, running: ids });
  const late = await Promise.all(specs.filter((_spec, index) => before[index] === false).map(join));
  expect(late).not.toContain(false);
  const shown = (await stack.inspectNetwork('crowd')).Containers as Record<string, { IPv4Address: string; IPv6Address: string }>;
  expect(Object.keys(shown).sort()).toEqual([...ids].sort());
  for (const family of ['IPv4Address', 'IPv6Address'] as const) {
    expect(new Set(Object.values(shown).map((one) => one[family])).size).toBe(crowdSize);
  }
  const inKernel = await stack.host.sh(
    sandboxes.map(({ netns }) => `nsenter --net=${netns} ip -o addr show dev eth1 scope global`).join('\n'),
  );
  const has = [...inKernel.matchAll(/inet6? (\S+)/g)].map(([, address]) => address);
  expect(has.sort()).toEqual(
    Object.values(shown)
      .flatMap((one) => [one.IPv4Address, one.IPv6Address])
      .sort(),
  );
  await Promise.all(ids.map((containerId) => stack.sandboxes.release({ containerId, remove: true })));
  expect((await stack.inspectNetwork('crowd')).Containers).toEqual({});
  await stack.networks.remove({ network: 'crowd' });
}, 120_000);

it('leaks nothing and loses nothing', async () => {
  const kept = new Map<string, Sandbox>();
  for (let round = 0; round < rounds; round += 1) {
    const end = new AbortController();
    const workers = [1, 2, 3].map(() => work(kept, end.signal));
    await new Promise((resolve) => setTimeout(resolve, randomInt(50, 400)));
    await stack.stopService('SIGKILL');
    end.abort();
    await stack.startService();
    await Promise.all(workers);
    const ids = [...kept.keys()];
    await stack.sandboxes.retain({ known: ids, running: ids });
    for (const sandbox of kept.values()) {
      const address = Object.values(sandbox.settings.Networks)[0]?.IPAddress ?? '';
      expect(await stack.inside(sandbox, 'ip -4 -o addr show dev eth0')).toContain(address);
      expect(await stack.inside(sandbox, 'ip -4 route')).toContain('default');
    }
    const addresses = [...kept.values()].map(({ settings }) =>
      Object.entries(settings.Networks)
        .map(([name, { IPAddress }]) => name + IPAddress)
        .join(),
    );
    expect(new Set(addresses).size).toBe(addresses.length);
  }
  await stack.sandboxes.retain({ known: [], running: [] });
  await stack.networks.remove({ network: 'blue' });
  expect((await stack.inspectNetwork('bridge')).Containers).toEqual({});
  await stack.stopService('SIGTERM');
  await waitFor(async () => !/ ve[0-9a-f]{12}| br-/.test(await stack.host.sh('ip -o link')), { what: 'all interfaces to go' });
  const left = `ls ${stack.host.execRoot}/netns ${stack.host.execRoot}/network-volume/sandboxes ${stack.host.execRoot}/network-volume/instances | grep -v ':$' | grep . || true`;
  expect(await stack.host.sh(left)).toBe('');
  expect(await stack.host.sh('nft -j list table inet flotilla')).not.toMatch(/"elem":\[\{"concat/);
  const redis = stack.redis.client();
  const fields = await redis.hkeys(`flotilla:{${stack.engineId}:network-volume}:records`);
  redis.disconnect();
  expect(fields.filter((field) => !/^(network|schema)/.test(field))).toEqual([]);
}, 150_000);
