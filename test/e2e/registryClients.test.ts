/**
 * Other engines and a shared registry-proxy, configured by the files in deploy/lab as they are: dockerd, containerd, podman and skopeo of the distribution
 * pull from Docker Hub and from another registry through it, push into it, and go on when the line to the outside is cut. Steps in order.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  buildImage,
  busyboxLayer,
  createTestHost,
  pushImage,
  startRegistry,
  type TestHost,
  type TestImage,
  type TestRegistry,
  waitFor,
} from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runDockerd } from './peer.ts';

const repositoryRoot = join(import.meta.dirname, '../..');
const templates = join(repositoryRoot, 'deploy/lab');
const proxyAddress = '198.18.5.2';
const upstreamAddress = '198.18.5.1';

let host: TestHost;
let upstream: TestRegistry;
let image: TestImage;
/** containerd's and podman's sockets want short paths. */
let short: string;

const registry = async (...args: string[]): Promise<void> => {
  await host.mustRun('sh', [join(repositoryRoot, 'deploy/flotilla'), 'registry', ...args]);
};

/** An engine: how it pulls, tells an image's id, forgets it, and pushes what it pulled under another name. */
interface Client {
  pull(reference: string): Promise<void>;
  id(reference: string): Promise<string>;
  remove(reference: string): Promise<void>;
  push(reference: string, target: string): Promise<void>;
}

const dockerd: Client = {
  pull: async (reference) => void (await host.mustDocker('pull', '-q', reference)),
  id: (reference) => host.mustDocker('image', 'inspect', '--format', '{{.Id}}', reference),
  remove: async (reference) => void (await host.mustDocker('rmi', '-f', reference)),
  push: async (reference, target) => {
    await host.mustDocker('tag', reference, target);
    await host.mustDocker('push', '-q', target);
  },
};

const ctr = async (...args: string[]): Promise<string> =>
  (await host.mustRun('ctr', ['-a', join(short, 'containerd.sock'), 'images', ...args])).stdout;
const hosts = ['--hosts-dir', join(templates, 'containerd/certs.d')];
const containerd: Client = {
  pull: async (reference) => void (await ctr('pull', ...hosts, reference)),
  id: async (reference) => {
    const [, digest] = new RegExp(`^${reference.replaceAll('.', '\\.')}\\s+\\S+\\s+(sha256:\\w+)`, 'm').exec(await ctr('ls')) ?? [];
    // containerd knows an image by its manifest.
    return digest === image.manifestDescriptor.digest ? image.id : `${digest}`;
  },
  remove: async (reference) => void (await ctr('rm', '--sync', reference)),
  push: async (reference, target) => {
    await ctr('tag', '--force', reference, target);
    await ctr('push', ...hosts, target);
  },
};

const podmanRun = async (...args: string[]): Promise<string> =>
  (await host.mustRun('podman', ['--root', join(short, 'podman'), '--runroot', join(short, 'podman-run'), '--storage-driver=vfs', ...args]))
    .stdout;
const podman: Client = {
  pull: async (reference) => void (await podmanRun('pull', '-q', reference)),
  id: async (reference) => `sha256:${(await podmanRun('image', 'inspect', '--format', '{{.Id}}', reference)).trim()}`,
  remove: async (reference) => void (await podmanRun('rmi', '-f', reference)),
  push: async (reference, target) => void (await podmanRun('push', '-q', reference, target)),
};

const layout = (reference: string): string => `dir:${join(short, reference.replaceAll(/[^a-z0-9]/g, '-'))}`;
const skopeoRun = async (...args: string[]): Promise<string> => (await host.mustRun('skopeo', args)).stdout;
const skopeo: Client = {
  pull: async (reference) => void (await skopeoRun('copy', '-q', `docker://${reference}`, layout(reference))),
  id: async (reference) =>
    (JSON.parse(await skopeoRun('inspect', '--raw', layout(reference))) as { config: { digest: string } }).config.digest,
  remove: async (reference) => rmSync(layout(reference).slice('dir:'.length), { recursive: true }),
  push: async (reference, target) => void (await skopeoRun('copy', '-q', layout(reference), `docker://${target}`)),
};

const clients: readonly [string, Client][] = [
  ['dockerd', dockerd],
  ['containerd', containerd],
  ['podman', podman],
  ['skopeo', skopeo],
];

function startDockerd(): Promise<void> {
  return runDockerd(host, ['--config-file', join(templates, 'dockerd/daemon.json'), '--iptables=false', '--bridge=none']);
}

