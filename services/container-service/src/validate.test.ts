import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import type { ContainerConfig, HostConfig } from '@flotilla/engine-api';
import { isForbidden } from '@flotilla/errors';
import { engineOptions } from '@flotilla/service-kit';
import { describe, expect, it } from 'vitest';
import type { HostFacts } from './spec/index.ts';
import { type CreateContext, type ValidatedConfig, validateCreate, validateUpdate } from './validate.ts';

const id = 'abcdef0123456789'.repeat(4);
const host: HostFacts = {
  boundingCapabilities: ['CAP_CHOWN', 'CAP_NET_ADMIN', 'CAP_SYS_ADMIN'],
  cgroupVersion: 1,
  cgroups: {
    memoryLimit: true,
    swapLimit: true,
    memoryReservation: true,
    memorySwappiness: true,
    oomKillDisable: true,
    cpuShares: true,
    cpuCfs: true,
    cpuRealtime: true,
    cpuset: true,
    cpus: '0-3',
    mems: '0',
    blkioWeight: false,
    blkioWeightDevice: false,
    blkioReadBps: true,
    blkioWriteBps: true,
    blkioReadIops: true,
    blkioWriteIops: true,
    pidsLimit: true,
  },
  architecture: 'amd64',
  kernel: { major: 6, minor: 1 },
  cpus: 4,
  memoryBytes: 8 << 30,
  seccomp: true,
  apparmor: false,
  lowestOomScoreAdj: 0,
  initPath: undefined,
  hostname: 'harbour',
};
const context: CreateContext = {
  options: engineOptions.parse({}),
  host,
  runtimes: ['crun', 'runc'],
  defaultRuntime: 'crun',
  dataRoot: '/var/lib/flotilla',
};

function create(hostConfig: HostConfig = {}, config: ContainerConfig = {}, image?: ContainerConfig): ValidatedConfig {
  return validateCreate(
    { id, config: { Cmd: ['true'], ...config }, hostConfig, ...(image === undefined ? {} : { image: { config: image } }) },
    context,
  );
}

