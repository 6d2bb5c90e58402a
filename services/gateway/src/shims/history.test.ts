/**
 * What changed with each version of the Engine API, asked for once in the version before and once in the version itself. Changes for Windows and swarm
 * are not here, nor those that dockerd makes for every version at once.
 */
import { WaitCondition } from '@flotilla/contracts/flotilla/container/v1/containers';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Answer, ask } from '../testing/exchange.ts';
import { startTestGateway, type TestGateway } from '../testing/testGateway.ts';

interface Change {
  /** The first version that has it. */
  readonly since: string;
  readonly what: string;
  readonly method?: string;
  readonly path: string;
  readonly body?: object;
  /** What services answer: documents by method and field. */
  readonly given?: Readonly<Record<string, Record<string, unknown>>>;
  /** What is looked at: the answer's document, or the request of the last call of this method. */
  readonly call?: string;
  readonly before: unknown;
  readonly after: unknown;
}

const create = { method: 'POST', path: '/containers/create', call: 'containers.create' };
const config = (HostConfig: unknown, rest: object = {}): object => ({ configJson: { ...rest, HostConfig } });
const without = (...fields: string[]): unknown =>
  expect.not.objectContaining(Object.fromEntries(fields.map((field) => [field, expect.anything()])));
const refused = (message: string): object => ({ message });
const image = { Id: 'sha256:1', Size: 5, RepoTags: [], RepoDigests: [], Descriptor: {}, Config: { Cmd: ['sh'] } };
const container = {
  Id: '0123456789abcdef',
  Config: { Hostname: 'h' },
  HostConfig: { Annotations: { a: 'b' } },
  ImageManifestDescriptor: {},
  NetworkSettings: { Networks: { mine: { Aliases: ['web'], DNSNames: ['web'] } } },
};
const listed = { 'containers.list': { containersJson: [container], ages: [] } };
const inspected = { 'containers.inspect': { containerJson: container } };
const networks = {
  'networks.list': { networksJson: [{ Id: 'n', Containers: {} }] },
  'networks.inspect': { networkJson: { Id: 'n', Containers: { c: {} } } },
};
const usage = {
  'images.list': { imagesJson: [image] },
  'builds.cache': { recordsJson: [{ ID: 'r', Size: 3, Parents: ['p'] }] },
};
const endpoints = (settings: object): object => ({ NetworkingConfig: { EndpointsConfig: { n: settings } } });

