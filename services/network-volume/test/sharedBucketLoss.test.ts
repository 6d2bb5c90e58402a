import { rmSync } from 'node:fs';
import { Bus, createLogger } from '@flotilla/service-kit';
import { startNats, type TestNats, waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { SharedBucket } from '../src/adapters/sharedBucket.ts';
import type { NetworkRecord } from '../src/network.ts';
import { overlayRecord, sharedNetworkOf } from '../src/overlay/network.ts';
import { Overlay } from '../src/overlay/overlay.ts';
import type { SharedNetwork } from '../src/overlay/shared.ts';

const logger = createLogger({ service: 'test', instance: 'i', level: 'silent' });
const toClose: (() => Promise<unknown>)[] = [];
let nats: TestNats;

beforeAll(async () => {
  nats = await startNats();
});
afterAll(async () => {
  for (const close of toClose.reverse()) await close();
  await nats.stop();
});

interface Host {
  readonly overlay: Overlay;
  readonly bucket: SharedBucket;
  readonly networks: Map<string, NetworkRecord>;
  readonly endpoints: { networkId: string; address: string }[];
  readonly peersRemoved: string[];
}

const claimed = { containerId: 'c', containerName: 'c', mac: '02:42:00:00:00:01', names: ['c'] };

async function startHost(engineId: string): Promise<Host> {
  const bus = await Bus.connect({ url: nats.url, engineId, name: 'test', logger });
  const bucket = new SharedBucket(bus, () => undefined);
  const networks = new Map<string, NetworkRecord>();
  const endpoints: Host['endpoints'] = [];
  const peersRemoved: string[] = [];
  const overlay = new Overlay({
    store: bucket,
    engineId,
    address: `10.0.0.${engineId.length}`,
    links: {
      setPeer: () => undefined,
      removePeer: (_bridge, peer) => peersRemoved.push(peer.address),
      ensureTunnel: () => undefined,
    },
    ownEndpoints: () => endpoints.map((endpoint) => ({ ...endpoint, claim: claimed })),
    ownNetworks: () => [...networks.values()].flatMap(sharedNetworkOf),
    recordsAreLost: () => false,
    network: (id) => networks.get(id),
    onNetworks: async (shared) => {
      for (const network of shared) networks.set(network.id, overlayRecord(network));
      for (const id of networks.keys()) if (!shared.some((network) => network.id === id)) networks.delete(id);
    },
    onError: () => undefined,
  });
  await overlay.start();
  toClose.push(async () => {
    await overlay.close();
    await bus.close();
  });
  return { overlay, bucket, networks, endpoints, peersRemoved };
}

it('a bucket that NATS has lost is told again what hosts have, and nothing that they have goes meanwhile', async () => {
  const hosts = [await startHost('a'), await startHost('bb')];
  const network: SharedNetwork = {
    ...{ id: 'ab'.repeat(32), name: 'shared', created: '2026-01-01T00:00:00Z', vni: 4096, internal: false, attachable: true },
    ...{ options: { o: '1' }, labels: { l: '2' }, subnets: [{ subnet: '10.9.0.0/24', gateway: '10.9.0.1', configured: false }] },
  };
  await hosts[0]?.overlay.create(() => network);
  await waitFor(() => hosts.every(({ networks }) => networks.has(network.id)));
  for (const [index, { overlay, endpoints }] of hosts.entries()) {
    const endpoint = { networkId: network.id, address: `10.9.0.${index + 2}` };
    await overlay.claim(network.id, endpoint.address, claimed);
    endpoints.push(endpoint);
  }
  rmSync(await nats.process.crash(), { recursive: true });
  nats = await startNats({ port: nats.port });
  const keys = (): Promise<string[]> | undefined =>
    hosts[1]?.bucket.keys('>').then((found) => found.filter((key) => !key.startsWith('host.')).sort());
  const wanted = [`address.${network.id}.10-9-0-2`, `address.${network.id}.10-9-0-3`, 'networks'];
  await waitFor(async () => JSON.stringify(await keys()) === JSON.stringify(wanted), { what: 'the bucket to be whole', timeoutMs: 40_000 });
  expect(JSON.parse((await hosts[0]?.bucket.get('networks'))?.value ?? '')).toEqual([network]);
  for (const { networks, peersRemoved } of hosts) {
    expect(networks.has(network.id)).toBe(true);
    expect(peersRemoved).toEqual([]);
  }
  // It is followed as before.
  await hosts[1]?.overlay.create(() => ({ ...network, id: 'cd'.repeat(32), name: 'later', vni: 4097 }));
  await waitFor(() => hosts.every(({ networks }) => networks.size === 2), { what: 'a new network to be seen', timeoutMs: 20_000 });
}, 120_000);