describe('refusals in Docker’s words', () => {
  const cases: [string, HostConfig, ContainerConfig, string][] = [
    ['nothing to run', {}, { Cmd: [] }, 'no command specified'],
    ['a relative working directory', {}, { WorkingDir: 'tmp' }, "the working directory 'tmp' is invalid, it needs to be an absolute path"],
    ['a variable without a name', {}, { Env: ['=x'] }, 'invalid environment variable: =x'],
    ['a signal', {}, { StopSignal: 'SIGFOO' }, 'invalid signal: SIGFOO'],
    ['an interval', {}, { Healthcheck: { Interval: 500_000 } }, 'Interval in Healthcheck cannot be less than 1ms'],
    ['negative retries', {}, { Healthcheck: { Retries: -1 } }, 'Retries in Healthcheck cannot be negative'],
    ['an exposed port', {}, { ExposedPorts: { 'x/tcp': {} } }, 'invalid port specification: "x"'],
    ['a protocol', {}, { ExposedPorts: { '80/foo': {} } }, 'invalid proto: foo'],
    ['a bind', { Binds: ['/a:/b:/c:d'] }, {}, "invalid volume specification: '/a:/b:/c:d'"],
    [
      'a bind on the root',
      { Binds: ['/a:/'] },
      {},
      "invalid volume specification: '/a:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
    ],
    ['a mode', { Binds: ['/a:/b:rw,ro'] }, {}, 'invalid mode: rw,ro'],
    ['a mode for a destination alone', { Binds: ['/a:ro'] }, {}, "invalid volume specification: '/a:ro'"],
    ['two mounts in one place', { Binds: ['/a:/x', '/b:/x/'] }, {}, 'Duplicate mount point: /x'],
    ['a mount and a tmpfs in one place', { Binds: ['/a:/x'], Tmpfs: { '/x': '' } }, {}, 'Duplicate mount point: /x'],
    [
      'a missing source',
      { Mounts: [{ Type: 'bind', Source: '/nowhere-at-all', Target: '/x' }] },
      {},
      'invalid mount config for type "bind": bind source path does not exist: /nowhere-at-all',
    ],
    [
      'a mount without a target',
      { Mounts: [{ Type: 'volume' }] },
      {},
      'invalid mount config for type "volume": field Target must not be empty',
    ],
    [
      'an unknown mount',
      { Mounts: [{ Type: 'npipe', Source: 'x', Target: '/x' }] },
      {},
      'invalid mount config for type "npipe": mount type unknown',
    ],
    ['a source for a tmpfs', { Mounts: [{ Type: 'tmpfs', Source: 'x', Target: '/x' }] }, {}, 'field Source must not be specified'],
    [
      'a subpath that leads out',
      { Mounts: [{ Type: 'volume', Source: 'v', Target: '/x', VolumeOptions: { Subpath: '../x' } }] },
      {},
      'subpath must be a relative path within the volume',
    ],
    ['a tmpfs option', { Tmpfs: { '/x': 'foo' } }, {}, 'invalid tmpfs option ["foo" "foo"]'],
    ['little memory', { Memory: 1024 }, {}, 'Minimum memory limit allowed is 6MB'],
    [
      'less swap than memory',
      { Memory: 64 << 20, MemorySwap: 32 << 20 },
      {},
      'Minimum memoryswap limit should be larger than memory limit, see usage',
    ],
    ['swap alone', { MemorySwap: 64 << 20 }, {}, 'You should always set the Memory limit when using Memoryswap limit, see usage'],
    ['swappiness', { MemorySwappiness: 101 }, {}, 'Invalid value: 101, valid memory swappiness range is 0-100'],
    [
      'more reservation than memory',
      { Memory: 8 << 20, MemoryReservation: 16 << 20 },
      {},
      'Minimum memory limit can not be less than memory reservation limit, see usage',
    ],
    ['more CPUs than there are', { NanoCpus: 5e9 }, {}, 'range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs available'],
    ['CPUs and quota', { NanoCpus: 1e9, CpuQuota: 1000 }, {}, 'Conflicting options: Nano CPUs and CPU Quota cannot both be set'],
    ['a period', { CpuPeriod: 10 }, {}, 'CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)'],
    ['shares', { CpuShares: -1 }, {}, 'invalid CPU shares (-1): value must be a positive integer'],
    ['a CPU that is not there', { CpusetCpus: '3-4' }, {}, 'Requested CPUs are not available - requested 3-4, available: 0-3'],
    ['no list of CPUs', { CpusetCpus: 'x' }, {}, 'Invalid value x for cpuset cpus'],
    [
      'a restart policy',
      { RestartPolicy: { Name: 'sometimes' } },
      {},
      "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
    ],
    [
      'retries',
      { RestartPolicy: { Name: 'always', MaximumRetryCount: 2 } },
      {},
      "invalid restart policy: maximum retry count can only be used with 'on-failure'",
    ],
    [
      '--rm with a policy',
      { AutoRemove: true, RestartPolicy: { Name: 'always' } },
      {},
      "can't create 'AutoRemove' container with restart policy",
    ],
    [
      'ports with another’s network',
      { NetworkMode: 'container:x', PortBindings: { '80/tcp': [{ HostPort: '80' }] } },
      {},
      'conflicting options: port publishing and the container type network mode',
    ],
    [
      'a host name with another’s network',
      { NetworkMode: 'container:x' },
      { Hostname: 'h' },
      'conflicting options: hostname and the network mode',
    ],
    ['a host name with the host’s', { UTSMode: 'host' }, { Hostname: 'h' }, 'conflicting options: hostname and the UTS mode'],
    [
      'links with the host’s network',
      { NetworkMode: 'host', Links: ['a:b'] },
      {},
      "conflicting options: host type networking can't be used with links",
    ],
    ['a host port', { PortBindings: { '80/tcp': [{ HostPort: '99999' }] } }, {}, 'invalid port specification: "99999"'],
    ['an extra host', { ExtraHosts: ['x'] }, {}, 'bad format for add-host: "x"'],
    ['an extra host’s address', { ExtraHosts: ['x:1.2.3'] }, {}, 'invalid IP address in add-host: "1.2.3"'],
    ['a capability', { CapAdd: ['FLY'] }, {}, 'invalid CapAdd: unknown capability: "CAP_FLY"'],
    [
      'a capability we have not',
      { CapAdd: ['SYS_TIME'] },
      {},
      'invalid CapAdd: capability not supported by your kernel or not available in the current environment: "CAP_SYS_TIME"',
    ],
    ['an ipc mode', { IpcMode: 'x' }, {}, 'invalid IPC mode: x'],
    ['a pid mode', { PidMode: 'container:' }, {}, 'invalid PID mode: container:'],
    ['a runtime', { Runtime: 'fast' }, {}, 'unknown or invalid runtime name: fast'],
    ['a log driver', { LogConfig: { Type: 'gelf' } }, {}, "logger: no log driver named 'gelf' is registered"],
    [
      'a log option',
      { LogConfig: { Type: 'json-file', Config: { colour: 'red' } } },
      {},
      "unknown log opt 'colour' for json-file log driver",
    ],
    ['a number of log files', { LogConfig: { Type: 'json-file', Config: { 'max-file': '0' } } }, {}, 'max-file cannot be less than 1'],
    ['a security option', { SecurityOpt: ['x'] }, {}, 'invalid --security-opt 1: "x"'],
    ['a seccomp profile', { SecurityOpt: ['seccomp={'] }, {}, 'Decoding seccomp profile failed'],
    ['a kernel parameter', { Sysctls: { 'kernel.panic': '1' } }, {}, 'sysctl "kernel.panic" is not in a separate kernel namespace'],
    [
      'a network parameter with the host’s',
      { NetworkMode: 'host', Sysctls: { 'net.ipv4.ip_forward': '1' } },
      {},
      'sysctl "net.ipv4.ip_forward" not allowed in host network namespace',
    ],
    ['a limit', { Ulimits: [{ Name: 'beer', Soft: 1, Hard: 1 }] }, {}, 'invalid ulimit type: beer'],
    [
      'a device',
      { Devices: [{ PathOnHost: '/dev/nothing-here' }] },
      {},
      'error gathering device information while adding custom device "/dev/nothing-here": no such file or directory',
    ],
    [
      'a directory without devices',
      { Devices: [{ PathOnHost: '/etc' }] },
      {},
      'error gathering device information while adding custom device "/etc": not a device node',
    ],
    ['a device rule', { DeviceCgroupRules: ['x'] }, {}, "invalid device cgroup rule format: 'x'"],
    [
      'a GPU',
      { DeviceRequests: [{ Count: -1, Capabilities: [['gpu']] }] },
      {},
      'could not select device driver "" with capabilities: [[gpu]]',
    ],
    [
      'a size for the root',
      { StorageOpt: { size: '1G' } },
      {},
      "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
    ],
    ['an init where there is none', { Init: true }, {}, 'exec: "docker-init": executable file not found in $PATH'],
    ['an OOM score', { OomScoreAdj: 2000 }, {}, 'Invalid value 2000, range for oom score adj is [-1000, 1000]'],
    ['shared memory', { ShmSize: -1 }, {}, 'SHM size can not be less than 0'],
    [
      'an annotation without a name',
      { Annotations: { '': 'x' } },
      {},
      'invalid Annotations: the empty string is not permitted as an annotation key',
    ],
    ['an isolation', { Isolation: 'hyperv' }, {}, `invalid isolation: "hyperv" - linux only supports 'default'`],
    [
      'links with the host’s network',
      { NetworkMode: 'host', Links: ['x:y'] },
      {},
      "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
    ],
    ['a network of no container', { NetworkMode: 'container:' }, {}, 'invalid network mode: invalid container format container:<name|id>'],
    [
      'a bind that holds on to the engine’s mounts',
      { Binds: ['/var/lib:/x:private'] },
      {},
      'invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: "/var/lib/flotilla", bind mount source: "/var/lib", propagation: "private"',
    ],
    [
      'a tmpfs of less than nothing',
      { Mounts: [{ Type: 'tmpfs', Target: '/t', TmpfsOptions: { SizeBytes: -1 } }] },
      {},
      'invalid mount config for type "tmpfs": invalid tmpfs size: -1',
    ],
  ];
  it.each(cases)('%s', (_, hostConfig, config, message) => {
    expect(() => create(hostConfig, config)).toThrow(message);
  });

  it.each(['run.oci.seccomp_bpf_data', 'run.oci.hooks.stdout', 'org.criu.config'])('forbids the annotation %s', (name) => {
    try {
      create({ Annotations: { [name]: 'x' } });
      expect.unreachable();
    } catch (error) {
      expect(isForbidden(error)).toBe(true);
    }
  });
});

