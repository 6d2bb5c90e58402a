/** A connect and a disconnect that are cut off at each of their steps in turn: what the next start makes of it is what the record says. */
import { createLogger } from '@flotilla/service-kit';
import type { Link } from '@flotilla/syscalls';
import { beforeEach, expect, it } from 'vitest';
import { EndpointChooser } from './endpointChooser.ts';
import type { Gateways, InterfaceWish } from './hostNetwork.ts';
import { LiveConnections } from './liveConnections.ts';
import { type MemoryRecords, memoryRecords } from './memoryRecords.ts';
import type { NetworkRecord } from './network.ts';
import type { Networks } from './networks.ts';
import { PluginEndpoints } from './pluginEndpoints.ts';
import type { PortHolder } from './ports.ts';
import { type ReconcileOptions, reconcile } from './reconcile.ts';
import type { EndpointRecord, SandboxRecord } from './sandbox.ts';
import type { Sandboxes } from './sandboxes.ts';
import { SandboxFileSet, type SandboxFileStore } from './sandboxFileSet.ts';
import { SandboxKernel } from './sandboxKernel.ts';
import type { Stacks } from './sandboxOutside.ts';
import { gatewayEndpoint } from './sandboxPlan.ts';

const id = 'c'.repeat(64);
let records: MemoryRecords;
/** What outlives the process: the kernel's side and the files. */
let links: Map<string, { inner: string; master: number; up: boolean }>;
let defaultVia: string | undefined;
let nameServer: boolean;
let texts: Map<string, string>;
let stepsLeft: number;

/** One thing that happens outside; with no step left the process is dead, and nothing of it happens any more. */
function step(): void {
  if (stepsLeft <= 0) throw new Error('dead');
  stepsLeft -= 1;
}

const stacks = {
  netnsPath: (slot: string) => slot,
  newHostLink: () => 've2',
  isAlive: () => true,
  slotNames: () => ['slot'],
  // The order of adapters/kernelNetwork.ts: the bridge comes last.
  attach: ({ name, joint, gateways }: InterfaceWish) => {
    if (joint.kind !== 'port') throw new Error('not of this test');
    step();
    const link = links.get(joint.hostLink) ?? { inner: name, master: 0, up: false };
    links.set(joint.hostLink, link);
    step();
    if (gateways !== undefined) defaultVia = name;
    step();
    Object.assign(link, { master: Number(joint.bridge.slice(-1)), up: true });
  },
  setGateways: ({ name }: Gateways) => {
    step();
    defaultVia = name;
  },
  detach: (hostLink: string) => {
    const link = links.get(hostLink);
    if (link === undefined) return;
    step();
    link.up = false;
    step();
    links.delete(hostLink);
    if (defaultVia === link.inner) defaultVia = undefined;
  },
  ownLinks: () =>
    [
      { name: 'br1', kind: 'bridge', index: 1, master: 0, up: true },
      { name: 'br2', kind: 'bridge', index: 2, master: 0, up: true },
      ...[...links].map(([name, { master, up }]) => ({ name, kind: 'veth', index: 9, master, up })),
    ] as Link[],
} as unknown as Stacks & ReconcileOptions['stacks'];

const nameServers = {
  start: (_id: string, _path: string, port = 5300) => {
    step();
    nameServer = true;
    return port;
  },
  stop: () => {
    step();
    nameServer = false;
  },
};

const paths = { hosts: 'hosts', resolvConf: 'resolv.conf', hostname: 'hostname' };
const fileStore: SandboxFileStore = {
  paths: () => paths,
  read: (path) => texts.get(path) ?? '',
  write: (_id, { hosts, resolvConf }) => {
    texts.set('hosts', hosts).set('resolv.conf', resolvConf);
    return paths;
  },
  editHosts: (_id, edit) => {
    step();
    texts.set('hosts', edit(texts.get('hosts') ?? ''));
  },
  replaceResolvConf: (_id, _before, wanted) => {
    step();
    texts.set('resolv.conf', wanted);
  },
  remove: () => undefined,
  containerIds: () => [id],
};

const networkOf = (index: number, name: string): NetworkRecord =>
  ({
    ...{ id: `${index}`.repeat(64), name, driver: 'bridge', created: '', internal: false, attachable: false, ingress: false },
    ...{ enableIPv4: true, enableIPv6: false, ipamDriver: 'default', ipamOptions: null, options: {}, labels: {}, bridge: `br${index}` },
    subnets: [{ subnet: `10.0.${index}.0/24`, gateway: `10.0.${index}.1`, configured: true }],
  }) as NetworkRecord;
/** `bridge` has no name server; `alpha` comes before it when a gateway is chosen. */
const [bridge, alpha] = [networkOf(1, 'bridge'), networkOf(2, 'alpha')];

