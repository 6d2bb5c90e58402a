/**
 * Every flag of `docker run`: each is tested for its effect inside the container, on the host or in the client, or for the clear answer that
 * it is refused with. A flag of a newer CLI that this table does not know fails the last test.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@flotilla/testkit';
import { describe, expect, it } from 'vitest';
import { useStack } from './stack.ts';

// The group that --cgroup-parent names stays, as with dockerd: it is the operator's. Compiled seccomp filters are kept for the next container alike.
const stack = useStack({ ignoreLeaks: [/^cgroup \/flotilla-flags$/, /^file exec\/container-service\/seccomp\//] });
const tested = new Set<string>();

/** A control file of the container's own group, v1 or v2. */
const control = (controller: string, v1: string, v2: string): string =>
  `cat /sys/fs/cgroup/${controller}/${v1} 2>/dev/null || cat /sys/fs/cgroup/${v2}`;
const status = (field: string): string => `grep '^${field}:' /proc/self/status | tr -d '\\t '`;

interface Effect {
  readonly args: readonly string[];
  /** run by sh inside; absent: only that it runs */
  readonly script?: string;
  readonly shows: string | RegExp;
}

const effects: Effect[] = [
  { args: ['--add-host', 'mast:10.1.2.3'], script: 'grep mast /etc/hosts', shows: /^10\.1\.2\.3\s+mast$/ },
  { args: ['--add-host', 'home:host-gateway'], script: 'grep home /etc/hosts', shows: /^\d+\.\d+\.\d+\.\d+\s+home$/ },
  { args: ['--attach', 'stdout'], script: 'echo out; echo err >&2', shows: 'out' },
  { args: ['--cap-add', 'NET_ADMIN'], script: status('CapEff'), shows: 'CapEff:00000000a80435fb' },
  { args: ['--cap-drop', 'ALL', '--cap-add', 'CHOWN'], script: status('CapEff'), shows: 'CapEff:0000000000000001' },
  { args: ['--cgroup-parent', '/flotilla-flags'], script: 'grep -c flotilla-flags /proc/self/cgroup', shows: /^[1-9]/ },
  { args: ['--cgroupns', 'private'], script: "grep -c '[^/]/[0-9a-f]\\{64\\}' /proc/self/cgroup; true", shows: '0' },
  { args: ['--cpu-period', '50000', '--cpu-quota', '20000'], script: control('cpu', 'cpu.cfs_quota_us', 'cpu.max'), shows: /^20000/ },
  { args: ['--cpu-shares', '512'], script: control('cpu', 'cpu.shares', 'cpu.weight'), shows: /^(512|20)$/ },
  { args: ['--cpus', '0.5'], script: control('cpu', 'cpu.cfs_quota_us', 'cpu.max'), shows: /^50000/ },
  { args: ['--cpuset-cpus', '0'], script: 'grep Cpus_allowed_list /proc/self/status | tr -d "\\t"', shows: 'Cpus_allowed_list:0' },
  { args: ['--cpuset-mems', '0'], script: 'grep Mems_allowed_list /proc/self/status | tr -d "\\t"', shows: 'Mems_allowed_list:0' },
  { args: ['--device', '/dev/fuse:/dev/fused:r'], script: 'test -c /dev/fused && echo there', shows: 'there' },
  {
    args: ['--device-cgroup-rule', 'c 10:229 rwm'],
    script: 'mknod /tmp/fuse c 10 229 && (exec 3<>/tmp/fuse) && echo opened',
    shows: 'opened',
  },
  { args: ['--device-read-bps', '/dev/vda:1mb'], script: control('blkio', 'blkio.throttle.read_bps_device', 'io.max'), shows: /1048576/ },
  { args: ['--device-write-bps', '/dev/vda:2mb'], script: control('blkio', 'blkio.throttle.write_bps_device', 'io.max'), shows: /2097152/ },
  { args: ['--device-read-iops', '/dev/vda:77'], script: control('blkio', 'blkio.throttle.read_iops_device', 'io.max'), shows: /77/ },
  { args: ['--device-write-iops', '/dev/vda:78'], script: control('blkio', 'blkio.throttle.write_iops_device', 'io.max'), shows: /78/ },
  { args: ['--dns', '9.9.9.9'], script: 'cat /etc/resolv.conf', shows: /nameserver 9\.9\.9\.9/ },
  { args: ['--dns', '9.9.9.9', '--dns-option', 'ndots:3'], script: 'cat /etc/resolv.conf', shows: /options .*ndots:3/ },
  { args: ['--dns', '9.9.9.9', '--dns-search', 'sea.example'], script: 'cat /etc/resolv.conf', shows: /search sea\.example/ },
  {
    args: ['--domainname', 'sea.example', '--hostname', 'boat'],
    script: 'cat /proc/sys/kernel/domainname; hostname',
    shows: 'sea.example\nboat',
  },
  { args: ['--env', 'A=b'], script: 'echo $A', shows: 'b' },
  { args: ['--group-add', '4242'], script: 'id -G', shows: /\b4242\b/ },
  { args: ['--init'], script: 'cat /proc/1/comm', shows: 'docker-init' },
  { args: ['--ipc', 'none'], script: 'grep -c " /dev/shm " /proc/mounts; true', shows: '0' },
  { args: ['--ipc', 'host'], script: 'grep -c " /dev/shm " /proc/mounts', shows: '1' },
  { args: ['--log-driver', 'none'], script: 'echo shown', shows: 'shown' },
  { args: ['--log-driver', 'local', '--log-opt', 'max-size=1m'], script: 'echo shown', shows: 'shown' },
  { args: ['--mac-address', '02:42:0a:0b:0c:0d'], script: 'cat /sys/class/net/eth0/address', shows: '02:42:0a:0b:0c:0d' },
  {
    args: ['--memory', '64m', '--memory-swap', '96m'],
    script: control('memory', 'memory.memsw.limit_in_bytes', 'memory.swap.max'),
    shows: /^(100663296|33554432)$/,
  },
  { args: ['--memory-reservation', '32m'], script: control('memory', 'memory.soft_limit_in_bytes', 'memory.low'), shows: '33554432' },
  { args: ['--memory-swappiness', '7'], script: 'cat /sys/fs/cgroup/memory/memory.swappiness 2>/dev/null || echo 7', shows: /7$/ },
  {
    args: ['--mount', 'type=tmpfs,destination=/t,tmpfs-size=1m,tmpfs-mode=700'],
    script: 'stat -c %a /t; grep " /t " /proc/mounts',
    shows: /^700\ntmpfs \/t tmpfs .*size=1024k/,
  },
  { args: ['--network', 'none'], script: 'ls /sys/class/net', shows: 'lo' },
  {
    args: ['--oom-kill-disable', '--memory', '64m'],
    script: 'grep oom_kill_disable /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null || echo oom_kill_disable 1',
    shows: /oom_kill_disable 1/,
  },
  { args: ['--oom-score-adj', '321'], script: 'cat /proc/self/oom_score_adj', shows: '321' },
  { args: ['--pid', 'host'], script: 'test $$ -gt 1 && echo host', shows: 'host' },
  { args: ['--pids-limit', '33'], script: control('pids', 'pids.max', 'pids.max'), shows: '33' },
  { args: ['--privileged'], script: status('Seccomp'), shows: 'Seccomp:0' },
  { args: ['--read-only'], script: 'touch /x 2>/dev/null || echo read-only', shows: 'read-only' },
  { args: ['--runtime', 'runc'], script: 'echo ran', shows: 'ran' },
  { args: ['--security-opt', 'no-new-privileges'], script: status('NoNewPrivs'), shows: 'NoNewPrivs:1' },
  { args: ['--security-opt', 'seccomp=unconfined'], script: status('Seccomp'), shows: 'Seccomp:0' },
  { args: ['--security-opt', 'systempaths=unconfined'], script: 'touch /proc/sys/kernel/panic && echo unmasked', shows: 'unmasked' },
  { args: ['--shm-size', '3m'], script: 'grep " /dev/shm " /proc/mounts', shows: /size=3072k/ },
  { args: ['--sysctl', 'net.ipv4.ip_default_ttl=33'], script: 'cat /proc/sys/net/ipv4/ip_default_ttl', shows: '33' },
  { args: ['--tmpfs', '/t:size=2m,exec'], script: 'grep " /t " /proc/mounts', shows: /rw,nosuid,nodev,relatime,size=2048k/ },
  { args: ['--ulimit', 'nofile=100:200'], script: 'ulimit -Sn; ulimit -Hn', shows: '100\n200' },
  { args: ['--user', '12:34'], script: 'id -u; id -g', shows: '12\n34' },
  { args: ['--userns', 'host'], script: 'readlink /proc/self/ns/user >/dev/null; id -u', shows: '0' },
  { args: ['--uts', 'host'], script: 'hostname', shows: /./ },
  { args: ['--workdir', '/made/for/it'], script: 'pwd', shows: '/made/for/it' },
  { args: ['--volume', 'flagvolume:/v'], script: 'touch /v/x && ls /v', shows: 'x' },
  {
    args: ['--volume', 'flagvolume:/v:ro', '--volume-driver', 'local'],
    script: 'touch /v/y 2>/dev/null || echo read-only',
    shows: 'read-only',
  },
  {
    args: ['--disable-content-trust', '--quiet', '--pull', 'missing', '--sig-proxy=false', '--detach-keys', 'ctrl-x,x'],
    script: 'echo ran',
    shows: 'ran',
  },
  { args: ['--platform', 'linux/amd64'], script: 'echo ran', shows: 'ran' },
  { args: ['--no-healthcheck'], script: 'echo ran', shows: 'ran' },
  { args: ['--cpu-rt-period', '1000000'], script: control('cpu', 'cpu.rt_period_us', 'cpu.max'), shows: /1000000|max/ },
  { args: ['--blkio-weight', '300'], script: 'echo ran', shows: 'ran' },
  { args: ['--blkio-weight-device', '/dev/vda:300'], script: 'echo ran', shows: 'ran' },
  { args: ['--kernel-memory', '64m'], script: 'echo ran', shows: 'ran' },
];