describe('warnings', () => {
  it('drop what the kernel cannot do', () => {
    const { hostConfig, warnings } = create({ BlkioWeight: 300 });
    expect(hostConfig.BlkioWeight).toBe(0);
    expect(warnings).toEqual(['Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.']);
  });
  it('say what happens to ports with the host’s network', () => {
    expect(create({ NetworkMode: 'host', PortBindings: { '80/tcp': [] } }).warnings).toEqual([
      'Published ports are discarded when using host network mode',
    ]);
  });
  it('say that an OOM score cannot be lowered', () => {
    const { hostConfig, warnings } = create({ OomScoreAdj: -500 });
    expect(hostConfig.OomScoreAdj).toBe(0);
    expect(warnings).toHaveLength(1);
  });
});

describe('defaults', () => {
  it('are Docker’s', () => {
    const { hostConfig, config } = create();
    expect(hostConfig).toMatchObject({
      NetworkMode: 'bridge',
      RestartPolicy: { Name: 'no', MaximumRetryCount: 0 },
      LogConfig: { Type: 'json-file', Config: {} },
      Runtime: 'crun',
      ShmSize: 67_108_864,
      IpcMode: 'private',
      CgroupnsMode: 'host',
      ConsoleSize: [0, 0],
      OomKillDisable: false,
      ReadonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
    });
    expect(hostConfig.MaskedPaths).toContain('/proc/kcore');
    expect(config.Hostname).toBe('abcdef012345');
    expect(config.Labels).toEqual({});
  });
  it('give twice the memory as memory and swap', () => {
    expect(create({ Memory: 10 << 20 }).hostConfig.MemorySwap).toBe(20 << 20);
  });
  it('mask nothing for a privileged container', () => {
    const { hostConfig } = create({ Privileged: true });
    expect(hostConfig.MaskedPaths).toBeUndefined();
    expect(hostConfig.SecurityOpt).toEqual(['label=disable']);
  });
  it('leave an empty list of masked paths empty', () => {
    expect(create({ MaskedPaths: [], ReadonlyPaths: [] }).hostConfig).toMatchObject({ MaskedPaths: [], ReadonlyPaths: [] });
  });
  it('take the host’s name with its network', () => {
    expect(create({ NetworkMode: 'host' }).config.Hostname).toBe('harbour');
  });
  it('make a private cgroup namespace on v2', () => {
    const v2: CreateContext = { ...context, host: { ...host, cgroupVersion: 2 } };
    expect(validateCreate({ id, config: { Cmd: ['x'] } }, v2).hostConfig.CgroupnsMode).toBe('private');
  });
});