const changes: readonly Change[] = [
  {
    since: '1.25',
    what: 'AutoRemove',
    ...create,
    body: { HostConfig: { AutoRemove: true } },
    before: config(without('AutoRemove')),
    after: config({ AutoRemove: true }),
  },
  {
    since: '1.25',
    what: 'structured security options',
    path: '/info',
    before: { ExecutionDriver: '<not supported>' },
    after: without('ExecutionDriver'),
  },
  {
    since: '1.28',
    what: 'lists of networks without their containers',
    path: '/networks',
    given: networks,
    before: [{ Id: 'n', Containers: { c: {} } }],
    after: [{ Id: 'n', Containers: {} }],
  },
  {
    since: '1.30',
    what: 'conditions of a wait',
    method: 'POST',
    path: '/containers/x/wait?condition=next-exit',
    call: 'containers.wait',
    before: { condition: WaitCondition.NOT_RUNNING },
    after: { condition: WaitCondition.NEXT_EXIT },
  },
  {
    since: '1.32',
    what: 'the platform of a pull',
    method: 'POST',
    path: '/images/create?fromImage=x&platform=linux/arm64',
    call: 'images.pull',
    before: { platform: '' },
    after: { platform: 'linux/arm64' },
  },
  {
    since: '1.34',
    what: 'failures of a wait',
    method: 'POST',
    path: '/containers/x/wait?condition=removed',
    given: { 'containers.wait': { result: { exitCode: 1, error: 'busy' } } },
    before: '',
    after: { StatusCode: 1, Error: { Message: 'busy' } },
  },
  {
    since: '1.40',
    what: 'private IPC',
    ...create,
    body: { Image: 'x' },
    before: config({ IpcMode: 'shareable' }),
    after: config(without('IpcMode')),
  },
  {
    since: '1.40',
    what: 'NonRecursive binds',
    ...create,
    body: { HostConfig: { Mounts: [{ Type: 'bind', BindOptions: { NonRecursive: true } }] } },
    before: config({ Mounts: [{ Type: 'bind', BindOptions: without('NonRecursive') }] }),
    after: config({ Mounts: [{ Type: 'bind', BindOptions: { NonRecursive: true } }] }),
  },
  {
    since: '1.40',
    what: 'PidsLimit of an update',
    method: 'POST',
    path: '/containers/x/update',
    body: { PidsLimit: 5 },
    call: 'containers.update',
    before: { updateJson: {} },
    after: { updateJson: { PidsLimit: 5 } },
  },
  {
    since: '1.41',
    what: 'the platform of a container',
    ...create,
    path: '/containers/create?platform=linux/arm64',
    body: { Image: 'x' },
    before: { platform: '' },
    after: { platform: 'linux/arm64' },
  },
  {
    since: '1.41',
    what: 'no `filter` of images',
    path: '/images/json?filter=a',
    call: 'images.list',
    before: { filters: { reference: expect.anything() } },
    after: { filters: {} },
  },
  {
    since: '1.41',
    what: 'one sample of statistics',
    path: '/containers/x/stats?stream=0&one-shot=1',
    call: 'containers.stats',
    before: { oneShot: false },
    after: { oneShot: true },
  },
  {
    since: '1.42',
    what: 'the signal of a stop',
    method: 'POST',
    path: '/containers/x/stop?signal=HUP',
    call: 'containers.stop',
    before: { signal: '' },
    after: { signal: 'HUP' },
  },
  {
    since: '1.42',
    what: 'shared sizes',
    path: '/images/json?shared-size=1',
    call: 'images.list',
    before: { sharedSize: false },
    after: { sharedSize: true },
  },
  {
    since: '1.42',
    what: 'types of disk usage',
    path: '/system/df?type=volume',
    given: usage,
    before: { Images: [expect.anything()] },
    after: { Images: null },
  },
  {
    since: '1.42',
    what: 'several parents of a cache record, and no size of the builder',
    path: '/system/df',
    given: usage,
    before: { BuilderSize: 3, BuildCache: [{ ID: 'r', Size: 3, Parent: 'p' }] },
    after: { BuildCache: [{ ID: 'r', Size: 3, Parents: ['p'] }] },
  },
  {
    since: '1.42',
    what: 'no kernel memory',
    ...create,
    body: { HostConfig: { KernelMemory: 9 } },
    before: config({ KernelMemory: 9 }),
    after: config(without('KernelMemory')),
  },
  {
    since: '1.42',
    what: 'no kernel memory in an update',
    method: 'POST',
    path: '/containers/x/update',
    body: { KernelMemory: 9 },
    call: 'containers.update',
    before: { updateJson: { KernelMemory: 9 } },
    after: { updateJson: {} },
  },
  { since: '1.42', what: 'no kernel memory of the engine', path: '/info', before: { KernelMemory: false }, after: without('KernelMemory') },
  {
    since: '1.42',
    what: 'ConsoleSize',
    ...create,
    body: { HostConfig: { ConsoleSize: [1, 2] } },
    before: config(without('ConsoleSize')),
    after: config({ ConsoleSize: [1, 2] }),
  },
  {
    since: '1.42',
    what: 'ConsoleSize of an exec',
    method: 'POST',
    path: '/containers/x/exec',
    body: { Cmd: ['a'], ConsoleSize: [1, 2] },
    call: 'execs.create',
    before: { configJson: { Cmd: ['a'] } },
    after: { configJson: { ConsoleSize: [1, 2] } },
  },
  {
    since: '1.42',
    what: 'options of another type of mount are refused',
    ...create,
    body: { HostConfig: { Mounts: [{ Type: 'bind', TmpfsOptions: {} }] } },
    before: config({ Mounts: [{ Type: 'bind' }] }),
    after: refused('TmpfsOptions must not be specified on mount type "bind"'),
  },
  {
    since: '1.42',
    what: 'cluster volumes, which need a swarm',
    method: 'POST',
    path: '/volumes/create',
    body: { Name: 'v', ClusterVolumeSpec: {} },
    given: { 'volumes.create': { volumeJson: { Name: 'v' } } },
    before: { Name: 'v' },
    after: refused(
      'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
    ),
  },
  {
    since: '1.42',
    what: 'named volumes survive a prune',
    method: 'POST',
    path: '/volumes/prune',
    call: 'volumes.prune',
    before: { filters: { all: expect.anything() } },
    after: { filters: {} },
  },
  {
    since: '1.43',
    what: 'annotations',
    ...create,
    body: { HostConfig: { Annotations: { a: 'b' } } },
    before: config(without('Annotations')),
    after: config({ Annotations: { a: 'b' } }),
  },
  {
    since: '1.43',
    what: 'no <none> in lists of images',
    path: '/images/json',
    given: usage,
    before: [{ RepoTags: ['<none>:<none>'], RepoDigests: ['<none>@<none>'] }],
    after: [{ RepoTags: [], RepoDigests: [] }],
  },
  {
    since: '1.44',
    what: 'no VirtualSize in lists of images',
    path: '/images/json',
    given: usage,
    before: [{ VirtualSize: 5 }],
    after: [without('VirtualSize')],
  },
  {
    since: '1.44',
    what: 'no VirtualSize of an image',
    path: '/images/x/json',
    given: { 'images.inspect': { imageJson: image } },
    before: { VirtualSize: 5, Created: '0001-01-01T00:00:00Z' },
    after: without('VirtualSize', 'Created'),
  },
  {
    since: '1.44',
    what: 'no VirtualSize in disk usage',
    path: '/system/df',
    given: usage,
    before: { Images: [{ VirtualSize: 5 }] },
    after: { Images: [without('VirtualSize')] },
  },
  {
    since: '1.44',
    what: 'read-only binds are recursive',
    ...create,
    body: { HostConfig: { Mounts: [{ Type: 'bind', ReadOnly: true }] } },
    before: config({ Mounts: [{ Type: 'bind', ReadOnly: true, BindOptions: { ReadOnlyNonRecursive: true } }] }),
    after: config({ Mounts: [{ Type: 'bind', ReadOnly: true }] }),
  },
  {
    since: '1.44',
    what: 'StartInterval',
    ...create,
    body: { Healthcheck: { StartInterval: 9_000_000 } },
    before: config({}, { Healthcheck: {} }),
    after: config({}, { Healthcheck: { StartInterval: 9_000_000 } }),
  },
  {
    since: '1.44',
    what: 'several endpoints',
    ...create,
    body: { NetworkingConfig: { EndpointsConfig: { a: {}, b: {} } } },
    before: refused('Container cannot be created with multiple network endpoints: a, b'),
    after: config({}),
  },
  {
    since: '1.44',
    what: "an endpoint's MAC address",
    method: 'POST',
    path: '/networks/n/connect',
    body: { Container: 'c', EndpointConfig: { MacAddress: '02:00:00:00:00:01' } },
    call: 'containers.connectNetwork',
    before: { endpointJson: {} },
    after: { endpointJson: { MacAddress: '02:00:00:00:00:01' } },
  },
  {
    since: '1.45',
    what: 'Subpath',
    ...create,
    body: { HostConfig: { Mounts: [{ Type: 'volume', VolumeOptions: { Subpath: 'a' } }] } },
    before: refused('VolumeOptions.Subpath needs API v1.45 or newer'),
    after: config({}),
  },
  {
    since: '1.45',
    what: 'no short id among the aliases',
    path: '/containers/x/json',
    given: inspected,
    before: { NetworkSettings: { Networks: { mine: { Aliases: ['web', '0123456789ab', 'h'] } } } },
    after: { NetworkSettings: { Networks: { mine: { Aliases: ['web'] } } } },
  },
  {
    since: '1.45',
    what: 'no container of an image',
    path: '/images/x/json',
    given: { 'images.inspect': { imageJson: image } },
    before: { Container: '', ContainerConfig: { Cmd: ['sh'], Volumes: null } },
    after: without('Container'),
  },
  {
    since: '1.46',
    what: 'annotations in lists',
    path: '/containers/json',
    given: listed,
    before: [{ HostConfig: {} }],
    after: [{ HostConfig: { Annotations: { a: 'b' } } }],
  },
  {
    since: '1.47',
    what: 'manifests in lists of images',
    path: '/images/json?manifests=1',
    call: 'images.list',
    before: { manifests: false },
    after: { manifests: true },
  },
  {
    since: '1.47',
    what: 'no fields of foreign layers',
    path: '/info',
    before: { RegistryConfig: { AllowNondistributableArtifactsCIDRs: null } },
    after: { RegistryConfig: without('AllowNondistributableArtifactsCIDRs') },
  },
  {
    since: '1.48',
    what: 'descriptors of containers',
    path: '/containers/x/json',
    given: inspected,
    before: without('ImageManifestDescriptor'),
    after: { ImageManifestDescriptor: {} },
  },
  {
    since: '1.48',
    what: 'descriptors in lists of containers',
    path: '/containers/json',
    given: listed,
    before: [without('ImageManifestDescriptor')],
    after: [{ ImageManifestDescriptor: {} }],
  },
  {
    since: '1.48',
    what: 'descriptors in lists of images',
    path: '/images/json',
    given: usage,
    before: [without('Descriptor')],
    after: [{ Descriptor: {} }],
  },
  {
    since: '1.48',
    what: 'the platform of a save',
    path: '/images/get?names=a&platform=linux/arm64',
    call: 'images.save',
    before: { platform: '' },
    after: { platform: 'linux/arm64' },
  },
  {
    since: '1.48',
    what: 'networks without IPv4',
    method: 'POST',
    path: '/networks/create',
    body: { Name: 'n', EnableIPv4: false },
    call: 'networks.create',
    before: { configJson: without('EnableIPv4') },
    after: { configJson: { EnableIPv4: false } },
  },
  {
    since: '1.48',
    what: 'mounts of images',
    ...create,
    body: { HostConfig: { Mounts: [{ Type: 'image' }] } },
    before: refused('Mount type "Image" needs API v1.48 or newer'),
    after: config({ Mounts: [{ Type: 'image' }] }),
  },
  {
    since: '1.48',
    what: 'priorities of gateways',
    ...create,
    body: endpoints({ GwPriority: 5 }),
    before: config({}, endpoints({})),
    after: config({}, endpoints({ GwPriority: 5 })),
  },
  {
    since: '1.49',
    what: 'the platform of an inspection',
    path: '/images/x/json?platform=linux/arm64',
    call: 'images.inspect',
    before: { platform: '' },
    after: { platform: 'linux/arm64' },
  },
  {
    since: '1.49',
    what: 'no expected commits',
    path: '/info',
    before: { RuncCommit: { Expected: '' } },
    after: { RuncCommit: without('Expected') },
  },
  {
    since: '1.50',
    what: 'no settings of br_netfilter',
    path: '/info',
    before: { BridgeNfIptables: expect.any(Boolean) },
    after: without('BridgeNfIptables'),
  },
  {
    since: '1.50',
    what: "only an image's own configuration",
    path: '/images/x/json',
    given: { 'images.inspect': { imageJson: image } },
    before: { Config: { Cmd: ['sh'], Hostname: '', Env: null } },
    after: { Config: without('Hostname') },
  },
];

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startTestGateway();
});
afterAll(() => gateway.stop());
beforeEach(() => gateway.backends.answers.clear());