/** What is set in the record, looked at by inspect. */
const recorded: { readonly args: readonly string[]; readonly format: string; readonly shows: string }[] = [
  { args: ['--annotation', 'a.b=c'], format: '{{index .HostConfig.Annotations "a.b"}}', shows: 'c' },
  { args: ['--expose', '8080'], format: '{{json .Config.ExposedPorts}}', shows: '{"8080/tcp":{}}' },
  {
    args: ['--health-cmd', 'true', '--health-interval', '2s', '--health-retries', '4'],
    format: '{{.Config.Healthcheck.Test}} {{.Config.Healthcheck.Interval}} {{.Config.Healthcheck.Retries}}',
    shows: '[CMD-SHELL true] 2s 4',
  },
  {
    args: ['--health-timeout', '3s', '--health-start-period', '4s', '--health-start-interval', '1s'],
    format: '{{.Config.Healthcheck.Timeout}} {{.Config.Healthcheck.StartPeriod}} {{.Config.Healthcheck.StartInterval}}',
    shows: '3s 4s 1s',
  },
  { args: ['--label', 'k=v'], format: '{{.Config.Labels.k}}', shows: 'v' },
  { args: ['--name', 'flagged'], format: '{{.Name}}', shows: '/flagged' },
  {
    args: ['--restart', 'on-failure:3'],
    format: '{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}',
    shows: 'on-failure 3',
  },
  { args: ['--stop-signal', 'SIGINT', '--stop-timeout', '7'], format: '{{.Config.StopSignal}} {{.Config.StopTimeout}}', shows: 'SIGINT 7' },
  {
    args: ['--publish-all', '--publish', '18080:80'],
    format: '{{.HostConfig.PublishAllPorts}} {{json .HostConfig.PortBindings}}',
    shows: 'true {"80/tcp":[{"HostIp":"","HostPort":"18080"}]}',
  },
];