describe('the image', () => {
  const image: ContainerConfig = {
    User: 'app',
    Env: ['PATH=/bin', 'A=image'],
    Cmd: ['serve'],
    Entrypoint: ['/entry'],
    WorkingDir: '/srv',
    Labels: { from: 'image', both: 'image' },
    ExposedPorts: { '80/tcp': {} },
    Volumes: { '/data': {} },
    StopSignal: 'SIGINT',
    Healthcheck: { Test: ['CMD', 'check'], Interval: 1e9 },
  };

  it('fills in what was not given', () => {
    const { config } = validateCreate(
      { id, config: { Env: ['A=user', 'B=c'], Labels: { both: 'user' } }, image: { config: image } },
      context,
    );
    expect(config).toMatchObject({
      User: 'app',
      Env: ['A=user', 'B=c', 'PATH=/bin'],
      Cmd: ['serve'],
      Entrypoint: ['/entry'],
      WorkingDir: '/srv',
      Labels: { from: 'image', both: 'user' },
      ExposedPorts: { '80/tcp': {} },
      Volumes: { '/data': {} },
      StopSignal: 'SIGINT',
      Healthcheck: { Test: ['CMD', 'check'], Interval: 1e9 },
    });
  });
  it('loses its command to an entrypoint, and its entrypoint to an empty one', () => {
    expect(create({}, { Cmd: [], Entrypoint: ['/mine'] }, image).config).toMatchObject({ Entrypoint: ['/mine'], Cmd: [] });
    const cleared = create({}, { Cmd: ['x'], Entrypoint: [''] }, image).config;
    expect([cleared.Entrypoint, cleared.Cmd]).toEqual([undefined, ['x']]);
  });
  it('keeps its command when only arguments change', () => {
    expect(create({}, { Cmd: ['other'] }, image).config).toMatchObject({ Entrypoint: ['/entry'], Cmd: ['other'] });
  });
  it('gives the times of its health check to the user’s', () => {
    expect(create({}, { Healthcheck: { Test: ['CMD', 'mine'] } }, image).config.Healthcheck).toEqual({
      Test: ['CMD', 'mine'],
      Interval: 1e9,
    });
  });
  it('is checked like the user', () => {
    expect(() => create({}, {}, { WorkingDir: 'relative' })).toThrow('needs to be an absolute path');
  });
});