async function startContainerd(): Promise<void> {
  const config = join(short, 'containerd.toml');
  const socket = join(short, 'containerd.sock');
  writeFileSync(
    config,
    `version = 2\nroot = "${short}/containerd"\nstate = "${short}/containerd-run"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "${socket}"\n`,
  );
  const daemon = host.spawn('containerd', ['-c', config]);
  host.onDispose(async () => {
    daemon.kill('SIGTERM');
    await waitFor(() => daemon.exitCode !== null || daemon.signalCode !== null, { timeoutMs: 30_000, what: 'containerd to stop' });
  });
  await waitFor(async () => (await host.run('ctr', ['-a', socket, 'version'])).code === 0, { timeoutMs: 60_000, what: 'containerd' });
}

beforeAll(async () => {
  short = mkdtempSync(join(tmpdir(), 'lab-'));
  host = await createTestHost({ name: 'lab' });
  await host.sh(`mkdir -p /run && mount -t tmpfs tmpfs /run
    ip addr add ${upstreamAddress}/32 dev lo; ip addr add ${proxyAddress}/32 dev lo
    printf '127.0.0.1 localhost\\n${proxyAddress} registry.lab\\n' > ${host.filesDirectory}/hosts; mount --bind ${host.filesDirectory}/hosts /etc/hosts
    mount -t tmpfs tmpfs /etc/containers/registries.conf.d; cp ${templates}/podman/lab.conf /etc/containers/registries.conf.d/`);
  upstream = await startRegistry({ place: host, host: upstreamAddress, port: 5000 });
  image = await buildImage({
    layers: [busyboxLayer(), [{ path: 'note', content: 'from the outside' }]],
    config: { Cmd: ['cat', '/note'] },
  });
  for (const repository of ['library/tool', 'team/tool']) {
    await pushImage(image, { address: upstream.address, repository, tag: '1' }, host);
  }
  const outside = ['docker.io', 'ghcr.io'].flatMap((name) => ['--upstream', `${name}=http://${upstream.address}`]);
  await registry('up', '--listen', `${proxyAddress}:5000`, '--data-root', join(host.directory, 'registry'), ...outside);
  await Promise.all([startDockerd(), startContainerd()]);
}, 180_000);

afterAll(async () => {
  await registry('down', '--data-root', join(host.directory, 'registry')).catch(() => undefined);
  await upstream?.stop();
  await host?.dispose();
  rmSync(short, { recursive: true, force: true });
}, 120_000);

const hub = 'docker.io/library/tool:1';
const stored = (name: string): string => `registry.lab:5000/lab/from-${name}:1`;

describe('a lab of other engines', () => {
  it.each(clients)('%s pulls from Docker Hub through the proxy', async (_name, client) => {
    await client.pull(hub);
    expect(await client.id(hub)).toBe(image.id);
  });

  it('asks the outside for each blob once, for all of them', () => {
    const gets = upstream.requests().filter((each) => each.method === 'GET' && each.path.includes('/blobs/'));
    expect(gets.map((each) => each.status)).toEqual(image.layers.map(() => 200).concat(200));
    expect(new Set(gets.map((each) => each.path)).size).toBe(gets.length);
    // None of them went to the outside by itself.
    expect(upstream.requests().filter((each) => /docker|containerd|containers|skopeo/.test(each.userAgent))).toEqual([]);
  });

  it.each([
    ['dockerd', dockerd, 'registry.lab:5000/ghcr.io/team/tool:1'],
    ['containerd', containerd, 'ghcr.io/team/tool:1'],
    ['podman', podman, 'ghcr.io/team/tool:1'],
    ['skopeo', skopeo, 'ghcr.io/team/tool:1'],
  ] as const)('%s pulls from another registry through it', async (_name, client, reference) => {
    await client.pull(reference);
    expect(await client.id(reference)).toBe(image.id);
  });

  it.each(clients)('%s pushes into it', async (name, client) => {
    await client.push(hub, stored(name));
  });
});

describe('with the line to the outside cut', () => {
  beforeAll(() => upstream.stop());

  it.each(clients)('%s pulls what another has pushed, and what anybody has pulled before', async (name, client) => {
    const [other] = clients[(clients.findIndex(([each]) => each === name) + 1) % clients.length] ?? [''];
    await client.pull(stored(other));
    expect(await client.id(stored(other))).toMatch(/^sha256:\w+$/);
    await client.remove(hub);
    await client.pull(hub);
    expect(await client.id(hub)).toBe(image.id);
  });
});
