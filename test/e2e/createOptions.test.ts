/**
 * Random bodies of ContainerCreate, of options that are right and options that are wrong. Whatever is asked for, the answer is a container or a
 * reason; a refusal leaves nothing behind, and what was made can be inspected, started or told why not, and removed without a trace.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ApiAnswer, engineApi } from './engineApi.ts';
import { useStack } from './stack.ts';

const stack = useStack({ ignoreLeaks: [/^file exec\/container-service\/seccomp\//, /^cgroup \/flotilla-random$/] });
const runs = process.env.FLOTILLA_SOAK === undefined ? 80 : 2000;

const anyOf = <T>(...values: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...values);
const someOf = <T>(...values: readonly T[]): fc.Arbitrary<T[]> =>
  fc.subarray([...values], { minLength: 1, maxLength: Math.min(2, values.length) });
const numbers = (...values: readonly number[]): fc.Arbitrary<number> =>
  fc.oneof({ weight: 4, arbitrary: anyOf(...values) }, { weight: 1, arbitrary: fc.integer({ min: -(2 ** 31), max: 2 ** 31 }) });
const words = (...values: readonly string[]): fc.Arbitrary<string> =>
  fc.oneof({ weight: 6, arbitrary: anyOf(...values) }, { weight: 1, arbitrary: fc.string({ maxLength: 12 }) });
const namesAndText = (...names: readonly string[]): fc.Arbitrary<Record<string, string>> =>
  fc.dictionary(words(...names), words('', '1', 'x', '1m', '10m'), { minKeys: 1, maxKeys: 2 });
const device = fc.record(
  { Path: words('/dev/null', '/dev/vda', '/no'), Rate: numbers(0, 1, 1048576), Weight: numbers(0, 10, 1000) },
  { requiredKeys: [] },
);

const mount = fc.record(
  {
    Type: words('bind', 'volume', 'tmpfs', 'image', 'npipe', 'cluster', ''),
    Source: words('/tmp', '/no/such', 'vol', '', 'relative/path', '/'),
    Target: words('/m', '/m/n', '/', '', 'x', '/etc/hosts', '/m/../m'),
    ReadOnly: fc.boolean(),
    BindOptions: fc.record(
      {
        Propagation: words('', 'rprivate', 'rslave', 'rshared', 'x'),
        NonRecursive: fc.boolean(),
        CreateMountpoint: fc.boolean(),
        ReadOnlyForceRecursive: fc.boolean(),
      },
      { requiredKeys: [] },
    ),
    VolumeOptions: fc.record(
      { NoCopy: fc.boolean(), Subpath: words('', 'a', '../a', '/a'), DriverConfig: fc.record({ Name: words('', 'local', 'x') }) },
      { requiredKeys: [] },
    ),
    TmpfsOptions: fc.record(
      { SizeBytes: numbers(0, -1, 4096), Mode: numbers(0, 0o700, 99_999), Options: anyOf([['exec']], [['x']], [[]]) },
      { requiredKeys: [] },
    ),
    ImageOptions: fc.record({ Subpath: words('', 'etc', '..') }, { requiredKeys: [] }),
  },
  { requiredKeys: ['Type', 'Target'] },
);

const healthcheck = fc.record(
  {
    Test: anyOf([], ['NONE'], ['CMD'], ['CMD', 'true'], ['CMD-SHELL', 'true'], ['x']),
    Interval: numbers(0, 1, 1e9),
    Timeout: numbers(0, -1, 1e9),
    Retries: numbers(0, 3, -1),
  },
  { requiredKeys: [] },
);

/** Options that are always there, then up to a dozen of the rest: with all of them at once the first mistake would hide the others. */
function options<T extends Record<string, fc.Arbitrary<unknown>>>(model: T): fc.Arbitrary<Record<string, unknown>> {
  const names = Object.keys(model) as (keyof T & string)[];
  return fc
    .subarray(names, { maxLength: 6 })
    .chain((chosen) => fc.record(Object.fromEntries(chosen.map((name) => [name, model[name] ?? fc.constant(0)]))));
}

const config = options({
  Cmd: anyOf(['true'], ['no-such-command'], [''], [], ['sh', '-c', 'exit 3']),
  Entrypoint: anyOf([''], ['true'], []),
  User: words('', 'root', '1:2', 'nobody-here', 'root:x', ':', '-1', '99999999999'),
  WorkingDir: words('', '/made/here', 'relative', '/etc/passwd', '/..'),
  Env: someOf('A=b', 'A', '=x', '', 'A=\u0000'),
  Hostname: words('', 'boat', 'a b', 'x'.repeat(70)),
  Domainname: words('', 'sea.example', 'x y'),
  ExposedPorts: anyOf({ '80': {} }, { '80/tcp': {}, '90-95/udp': {} }, { x: {} }, { '70000/tcp': {} }),
  Volumes: anyOf({ '/v': {} }, { v: {} }, { '/': {} }),
  Labels: namesAndText('a', 'flotilla.restart-unhealthy', ''),
  StopSignal: words('', 'SIGTERM', '9', '0', 'SIGX'),
  StopTimeout: numbers(0, 1, -1),
  Tty: fc.boolean(),
  OpenStdin: fc.boolean(),
  StdinOnce: fc.boolean(),
  NetworkDisabled: fc.boolean(),
  MacAddress: words('', '02:42:ac:11:00:99', 'x'),
  Healthcheck: healthcheck,
  Shell: anyOf(['sh', '-c'], []),
  OnBuild: anyOf(['RUN x'], []),
});