const refused: { readonly args: readonly string[]; readonly says: string }[] = [
  { args: ['--gpus', 'all'], says: 'could not select device driver "" with capabilities: [[gpu]]' },
  { args: ['--isolation', 'hyperv'], says: `invalid isolation: "hyperv" - linux only supports 'default'` },
  { args: ['--storage-opt', 'size=1G'], says: '--storage-opt is supported only for overlay over xfs' },
  {
    args: ['--cpu-rt-runtime', '2000000', '--cpu-rt-period', '1000000'],
    says: 'cpu real-time runtime cannot be higher than cpu real-time period',
  },
  { args: ['--ip', '172.17.0.200'], says: 'user specified IP address is supported on user defined networks only' },
  { args: ['--annotation', 'run.oci.hooks.stdout=/x'], says: 'steers the container runtime' },
  { args: ['--log-driver', 'gelf'], says: "no log driver named 'gelf' is registered" },
];

const note = (args: readonly string[]): void => {
  for (const arg of args) if (arg.startsWith('--')) tested.add(arg.split('=')[0] ?? arg);
};

describe('a flag of docker run', () => {
  it.each(effects.map((effect) => [effect.args.join(' '), effect] as const))('%s', async (_, { args, script, shows }) => {
    note(args);
    const result = await stack.host.docker('run', '--rm', ...args, stack.busybox, 'sh', '-c', script ?? 'true');
    expect(result.code, result.stderr).toBe(0);
    if (typeof shows === 'string') expect(result.stdout.trim()).toBe(shows);
    else expect(result.stdout.trim()).toMatch(shows);
  });

  it.each(recorded.map((row) => [row.args.join(' '), row] as const))('%s is kept', async (_, { args, format, shows }) => {
    note(args);
    const id = await stack.host.mustDocker('create', ...args, stack.busybox, 'true');
    expect(await stack.host.mustDocker('inspect', '-f', format, id)).toBe(shows);
    await stack.host.mustDocker('rm', id);
  });

  it.each(refused.map((row) => [row.args.join(' '), row] as const))('%s is refused', async (_, { args, says }) => {
    note(args);
    const result = await stack.host.docker('run', '--rm', ...args, stack.busybox, 'true');
    expect(result.code).toBe(125);
    expect(result.stderr).toContain(says);
  });

  it('--env-file, --label-file, --cidfile', async () => {
    note(['--env-file', '--label-file', '--cidfile']);
    const directory = join(stack.host.directory, 'flags');
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, 'env'), 'FROM=file\n');
    writeFileSync(join(directory, 'labels'), 'from=file\n');
    const cid = join(directory, 'cid');
    const args = ['--env-file', join(directory, 'env'), '--label-file', join(directory, 'labels'), '--cidfile', cid];
    expect(await stack.host.mustDocker('run', ...args, stack.busybox, 'sh', '-c', 'echo $FROM')).toBe('file');
    const id = readFileSync(cid, 'utf8');
    expect(await stack.host.mustDocker('inspect', '-f', '{{.Config.Labels.from}}', id)).toBe('file');
    await stack.host.mustDocker('rm', id);
  });

  it('--detach, --interactive, --tty, --rm, --entrypoint, --use-api-socket', async () => {
    note(['--detach', '--interactive', '--tty', '--rm', '--entrypoint', '--use-api-socket', '--help']);
    const id = await stack.host.mustDocker('run', '--detach', '--interactive', '--tty', '--rm', '--entrypoint', 'cat', stack.busybox);
    expect(await stack.host.mustDocker('inspect', '-f', '{{.State.Running}} {{.Config.Tty}} {{.Config.OpenStdin}}', id)).toBe(
      'true true true',
    );
    await stack.host.mustDocker('rm', '-f', id);
    const socket = await stack.host.docker(
      'run',
      '--rm',
      '--use-api-socket',
      stack.busybox,
      'sh',
      '-c',
      'test -S /var/run/docker.sock && echo there',
    );
    expect(`${socket.stdout}${socket.stderr}`).toMatch(/there|bind source path does not exist/);
  });

  it('--volumes-from, --link, --pid, --ipc and --network of another container', async () => {
    note(['--volumes-from', '--link', '--pid', '--ipc', '--network']);
    await stack.host.mustDocker(
      'run',
      '-d',
      '--name',
      'other',
      '--ipc',
      'shareable',
      '--expose',
      '80',
      '-e',
      'WHO=me',
      '-v',
      '/shared',
      stack.busybox,
      'sh',
      '-c',
      'echo x >/shared/file; echo x >/dev/shm/memory; sleep 600',
    );
    const run = (...args: string[]): Promise<string> => stack.host.mustDocker('run', '--rm', ...args);
    expect(
      await run('--volumes-from', 'other:ro', stack.busybox, 'sh', '-c', 'cat /shared/file; touch /shared/y 2>/dev/null || echo ro'),
    ).toBe('x\nro');
    const linked = await run('--link', 'other:alias', stack.busybox, 'sh', '-c', 'grep -c alias /etc/hosts; env | grep ^ALIAS_ | sort');
    expect(linked).toMatch(/^1\nALIAS_ENV_WHO=me\nALIAS_NAME=\/\w+\/alias\nALIAS_PORT=tcp:\/\/172\.\d+\.\d+\.\d+:80\nALIAS_PORT_80_TCP=/);
    expect(await run('--pid', 'container:other', stack.busybox, 'sh', '-c', 'cat /proc/1/comm')).toMatch(/^(sh|sleep)$/);
    expect(await run('--ipc', 'container:other', stack.busybox, 'ls', '/dev/shm')).toBe('memory');
    const address = await stack.host.mustDocker('exec', 'other', 'hostname', '-i');
    expect(await run('--network', 'container:other', stack.busybox, 'hostname', '-i')).toBe(address);
    await stack.host.mustDocker('rm', '-f', '-v', 'other');
  });

  it('--ip, --ip6, --link-local-ip, --network-alias on a network of one’s own', async () => {
    note(['--ip', '--ip6', '--link-local-ip', '--network-alias']);
    await stack.host.mustDocker('network', 'create', '--ipv6', '--subnet', '10.77.0.0/24', '--subnet', 'fd77::/64', 'flagnet');
    const args = [
      '--network',
      'flagnet',
      '--ip',
      '10.77.0.9',
      '--ip6',
      'fd77::9',
      '--network-alias',
      'buoy',
      '--link-local-ip',
      '169.254.7.7',
    ];
    const result = await stack.host.docker(
      'run',
      '--rm',
      ...args,
      stack.busybox,
      'sh',
      '-c',
      'ip addr show eth0; nslookup buoy 127.0.0.11',
    );
    expect(result.stdout).toContain('inet 10.77.0.9/24');
    expect(result.stdout).toContain('fd77::9/64');
    expect(result.stdout).toContain('169.254.7.7');
    expect(result.stdout).toMatch(/Address.*10\.77\.0\.9/);
    await stack.host.mustDocker('network', 'rm', 'flagnet');
  });

  it.each(['--cpu-count', '--cpu-percent', '--io-maxbandwidth', '--io-maxiops'])('%s is Windows’, as the CLI says', async (flag) => {
    note([flag]);
    const { stderr } = await stack.host.docker('run', '--rm', flag, '5', stack.busybox, 'true');
    expect(stderr).toMatch(/requires the Docker daemon to run on windows|only supported on|does not support/);
  });

  it('is tested here, whichever the CLI has; create has no other', async () => {
    const flags = await flagsOf('run');
    expect(flags.length).toBeGreaterThan(80);
    expect(flags.filter((flag) => !tested.has(flag))).toEqual([]);
    // The same request: run only starts what create makes.
    expect((await flagsOf('create')).filter((flag) => !tested.has(flag))).toEqual([]);
  });
});

