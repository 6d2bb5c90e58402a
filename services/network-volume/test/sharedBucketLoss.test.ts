import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorMessage } from '@flotilla/errors';
import { Bus, createLogger } from '@flotilla/service-kit';
import { startNats, startNatsCluster, type TestNats, waitFor } from '@flotilla/testkit';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { SharedBucket } from '../src/adapters/sharedBucket.ts';
import type { NetworkRecord } from '../src/network.ts';
import { overlayRecord, sharedNetworkOf } from '../src/overlay/network.ts';
import { Overlay } from '../src/overlay/overlay.ts';
import type { SharedNetwork } from '../src/overlay/shared.ts';

const logger = createLogger({ service: 'test', instance: 'i', level: 'silent' });
const toClose: (() => Promise<unknown>)[] = [];
let nats: TestNats;

beforeEach(async () => {
  nats = await startNats();
});
afterEach(async () => {
  for (const close of toClose.splice(0).reverse()) await close();
  await nats.stop();
});

interface Host {
  readonly overlay: Overlay;
  readonly bucket: SharedBucket;
  readonly networks: Map<string, NetworkRecord>;
  readonly endpoints: { networkId: string; address: string }[];
  readonly peersRemoved: string[];
  /** Ids of networks that it has forgotten. */
  readonly forgotten: string[];
  readonly errors: string[];
}

const claimed = { containerId: 'c', containerName: 'c', mac: '02:42:00:00:00:01', names: ['c'] };

async function startHost(engineId: string): Promise<Host> {
  const bus = await Bus.connect({ url: nats.url, engineId, name: 'test', logger });
  const bucket = new SharedBucket(bus, () => undefined);
  const networks = new Map<string, NetworkRecord>();
  const endpoints: Host['endpoints'] = [];
  const peersRemoved: string[] = [];
  const forgotten: string[] = [];
  const errors: string[] = [];
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
      for (const id of networks.keys()) if (!shared.some((network) => network.id === id) && networks.delete(id)) forgotten.push(id);
    },
    onError: (error) => errors.push(errorMessage(error)),
  });
  await overlay.start();
  toClose.push(async () => {
    await overlay.close();
    await bus.close();
  });
  return { overlay, bucket, networks, endpoints, peersRemoved, forgotten, errors };
}

function network(id: string, name: string, vni: number): SharedNetwork {
  return {
    ...{
      id: id.repeat(32),
      name,
      created: '2026-01-01T00:00:00Z',
      vni,
      internal: false,
      attachable: true,
      options: { o: '1' },
      labels: { l: '2' },
    },
    subnets: [{ subnet: `10.9.${vni - 4096}.0/24`, gateway: `10.9.${vni - 4096}.1`, configured: false }],
  };
}

it('a bucket that NATS has lost is told again what hosts have, and nothing that they have goes meanwhile', async () => {
  const hosts = [await startHost('a'), await startHost('bb')];
  const shared = network('ab', 'shared', 4096);
  await hosts[0]?.overlay.create(() => shared);
  await waitFor(() => hosts.every(({ networks }) => networks.has(shared.id)));
  for (const [index, { overlay, endpoints }] of hosts.entries()) {
    const endpoint = { networkId: shared.id, address: `10.9.0.${index + 2}` };
    await overlay.claim(shared.id, endpoint.address, claimed);
    endpoints.push(endpoint);
  }
  rmSync(await nats.process.crash(), { recursive: true });
  nats = await startNats({ port: nats.port });
  const keys = (): Promise<string[]> | undefined =>
    hosts[1]?.bucket.keys('>').then((found) => found.filter((key) => !key.startsWith('host.')).sort());
  const wanted = [`address.${shared.id}.10-9-0-2`, `address.${shared.id}.10-9-0-3`, 'networks'];
  await waitFor(async () => JSON.stringify(await keys()) === JSON.stringify(wanted), { what: 'the bucket to be whole', timeoutMs: 40_000 });
  expect(JSON.parse((await hosts[0]?.bucket.get('networks'))?.value ?? '')).toEqual([shared]);
  for (const { networks, peersRemoved } of hosts) {
    expect(networks.has(shared.id)).toBe(true);
    expect(peersRemoved).toEqual([]);
  }
  // It is followed as before.
  await hosts[1]?.overlay.create(() => network('cd', 'later', 4097));
  await waitFor(() => hosts.every(({ networks }) => networks.size === 2), { what: 'a new network to be seen', timeoutMs: 20_000 });
}, 120_000);

it('hosts that come when another one has begun the new bucket tell it what they have before they hear of it, but for what clashes', async () => {
  const hosts = [await startHost('a'), await startHost('bb')];
  const [unused, clashing, begun] = [network('ab', 'unused', 4096), network('cd', 'clashing', 4097), network('ef', 'begun', 4097)];
  for (const one of [unused, clashing]) await hosts[0]?.overlay.create(() => one);
  await waitFor(() => hosts.every(({ networks }) => networks.size === 2));
  rmSync(await nats.process.crash(), { recursive: true });
  const { port } = nats;
  const storeDirectory = mkdtempSync(join(tmpdir(), 'flotilla-bucket-'));
  toClose.unshift(async () => rmSync(storeDirectory, { recursive: true }));
  nats = await startNats({ storeDirectory });
  const first = await startHost('ccc');
  await first.overlay.create(() => begun);
  await toClose.pop()?.();
  await nats.stop();
  nats = await startNats({ port, storeDirectory });

  await waitFor(() => hosts.every(({ networks }) => networks.has(begun.id)), { what: 'what was begun to be heard', timeoutMs: 20_000 });
  expect(JSON.parse((await hosts[0]?.bucket.get('networks'))?.value ?? '')).toEqual([begun, unused]);
  for (const { forgotten, errors } of hosts) {
    expect(forgotten).toEqual([clashing.id]);
    expect(errors.filter((error) => error.startsWith(`network clashing (${clashing.id}) is not shared any more`))).toHaveLength(1);
  }
}, 60_000);

it('the bucket is kept by three servers of a cluster, also one that was made for one', async () => {
  const cluster = await startNatsCluster();
  const bus = await Bus.connect({ url: cluster.url, engineId: 'a', name: 'test', logger });
  toClose.push(
    () => cluster.stop(),
    () => bus.close(),
  );
  const manager = await waitFor(() => bus.connection.jetstreamManager(), { what: 'JetStream', timeoutMs: 20_000 });
  const replicas = (): Promise<number> =>
    waitFor(() => manager.streams.info('KV_flotilla_overlay').then(({ config }) => config.num_replicas), {
      what: 'the stream',
      timeoutMs: 20_000,
    });
  const watchOnce = async (): Promise<void> => {
    const bucket = new SharedBucket(bus, () => undefined);
    await waitFor(() => bucket.watch(() => undefined).then(() => true), { what: 'the bucket', timeoutMs: 20_000 });
    await bucket.close();
  };
  await watchOnce();
  expect(await replicas()).toBe(3);
  await manager.streams.update('KV_flotilla_overlay', { num_replicas: 1 });
  await watchOnce();
  expect(await replicas()).toBe(3);
}, 120_000);
