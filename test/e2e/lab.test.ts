/**
 * A lab: three hosts, each a whole stack, on one wire with a fourth that runs the shared registry-proxy (two replicas behind one name), and with an upstream
 * registry, and the Redis and NATS that they share, outside. One set of steps, in order: what one leaves in the cache the next builds on.
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  buildImage,
  busyboxLayer,
  type CommandResult,
  createLab,
  type Lab,
  mustSucceed,
  pushImage,
  startRegistry,
  type TestHost,
  type TestRegistry,
  waitFor,
} from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

const MiB = 1024 * 1024;
const soak = process.env.FLOTILLA_SOAK === '1';
/** Of each of an image's four layers: 500 MiB in full. */
const blobBytes = soak ? 125 * MiB : 6 * MiB;
if (soak) vi.setConfig({ testTimeout: 900_000 });
/** For one docker command. */
const timeoutMs = soak ? 600_000 : 60_000;
const port = 5555;
const name = 'registry.lab';

let lab: Lab;
let upstream: TestRegistry;
let shared: TestHost;
const hosts: TestHost[] = [];
const replicas = ['198.18.0.13', '198.18.0.113'];
const dataRoot = (): string => join(shared.directory, 'registry');
const remote = (repository: string): string => `198.18.0.1:5000/${repository}:1`;

/** An image of several layers that no compression makes smaller. */
async function pushBig(repository: string): Promise<void> {
  const layers = Array.from({ length: 4 }, (_, index) => [{ path: `data${index}`, content: randomBytes(blobBytes) }]);
  const image = await buildImage({ layers: [busyboxLayer(), ...layers], config: { Cmd: ['sha256sum', '/data0'] } });
  await pushImage(image, { address: upstream.address, repository, tag: '1' }, lab.outside);
}

const docker = (host: TestHost, ...args: string[]): Promise<CommandResult> => host.dockerWith({ timeoutMs }, ...args);
const mustDocker = async (host: TestHost, ...args: string[]): Promise<string> =>
  mustSucceed(await docker(host, ...args), `docker ${args.join(' ')}`).stdout.trimEnd();

async function registry(...args: string[]): Promise<string> {
  const flotilla = join(import.meta.dirname, '../../deploy/flotilla');
  return (await shared.mustRun('sh', [flotilla, 'registry', ...args])).stdout;
}

async function startReplica(address: string): Promise<void> {
  await registry('up', '--listen', `${address}:${port}`, '--data-root', dataRoot(), '--insecure-registry', '198.18.0.0/15');
}

const blobGets = (repository: string): string[] =>
  upstream
    .requests()
    .filter((each) => each.method === 'GET' && each.path.startsWith(`/v2/${repository}/blobs/`))
    .map((each) => each.path);

beforeAll(async () => {
  lab = await createLab({ hosts: 4 });
  upstream = await startRegistry({ place: lab.outside, host: lab.outsideAddress, port: 5000 });
  lab.outside.onDispose(() => upstream.stop());
  const engines = [
    [
      'redis-server',
      '--bind',
      lab.outsideAddress,
      '--port',
      '6379',
      '--protected-mode',
      'no',
      '--dir',
      lab.outside.filesDirectory,
      '--appendonly',
      'yes',
    ],
    ['nats-server', '-a', lab.outsideAddress, '-p', '4222', '-js', '-sd', join(lab.outside.filesDirectory, 'nats')],
  ] as const;
  for (const [program, ...args] of engines) {
    const engine = lab.outside.spawn(program, args, { stdio: 'ignore' });
    lab.outside.onDispose(() => void engine.kill('SIGKILL'));
  }
  const env = { REDIS_URL: `redis://${lab.outsideAddress}:6379`, NATS_URL: `nats://${lab.outsideAddress}:4222` };
  const [fourth] = lab.hosts.slice(3);
  if (fourth === undefined) throw new Error('the lab has no fourth host');
  shared = fourth.host;
  await shared.sh(`ip addr add ${replicas[1]}/24 dev eth0`);
  chmodSync(shared.directory, 0o711);
  for (const address of replicas) await startReplica(address);
  for (const { host } of lab.hosts.slice(0, 3)) {
    hosts.push(host);
    const file = join(host.directory, 'files', 'hosts');
    writeFileSync(file, `127.0.0.1 localhost\n${replicas.map((address) => `${address} ${name}\n`).join('')}`);
    await host.sh(`mount --bind ${file} /etc/hosts`);
  }
  await Promise.all(hosts.map((host) => host.startStack({ env, args: ['--registry-proxy', `http://${name}:${port}`] })));
}, 240_000);

afterAll(async () => {
  for (const host of hosts) {
    await host.docker('system', 'prune', '-af');
    await host.flotilla('down').catch(() => undefined);
  }
  await registry('down', '--data-root', dataRoot()).catch(() => undefined);
  await lab?.dispose();
}, 120_000);