/** Messages as documents: what is JSON inside them is read. */
function readable(message: unknown): unknown {
  if (typeof message !== 'object' || message === null) return message;
  const entries = Object.entries(message).map(([key, value]) => [
    key,
    value instanceof Uint8Array ? parsed(Buffer.from(value).toString()) : value,
  ]);
  return Object.fromEntries(entries);
}

function parsed(text: string): unknown {
  return text === '' ? '' : JSON.parse(text);
}

async function seen({ method = 'GET', path, body, given = {}, call }: Change, version: string): Promise<unknown> {
  for (const [name, fields] of Object.entries(given)) {
    const encoded = Object.entries(fields).map(([key, value]) => [key, key.endsWith('Json') ? Buffer.from(JSON.stringify(value)) : value]);
    gateway.backends.answers.set(name, () => Object.fromEntries(encoded));
  }
  gateway.backends.calls.length = 0;
  const headers: Record<string, string> = body === undefined ? {} : { 'Content-Type': 'application/json' };
  const answer: Answer = await ask(gateway.socketPath, method, `/v${version}${path}`, {
    headers,
    ...(body === undefined ? {} : { body: JSON.stringify(path.startsWith('/containers/create') ? { Image: 'x', ...body } : body) }),
  });
  return call === undefined || answer.status >= 400 ? parsed(answer.body) : readable(gateway.backends.last(call));
}

function previous(version: string): string {
  const [major, minor] = version.split('.');
  return `${major}.${Number(minor) - 1}`;
}

describe('versions', () => {
  it.each(changes)('$since: $what', async (change) => {
    const [before, after] = [await seen(change, previous(change.since)), await seen(change, change.since)];
    if (typeof change.before === 'string') expect(before).toBe(change.before);
    else expect({ answer: before }).toMatchObject({ answer: change.before });
    expect({ answer: after }).toMatchObject({ answer: change.after });
  });
});