const hostConfig = options({
  Binds: someOf('/tmp:/b', '/tmp:/b:ro', 'named:/c', 'named:/c:nocopy', '/tmp', ':', '/tmp:b', '/:/h', '/x:/y:z:w', 'a b:/d'),
  Mounts: fc.array(mount, { minLength: 1, maxLength: 2 }),
  Tmpfs: anyOf({ '/t': '' }, { '/t': 'size=1m,exec' }, { '/t': 'x' }, { t: '' }, { '/': '' }),
  VolumesFrom: someOf('donor', 'donor:ro', 'donor:x', 'ghost', ''),
  VolumeDriver: words('', 'local', 'x'),
  NetworkMode: words('', 'bridge', 'none', 'host', 'default', 'container:donor', 'container:ghost', 'container:', 'ghost'),
  IpcMode: words('', 'none', 'private', 'shareable', 'host', 'container:donor', 'container:ghost', 'x'),
  PidMode: words('', 'host', 'container:donor', 'container:ghost', 'x'),
  UTSMode: words('', 'host', 'x'),
  UsernsMode: words('', 'host', 'x'),
  CgroupnsMode: words('', 'host', 'private', 'x'),
  // Groups of other names would stay, as with dockerd: they are the operator's.
  CgroupParent: anyOf('', '/flotilla-random', 'flotilla-random', '../flotilla-random'),
  Links: someOf('donor', 'donor:alias', 'ghost', '', 'a:b:c'),
  PortBindings: anyOf(
    { '80/tcp': [{}] },
    { '80': null },
    { '80/tcp': [{ HostPort: 'x' }] },
    { '80/tcp': [{ HostIp: '1.2', HostPort: '1' }] },
    { x: [] },
  ),
  PublishAllPorts: fc.boolean(),
  ExtraHosts: someOf('a:1.2.3.4', 'a:host-gateway', 'a', ':', 'a:x', 'a=::1'),
  Dns: someOf('9.9.9.9', '::1', 'x', ''),
  DnsSearch: someOf('sea.example', '.', ''),
  DnsOptions: someOf('ndots:2', ''),
  CapAdd: someOf('NET_ADMIN', 'ALL', 'all', 'x', 'CAP_CHOWN', ''),
  CapDrop: someOf('ALL', 'CHOWN', 'x'),
  Privileged: fc.boolean(),
  SecurityOpt: someOf(
    'no-new-privileges',
    'seccomp=unconfined',
    'seccomp={',
    'apparmor=x',
    'label=disable',
    'x',
    'systempaths=unconfined',
    'no-new-privileges=x',
  ),
  Sysctls: namesAndText('net.ipv4.ip_default_ttl', 'kernel.panic', 'net.x', 'kernel.shmmax', ''),
  Ulimits: fc.array(fc.record({ Name: words('nofile', 'core', 'x'), Soft: numbers(-1, 10), Hard: numbers(-1, 20) }, { requiredKeys: [] }), {
    minLength: 1,
    maxLength: 2,
  }),
  Devices: fc.array(
    fc.record(
      {
        PathOnHost: words('/dev/null', '/dev', '/no', ''),
        PathInContainer: words('/dev/x', 'x', ''),
        CgroupPermissions: words('rwm', 'r', 'x', ''),
      },
      { requiredKeys: [] },
    ),
    { minLength: 1, maxLength: 2 },
  ),
  DeviceCgroupRules: someOf('c 1:3 rwm', 'a *:* rwm', 'x', 'c 1:3', 'b 99999999999:1 r'),
  DeviceRequests: anyOf([], [{}], [{ Count: -1, Capabilities: [['gpu']] }]),
  GroupAdd: someOf('1', 'root', 'nobody-here', ''),
  LogConfig: fc.record(
    { Type: words('', 'json-file', 'local', 'none', 'syslog'), Config: namesAndText('max-size', 'max-file', 'mode', 'tag', 'x') },
    { requiredKeys: [] },
  ),
  RestartPolicy: fc.record({ Name: words('', 'no', 'on-failure', 'x'), MaximumRetryCount: numbers(0, 1, -1) }, { requiredKeys: [] }),
  AutoRemove: fc.boolean(),
  Annotations: namesAndText('a.b', 'run.oci.x', ''),
  OomScoreAdj: numbers(0, 500, -500, 2000),
  OomKillDisable: fc.boolean(),
  ReadonlyRootfs: fc.boolean(),
  ShmSize: numbers(0, 65_536, -1),
  StorageOpt: anyOf({}, { size: '1G' }),
  Runtime: words('', 'runc', 'crun', 'x'),
  Isolation: words('', 'default', 'hyperv'),
  Init: fc.boolean(),
  MaskedPaths: anyOf([], ['/proc/kcore'], ['x']),
  ReadonlyPaths: anyOf([], ['/proc/sys'], ['x']),
  ConsoleSize: anyOf([0, 0], [10, 20], [10]),
  Memory: numbers(0, 6_291_456, 67_108_864, 1, -1),
  MemorySwap: numbers(0, -1, 134_217_728, 1),
  MemoryReservation: numbers(0, 6_291_456, 1),
  MemorySwappiness: numbers(-1, 0, 50, 101),
  KernelMemory: numbers(0, 67_108_864),
  NanoCpus: numbers(0, 500_000_000, 1, 1e15),
  CpuShares: numbers(0, 2, 1024, -1),
  CpuPeriod: numbers(0, 100_000, 5),
  CpuQuota: numbers(0, 50_000, 5, -1),
  CpusetCpus: words('', '0', '0-99', 'x', '1-0'),
  CpusetMems: words('', '0', '7', 'x'),
  PidsLimit: numbers(0, -1, 20, 1),
  BlkioWeight: numbers(0, 10, 5).filter((weight) => weight >= 0 && weight < 65_536),
  BlkioWeightDevice: fc.array(
    device.filter(({ Weight = 0 }) => Weight >= 0 && Weight < 65_536),
    { minLength: 1, maxLength: 1 },
  ),
  BlkioDeviceReadBps: fc.array(
    device.filter(({ Rate = 0 }) => Rate >= 0),
    { minLength: 1, maxLength: 1 },
  ),
});

