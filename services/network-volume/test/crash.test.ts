/** kill -9 in the middle of starts and ends, again and again: afterwards kernel, disk and records hold what should be there and no more. */
import { randomInt } from 'node:crypto';
import { waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { NetworkVolumeStack, type Sandbox, sandboxSpec } from './stack.ts';

const rounds = 6;
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