describe('hosts that share one registry-proxy', () => {
  it('pull one image at once, and the upstream gives each blob exactly once', async () => {
    await pushBig('big');
    const pulls = await Promise.all(hosts.map((host) => docker(host, 'pull', '-q', remote('big'))));
    for (const pull of pulls) expect(pull).toMatchObject({ code: 0, stderr: '' });
    const paths = blobGets('big');
    expect(new Set(paths).size).toBe(paths.length);
    // Four layers of our own, busybox's, and the config.
    expect(paths).toHaveLength(6);
    const digests = await Promise.all(
      hosts.map((host) => mustDocker(host, 'image', 'inspect', '--format', '{{.Id}} {{index .RepoDigests 0}}', remote('big'))),
    );
    expect(new Set(digests).size).toBe(1);
  });

  it('keep their records in one Redis, each its own, and run none beside it', async () => {
    const scan = `redis-cli -h ${lab.outsideAddress} --scan --pattern 'flotilla:*:container-service}:records'`;
    for (const host of hosts) await mustDocker(host, 'create', '--name', 'same', '--network', 'none', remote('big'));
    expect(new Set((await lab.outside.sh(scan)).trimEnd().split('\n')).size).toBe(hosts.length);
    for (const host of hosts) {
      expect((await host.processes()).map(({ service }) => service)).not.toContain('redis');
      expect(await mustDocker(host, 'ps', '-a', '--format', '{{.Names}}')).toBe('same');
      await mustDocker(host, 'rm', 'same');
    }
  });

  it('run what another host has pushed into it', async () => {
    const [first, second] = hosts as [TestHost, TestHost];
    await mustDocker(first, 'tag', remote('big'), 'lab/tool:1');
    await mustDocker(first, 'push', '-q', 'lab/tool:1');
    const ran = await mustDocker(second, 'run', '--rm', '--network', 'none', 'lab/tool:1', 'sh', '-c', 'wc -c < /data0');
    expect(Number(ran)).toBe(blobBytes);
    expect(await mustDocker(second, 'image', 'inspect', '--format', '{{.Id}}', 'lab/tool:1')).toBe(
      await mustDocker(first, 'image', 'inspect', '--format', '{{.Id}}', 'lab/tool:1'),
    );
  });

  it('pull to the end when a replica is killed in the middle, and no blob is fetched from its start again', async () => {
    await pushBig('killed');
    const pulls = hosts.map((host) => docker(host, 'pull', '-q', remote('killed')));
    const begun = await waitFor(() => begunBlobs(), { what: 'the first blobs to be on their way', intervalMs: 5 });
    process.kill(pidOf(replicas[0] ?? ''), 'SIGKILL');
    for (const pull of await Promise.all(pulls)) expect(pull).toMatchObject({ code: 0, stderr: '' });
    const whole = upstream
      .requests()
      .filter((each) => each.method === 'GET' && each.status === 200 && each.path.startsWith('/v2/killed/blobs/'))
      .map((each) => each.path);
    // What had come to the disk is gone on with by Range (206); only what had not is asked for from its start again.
    for (const digest of begun)
      expect(
        whole.filter((path) => path.endsWith(digest)),
        digest,
      ).toHaveLength(1);
    await startReplica(replicas[0] ?? '');
  });

  it('pull what is cached while the upstream is away, and are told clearly of the rest', async () => {
    const [first] = hosts as [TestHost];
    await pushBig('unknown');
    await upstream.stop();
    await mustDocker(first, 'rmi', '-f', remote('big'), 'lab/tool:1');
    expect(await docker(first, 'pull', '-q', remote('big'))).toMatchObject({ code: 0, stderr: '' });
    const refused = await docker(first, 'pull', '-q', remote('unknown'));
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('198.18.0.1:5000/v2/": dial tcp 198.18.0.1:5000: connect: connection refused');
  });

  it('are told clearly when the proxy itself is away', async () => {
    const [first] = hosts as [TestHost];
    await registry('down', '--data-root', dataRoot());
    const refused = await docker(first, 'pull', '-q', remote('unknown'));
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain(`the registry proxy at http://${name}:${port} cannot be reached`);
    const login = await docker(first, 'login', '-u', 'a', '-p', 'b', '198.18.0.1:5000');
    expect(login.code).toBe(1);
    expect(login.stderr).toContain(`the registry proxy at http://${name}:${port} cannot be reached`);
  });
});

/** Digests of blobs of which the proxy has a part on its disk; false while there is none. */
function begunBlobs(): string[] | false {
  const folder = join(dataRoot(), 'partial');
  const begun = readdirSync(folder).filter((name) => (statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0) > 0);
  return begun.length > 0 && begun.map((name) => name.replace('-', ':'));
}

function pidOf(address: string): number {
  return (JSON.parse(readFileSync(join(dataRoot(), 'run', `${address}_${port}.json`), 'utf8')) as { pid: number }).pid;
}