const body = fc.record({
  config,
  HostConfig: hostConfig,
  endpoints: fc.option(
    fc.record({
      EndpointsConfig: anyOf(
        {},
        { bridge: {} },
        { ghost: {} },
        { bridge: { IPAMConfig: { IPv4Address: 'x' } } },
        { bridge: { MacAddress: 'x' } },
      ),
    }),
  ),
  start: fc.boolean(),
});

const call = (method: string, path: string, sent?: unknown): Promise<ApiAnswer> =>
  engineApi(stack.host, method, `/v1.50${path}`, { timeoutMs: 60_000, ...(sent === undefined ? {} : { body: sent }) });

/** Everything that a container holds: its record, directories and snapshots, volumes, and endpoints on the default bridge. */
async function held(): Promise<Record<string, unknown>> {
  const [containers, volumes, bridge] = await Promise.all([
    call('GET', '/containers/json?all=1'),
    call('GET', '/volumes'),
    call('GET', '/networks/bridge'),
  ]);
  return {
    containers: (containers.json as { Id: string }[]).map(({ Id }) => Id),
    volumes: (volumes.json as { Volumes: { Name: string }[] }).Volumes.map(({ Name }) => Name).filter((name) =>
      /^[0-9a-f]{64}$/.test(name),
    ),
    endpoints: Object.keys((bridge.json as { Containers: object }).Containers),
    directories: readdirSync(join(stack.host.dataRoot, 'container-service/containers')),
    snapshots: readdirSync(join(stack.host.dataRoot, 'image-service/snapshots')),
  };
}

describe('POST /containers/create', () => {
  beforeAll(async () => {
    await stack.host.mustDocker('run', '-d', '--name', 'donor', '--ipc', 'shareable', '-v', '/shared', stack.busybox, 'sleep', '1000');
  });
  afterAll(async () => {
    await stack.host.mustDocker('rm', '-fv', 'donor');
  });

  it(`answers ${runs} random bodies with a container or a reason, and leaves nothing behind`, async () => {
    const before = await held();
    let made = 0;
    await fc.assert(
      fc.asyncProperty(body, async ({ config: asked, HostConfig, endpoints, start }) => {
        const sent = {
          Image: stack.busybox,
          Cmd: ['true'],
          ...asked,
          HostConfig,
          ...(endpoints === null ? {} : { NetworkingConfig: endpoints }),
        };
        const created = await call('POST', '/containers/create', sent);
        if (created.status === 201) {
          made += 1;
          await liveAndDie((created.json as { Id: string }).Id, start);
        } else {
          expect(created.status, created.text).toBeGreaterThanOrEqual(400);
          expect(created.status, created.text).toBeLessThan(500);
          expect(created.message).not.toBe('');
        }
        await expect.poll(held, { timeout: 30_000, interval: 50 }).toEqual(before);
      }),
      { numRuns: runs, endOnFailure: process.env.CI !== undefined },
    );
    // Neither all wrong nor all right.
    expect(made).toBeGreaterThan(runs / 20);
    expect(made).toBeLessThan(runs * 0.8);
  }, 1_200_000);
});

async function liveAndDie(id: string, start: boolean): Promise<void> {
  expect((await call('GET', `/containers/${id}/json?size=1`)).status).toBe(200);
  if (start) {
    const started = await call('POST', `/containers/${id}/start`);
    if (started.status !== 204) expect(started.message).not.toBe('');
  }
  const removed = await call('DELETE', `/containers/${id}?force=1&v=1`);
  // With AutoRemove it may be gone by itself.
  expect([204, 404, 409], removed.text).toContain(removed.status);
  if (removed.status === 409) expect(removed.message).toContain('already in progress');
}
