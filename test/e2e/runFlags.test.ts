/**
 * Every flag of `docker run`: each is tested for its effect inside the container, on the host or in the client, or for the clear answer that
 * it is refused with. A flag of a newer CLI that this table does not know fails the last test.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@flotilla/testkit';
import { describe, expect, it } from 'vitest';
import { engineApi } from './engineApi.ts';
import { effects, recorded, refused } from './runFlagTable.ts';
import { useStack } from './stack.ts';

// The group that --cgroup-parent names stays, as with dockerd: it is the operator's. Compiled seccomp filters are kept for the next container alike.
const stack = useStack({ ignoreLeaks: [/^cgroup \/flotilla-flags$/, /^file exec\/container-service\/seccomp\//] });
const tested = new Set<string>();

const note = (args: readonly string[]): void => {
  for (const arg of args) if (arg.startsWith('--')) tested.add(arg.split('=')[0] ?? arg);
};

describe('a flag of docker run', () => {
  it.each(effects.map((effect) => [effect.args.join(' '), effect] as const))('%s', async (_, { args, script, shows, orWarns }) => {
    note(args);
    const result = await stack.host.docker('run', '--rm', ...args, stack.busybox, 'sh', '-c', script ?? 'true');
    if (orWarns !== undefined && result.stderr.includes(orWarns)) return;
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

  it('--pid, --ipc, --uts, --network, --userns and --cgroupns host: the namespaces of the host, and without them none but the user’s', async () => {
    const links = 'for name in pid ipc uts net user; do readlink /proc/self/ns/$name; done';
    const ofHost = (await stack.host.sh(links)).trim().split('\n');
    const inside = async (...args: string[]): Promise<string[]> =>
      (await stack.host.mustDocker('run', '--rm', ...args, stack.busybox, 'sh', '-c', links)).split('\n');
    const flags = ['pid', 'ipc', 'uts', 'network', 'userns', 'cgroupns'].flatMap((namespace) => [`--${namespace}`, 'host']);
    note(flags);
    expect(await inside(...flags)).toEqual(ofHost);
    expect((await inside()).map((link, index) => link === ofHost[index])).toEqual([false, false, false, false, true]);
    expect(await stack.host.mustDocker('run', '--rm', '--pid', 'host', stack.busybox, 'sh', '-c', 'test $$ -gt 1 && echo seen')).toBe(
      'seen',
    );
  });

  it('--runtime: each runs what it is asked to', async () => {
    note(['--runtime']);
    for (const runtime of ['crun', 'runc']) {
      const id = await stack.host.mustDocker('run', '-d', '--runtime', runtime, stack.busybox, 'sleep', '600');
      const states = join(stack.host.execRoot, 'container-service/runtimes');
      expect(['crun', 'runc'].filter((name) => existsSync(join(states, name, id)))).toEqual([runtime]);
      await stack.host.mustDocker('rm', '-f', id);
    }
  });

  it('--kernel-memory: the client leaves it out, and who sends it is told that it is dropped', async () => {
    note(['--kernel-memory']);
    expect(await stack.host.mustDocker('run', '--rm', '--kernel-memory', '64m', stack.busybox, 'echo', 'ran')).toBe('ran');
    const body = { Image: stack.busybox, Cmd: ['true'], HostConfig: { KernelMemory: 64 << 20 } };
    const created = await engineApi(stack.host, 'POST', '/v1.50/containers/create', { body });
    expect(created.json).toMatchObject({ Warnings: ['Kernel memory limits are no longer part of the API. Limitation discarded.'] });
    await stack.host.mustDocker('rm', (created.json as { Id: string }).Id);
  });

  it('a device that was not asked for is out of reach', async () => {
    const script = 'mknod /tmp/fuse c 10 229 && (exec 3<>/tmp/fuse) 2>&1; true';
    expect(await stack.host.mustDocker('run', '--rm', stack.busybox, 'sh', '-c', script)).toContain('Operation not permitted');
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
    const own = await stack.host.docker('run', '--name', 'me', '--network', 'container:me', stack.busybox, 'true');
    expect(own.stderr).toContain('cannot join own network');
    expect(linked).toMatch(/^1\nALIAS_ENV_WHO=me\nALIAS_NAME=\/\w+\/alias\nALIAS_PORT=tcp:\/\/172\.\d+\.\d+\.\d+:80\nALIAS_PORT_80_TCP=/);
    await stack.host.mustDocker(
      'create',
      '--name',
      'parent',
      '--link',
      'other:one',
      '--link',
      'other:two',
      stack.busybox,
      'sh',
      '-c',
      'env; cat /etc/hosts',
    );
    expect(await stack.host.mustDocker('rm', '--link', '/parent/one')).toBe('/parent/one');
    expect(await stack.host.mustDocker('inspect', '-f', '{{.HostConfig.Links}}', 'parent')).toBe('[/other:/parent/two]');
    const left = await stack.host.mustDocker('start', '-a', 'parent');
    expect(left).toContain('TWO_ENV_WHO=me');
    expect(left).not.toMatch(/ONE_ENV_WHO|\bone\b/);
    for (const [link, says] of [
      ['parent/one', 'Cannot get parent parent for link name one'],
      ['nobody/one', 'No such container: nobody'],
      ['parent', 'Conflict, cannot remove the default link name of the container'],
    ] as const) {
      const refused = await stack.host.docker('rm', '--link', link);
      expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining(says)]);
    }
    expect(await stack.host.mustDocker('inspect', '-f', '{{.State.Status}}', 'other')).toBe('running');
    await stack.host.mustDocker('rm', 'parent');
    expect(await run('--pid', 'container:other', stack.busybox, 'sh', '-c', 'cat /proc/1/comm')).toMatch(/^(sh|sleep)$/);
    expect(await run('--ipc', 'container:other', stack.busybox, 'ls', '/dev/shm')).toBe('memory');
    const address = await stack.host.mustDocker('exec', 'other', 'hostname', '-i');
    expect(await run('--network', 'container:other', stack.busybox, 'hostname', '-i')).toBe(address);
    await stack.host.mustDocker('run', '-d', '--name', 'onHost', '--network', 'host', stack.busybox, 'sleep', '600');
    expect(await run('--network', 'container:onHost', stack.busybox, 'readlink', '/proc/self/ns/net')).toBe(
      await stack.host.mustDocker('exec', 'onHost', 'readlink', '/proc/self/ns/net'),
    );
    const tuned = await stack.host.docker(
      ...['run', '--rm', '--network', 'container:onHost', '--sysctl', 'net.ipv4.ip_default_ttl=63'],
      ...[stack.busybox, 'true'],
    );
    expect([tuned.code, tuned.stderr]).toEqual([125, expect.stringContaining('not allowed in host network namespace')]);
    await stack.host.mustDocker('rm', '-f', 'onHost');
    await stack.host.mustDocker('rm', '-f', '-v', 'other');
  });

  it('--network of a container that comes later: missed at start, joined with its name when it is there', async () => {
    const joins = ['create', '--name', 'joining', '--network', 'container:comesLater', stack.busybox, 'sh', '-c', 'hostname; hostname -i'];
    await stack.host.mustDocker(...joins);
    const missed = await stack.host.docker('start', '-a', 'joining');
    expect([missed.code, missed.stderr]).toEqual([1, expect.stringContaining('No such container: comesLater')]);
    await stack.host.mustDocker('run', '-d', '--name', 'comesLater', '--hostname', 'boat', stack.busybox, 'sleep', '600');
    const address = await stack.host.mustDocker('exec', 'comesLater', 'hostname', '-i');
    expect(await stack.host.mustDocker('start', '-a', 'joining')).toBe(`boat\n${address}`);
    expect(await stack.host.mustDocker('inspect', '-f', '{{.Config.Hostname}}', 'joining')).toBe('boat');
    await stack.host.mustDocker('rm', '-f', 'joining', 'comesLater');
  });

  it('--cpu-shares that a v1 kernel changes are refused, at start and live', async () => {
    if (!existsSync('/sys/fs/cgroup/cpu/cpu.shares')) return;
    for (const [shares, says] of [
      ['1', 'the minimum allowed cpu-shares is 2: unknown'],
      ['262145', 'the maximum allowed cpu-shares is 262144: unknown'],
    ] as const) {
      const { code, stderr } = await stack.host.docker('run', '--rm', '--cpu-shares', shares, stack.busybox, 'true');
      expect([code, stderr]).toEqual([125, expect.stringContaining(`error setting cgroup config for procHooks process: ${says}`)]);
    }
    const id = await stack.host.mustDocker('run', '-d', '--cpu-shares', '2', stack.busybox, 'sleep', '600');
    expect((await stack.host.docker('update', '--cpu-shares', '1', id)).stderr).toContain('the minimum allowed cpu-shares is 2');
    expect(await stack.host.mustDocker('exec', id, 'cat', '/sys/fs/cgroup/cpu/cpu.shares')).toBe('2');
    expect(await stack.host.mustDocker('inspect', '-f', '{{.HostConfig.CpuShares}}', id)).toBe('2');
    await stack.host.mustDocker('rm', '-f', id);
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