describe('an existing source', () => {
  it('may be bound', () => {
    const directory = mkdtempSync(`${tmpdir()}/flotilla-validate-`);
    expect(() => create({ Mounts: [{ Type: 'bind', Source: directory, Target: '/x' }] })).not.toThrow();
    rmSync(directory, { recursive: true });
  });
});

describe('update', () => {
  const base: HostConfig = { Memory: 64 << 20, MemorySwap: 128 << 20, RestartPolicy: { Name: 'no' } };
  const update = (change: HostConfig, hostConfig = base): HostConfig =>
    validateUpdate({ update: change, hostConfig, running: true }, context).hostConfig;

  it('changes what is given and keeps the rest', () => {
    expect(update({ CpuShares: 512, RestartPolicy: { Name: 'always' } })).toMatchObject({
      Memory: 64 << 20,
      CpuShares: 512,
      RestartPolicy: { Name: 'always' },
    });
  });
  it.each([
    [{ Memory: 1 }, base, 'Minimum memory limit allowed is 6MB'],
    [
      { Memory: 256 << 20 },
      base,
      'Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time',
    ],
    [{ NanoCpus: 1e9 }, { ...base, CpuQuota: 5000 }, 'Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set'],
    [{ CpuPeriod: 5000 }, { ...base, NanoCpus: 1e9 }, 'Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set'],
    [
      { RestartPolicy: { Name: 'always' } },
      { ...base, AutoRemove: true },
      'Restart policy cannot be updated because AutoRemove is enabled for the container',
    ],
  ] as [HostConfig, HostConfig, string][])('refuses %j', (change, hostConfig, message) => {
    expect(() => update(change, hostConfig)).toThrow(message);
  });
});