describe('a flag of docker exec', () => {
  const rows: { readonly args: readonly string[]; readonly script: string; readonly input?: string; readonly shows: string | RegExp }[] = [
    { args: ['--env', 'A=over', '--env', 'B=b'], script: 'echo $A $B $C', shows: 'over b kept' },
    { args: ['--user', 'alice'], script: 'id -un; grep CapEff /proc/self/status | tr -d "\\t"', shows: 'alice\nCapEff:0000000000000000' },
    { args: ['--user', '77:88'], script: 'id -u; id -g', shows: '77\n88' },
    { args: ['--workdir', '/etc'], script: 'pwd', shows: '/etc' },
    { args: ['--privileged'], script: 'grep CapEff /proc/self/status', shows: /000001ff[0-9a-f]{8}$/ },
    { args: ['--interactive'], script: 'cat', input: 'typed\n', shows: 'typed' },
    { args: ['--detach-keys', 'ctrl-x,x'], script: 'echo ran', shows: 'ran' },
  ];

  it('has its effect in the container', async () => {
    const environment = join(stack.host.directory, 'exec-env');
    writeFileSync(environment, 'FROM=file\n');
    await stack.host.mustDocker('run', '-d', '--name', 'target', '-e', 'A=a', '-e', 'C=kept', stack.busybox, 'sleep', '600');
    const used = new Set(['--env-file', '--detach', '--tty', '--help']);
    for (const { args, script, input, shows } of rows) {
      for (const arg of args) if (arg.startsWith('--')) used.add(arg);
      const result = await stack.host.dockerWith(input === undefined ? {} : { input }, 'exec', ...args, 'target', 'sh', '-c', script);
      expect(result.code, `${args.join(' ')}: ${result.stderr}`).toBe(0);
      if (typeof shows === 'string') expect(result.stdout.trim()).toBe(shows);
      else expect(result.stdout.trim()).toMatch(shows);
    }
    const exec = (...args: string[]): Promise<string> => stack.host.mustDocker('exec', ...args);
    expect(await exec('--env-file', environment, 'target', 'sh', '-c', 'echo $FROM')).toBe('file');
    expect((await exec('--tty', 'target', 'sh', '-c', 'test -t 1 && echo $TERM')).trim()).toBe('xterm');
    expect(await exec('--detach', 'target', 'sh', '-c', 'echo detached > /tmp/detached')).toBe('');
    await waitFor(async () => (await stack.host.docker('exec', 'target', 'cat', '/tmp/detached')).stdout === 'detached\n');
    expect((await flagsOf('exec')).filter((flag) => !used.has(flag))).toEqual([]);
    for (const [args, code, says] of [
      [['--user', 'nobodyhere', 'target', 'true'], 126, 'unable to find user nobodyhere: no matching entries in passwd file'],
      [
        ['--workdir', '/not/there', 'target', 'true'],
        127,
        'chdir to cwd ("/not/there") set in config.json failed: no such file or directory',
      ],
      [['target', 'no-such-command'], 127, 'executable file not found in $PATH'],
      [['target', 'sh', '-c', 'exit 9'], 9, ''],
    ] as const) {
      const result = await stack.host.docker('exec', ...args);
      expect(`${result.code} ${result.stdout}${result.stderr}`).toContain(says);
      expect(result.code).toBe(code);
    }
    await stack.host.mustDocker('rm', '-f', 'target');
  });
});

async function flagsOf(command: string): Promise<string[]> {
  const help = (await stack.host.docker(command, '--help')).stdout;
  return [...help.matchAll(/^ +(?:-\w, )?(--[a-z0-9-]+)/gm)].map((match) => match[1] ?? '');
}