/** The process, from its start on. */
function startProcess() {
  const outside = { rules: { addPorts: () => undefined, removePorts: () => undefined } };
  const flows = { forgetThoseOf: async () => undefined, forgetMisled: async () => undefined };
  const holder = { hold: () => undefined, release: () => undefined } as unknown as PortHolder;
  const noPlugins = { driver: () => Promise.reject(new Error('none')), ipam: () => Promise.reject(new Error('none')) };
  const plugged = new PluginEndpoints({ records, plugins: noPlugins, onError: (error) => expect.unreachable(String(error)) });
  const settings = { dns: [], dnsSearch: [], dnsOptions: [], hostGateways: () => [] };
  const files = new SandboxFileSet({ ...settings, files: fileStore, records });
  const kernel = new SandboxKernel({ ...outside, records, stacks, flows, holder, files, nameServers });
  const chooser = new EndpointChooser({ records, plugged });
  const live = new LiveConnections({ records, stacks, files, nameServers, kernel, chooser, plugged });
  const look = () =>
    reconcile({
      ...{ ...outside, records, stacks, holder, nameServers, files, livingOthers: new Set<string>() },
      networks: { realize: () => undefined } as unknown as Networks,
      sandboxes: {} as Sandboxes,
      logger: createLogger({ service: 'test', instance: 'i', level: 'silent' }),
    });
  return { live, files, kernel, look };
}

const sandboxNow = (): SandboxRecord => records.sandboxes.get(id) as SandboxRecord;
const endpointOf = ({ id: networkId }: NetworkRecord): EndpointRecord | undefined =>
  sandboxNow().endpoints.find((endpoint) => endpoint.networkId === networkId);
async function connectAlpha(): Promise<void> {
  await startProcess().live.connect(sandboxNow(), { network: alpha, wish: {} }, () => Promise.resolve([]));
}

async function disconnectAlpha(): Promise<void> {
  await startProcess().live.disconnect(sandboxNow(), alpha, endpointOf(alpha) as EndpointRecord);
}

beforeEach(async () => {
  records = memoryRecords();
  [links, texts, defaultVia, nameServer] = [new Map(), new Map(), undefined, false];
  stepsLeft = Number.POSITIVE_INFINITY;
  const first = { id: 'e', networkId: bridge.id, networkName: 'bridge', wish: {}, interfaceName: 'eth0', hostLink: 've1', mac: '' };
  const sandbox: SandboxRecord = {
    ...{ containerId: id, containerName: 'web', hostname: 'web', domainname: '', kind: 'own', sandboxId: 's', slot: 'slot', ports: [] },
    ...{ exposedPorts: [], dns: ['10.9.9.9'], dnsSearch: [], dnsOptions: [], extraHosts: [], links: [] },
    endpoints: [{ ...first, ipv4: '10.0.1.2', ipv4PrefixLength: 24, ipv4Gateway: '10.0.1.1' }],
  };
  const networks = [bridge, alpha].map((network) => records.networks.put(network.id, network));
  await records.commit({
    puts: [...networks, records.sandboxes.put(id, sandbox), records.addresses.put(`${bridge.id}/10.0.1.2`, {} as never)],
  });
  startProcess().kernel.realize(sandbox, {});
  const { commit } = records;
  Object.assign(records, {
    commit: async (change: Parameters<typeof commit>[0]) => {
      step();
      await commit(change);
      step();
    },
  });
});

/** What a fresh write of the record's files holds, line by line. */
function wantedFiles(): Record<string, string[]> {
  const kept = texts;
  texts = new Map();
  startProcess().files.write(sandboxNow());
  const wanted = sortedFiles();
  texts = kept;
  return wanted;
}

function sortedFiles(): Record<string, string[]> {
  return Object.fromEntries([...texts].map(([name, text]) => [name, text.split('\n').sort()]));
}

it.each<[string, () => Promise<void>, () => Promise<void>]>([
  ['connect', async () => undefined, connectAlpha],
  ['disconnect', connectAlpha, disconnectAlpha],
])('a %s that is cut off at any step is found whole or undone at the next start', async (_name, before, work) => {
  await before();
  const start = { links: structuredClone(links), texts: new Map(texts), defaultVia, nameServer, sandbox: sandboxNow() };
  const [addressesBefore, seen] = [[...records.addresses.ids()], new Set<number>()];
  for (let allowed = 0; ; allowed += 1) {
    stepsLeft = allowed;
    const isWhole = await work().then(
      () => true,
      () => false,
    );
    stepsLeft = Number.POSITIVE_INFINITY;
    nameServer = false;
    await startProcess().look();
    const now = sandboxNow();
    seen.add(now.endpoints.length);
    const what = `after ${allowed} steps`;
    expect(defaultVia, what).toBe(gatewayEndpoint([...now.endpoints])?.interfaceName);
    expect([...links.values()].map(({ inner, up }) => [inner, up]).sort(), what).toEqual(
      now.endpoints.map(({ interfaceName }) => [interfaceName, true]).sort(),
    );
    expect(sortedFiles(), what).toEqual(wantedFiles());
    expect(nameServer, what).toBe(now.dnsPort !== undefined);
    expect([...records.addresses.ids()].sort(), what).toEqual(now.endpoints.map(({ networkId, ipv4 }) => `${networkId}/${ipv4}`).sort());
    if (isWhole) break;
    ({ links, texts, defaultVia, nameServer } = { ...start, links: structuredClone(start.links), texts: new Map(start.texts) });
    const deletes = [...records.addresses.ids()]
      .filter((one) => !addressesBefore.includes(one))
      .map((one) => records.addresses.delete(one));
    const puts = addressesBefore.filter((one) => !records.addresses.has(one)).map((one) => records.addresses.put(one, {} as never));
    await records.commit({ puts: [...puts, records.sandboxes.put(id, start.sandbox)], deletes });
  }
  expect([...seen].sort()).toEqual([1, 2]);
});
