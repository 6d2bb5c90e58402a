import { createHash } from 'node:crypto';
import { busyboxImage, randomBytesOf } from '@flotilla/testkit';
import { describe, expect, it } from 'vitest';
import { useStack } from './stack.ts';

const stack = useStack();
const docker = (...args: string[]) => stack.host.docker(...args);
const run = (...args: string[]) => stack.host.docker('run', '--rm', stack.busybox, ...args);

describe('docker run', () => {
  it('gives output on the right stream, and the exit code', async () => {
    expect(await run('sh', '-c', 'echo out; echo err >&2; exit 3')).toMatchObject({ code: 3, stdout: 'out\n', stderr: 'err\n' });
    expect((await run('true')).code).toBe(0);
    expect(await stack.host.mustDocker('ps', '-aq')).toBe('');
  });

  it('pulls what is missing first', async () => {
    const reference = await stack.push(await busyboxImage({ layers: [[{ path: 'pulled', content: 'x' }]] }), 'run/pulled');
    const result = await docker('run', '--rm', reference, 'cat', '/pulled');
    expect(result.stdout).toBe('x');
    expect(result.stderr).toContain(`Unable to find image '${reference}' locally`);
    expect(result.stderr).toContain('Status: Downloaded newer image');
  });

  it('125: when the engine refuses', async () => {
    expect((await docker('run', '--no-such-flag')).code).toBe(125);
    const missing = await docker('run', '--rm', `${stack.registry.address}/no/such`);
    expect(missing.code).toBe(125);
    expect(missing.stderr).toContain('manifest unknown');
    expect((await docker('run', '--rm', '--memory', '1k', stack.busybox)).code).toBe(125);
  });

  it('126: when the command cannot be run', async () => {
    for (const path of ['/etc/passwd', '/etc']) {
      const result = await run(path);
      expect(result.code).toBe(126);
      expect(result.stderr).toContain(
        'docker: Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create failed',
      );
      expect(result.stderr).toMatch(
        path === '/etc' ? /exec: "\/etc": is a directory|exec: "\/etc": permission denied/ : /exec: "\/etc\/passwd": permission denied/,
      );
    }
  });

  it('127: when the command is not there', async () => {
    const result = await run('no-such-command');
    expect(result.code).toBe(127);
    expect(result.stderr).toContain('exec: "no-such-command": executable file not found in $PATH');
    expect((await run('/no/such/path')).stderr).toContain('exec: "/no/such/path": stat /no/such/path: no such file or directory');
    expect(await stack.host.mustDocker('ps', '-aq')).toBe('');
  });

  it('128 + signal: when a signal ended it', async () => {
    // The first process of a namespace ignores what it sends itself, so an init stands there.
    expect((await docker('run', '--rm', '--init', stack.busybox, 'sh', '-c', 'kill -9 $$')).code).toBe(137);
    expect((await docker('run', '--rm', '--init', stack.busybox, 'sh', '-c', 'kill -TERM $$')).code).toBe(143);
  });

  it('keeps a container that could not start, and its code', async () => {
    expect((await docker('run', '--name', 'unstartable', stack.busybox, 'no-such-command')).code).toBe(127);
    const [inspected] = JSON.parse(await stack.host.mustDocker('inspect', 'unstartable'));
    expect(inspected.State).toMatchObject({ Status: 'created', Running: false, ExitCode: 127 });
    expect(inspected.State.Error).toContain('executable file not found');
    await stack.host.mustDocker('rm', 'unstartable');
  });

  it('passes stdin on and ends with it', async () => {
    const result = await stack.host.dockerWith({ input: 'hi\n' }, 'run', '-i', '--rm', stack.busybox, 'cat');
    expect(result).toMatchObject({ code: 0, stdout: 'hi\n', stderr: '' });
    // Without -i nothing is read.
    expect((await stack.host.dockerWith({ input: 'hi\n' }, 'run', '--rm', stack.busybox, 'cat')).stdout).toBe('');
  });

  it('carries bytes unchanged in both directions', async () => {
    const input = randomBytesOf(8 * 1024 * 1024, 'stdin');
    const md5 = createHash('md5').update(input).digest('hex');
    const counted = await stack.host.dockerWith({ input }, 'run', '-i', '--rm', stack.busybox, 'md5sum');
    expect(counted.stdout).toBe(`${md5}  -\n`);
    const echoed = await stack.host.dockerWith({ input }, 'run', '-i', '--rm', stack.busybox, 'cat');
    expect(createHash('md5').update(echoed.stdoutBytes).digest('hex')).toBe(md5);
  });

  it('loses no output of a command that prints a lot and ends at once', async () => {
    const lines = await run('seq', '1', '300000');
    expect(lines.stdout.length).toBe(Array.from({ length: 300_000 }, (_, index) => `${index + 1}\n`).join('').length);
    expect(lines.stdout.endsWith('299999\n300000\n')).toBe(true);
  });

  it('-e, -w, -u, --hostname, --entrypoint, -l', async () => {
    expect(
      await stack.host.mustDocker('run', '--rm', '-e', 'A=1', '-e', 'B=two words', stack.busybox, 'sh', '-c', 'echo $A $B $HOME'),
    ).toBe('1 two words /root');
    expect(await stack.host.mustDocker('run', '--rm', '-w', '/not/there/yet', stack.busybox, 'pwd')).toBe('/not/there/yet');
    expect(await stack.host.mustDocker('run', '--rm', '-u', 'alice', stack.busybox, 'id')).toBe(
      'uid=1000(alice) gid=1000(alice) groups=50(staff),1000(alice)',
    );
    expect(await stack.host.mustDocker('run', '--rm', '-u', '123:456', stack.busybox, 'sh', '-c', 'id -u; id -g')).toBe('123\n456');
    expect(await stack.host.mustDocker('run', '--rm', '--hostname', 'boat', stack.busybox, 'hostname')).toBe('boat');
    expect(await stack.host.mustDocker('run', '--rm', '--entrypoint', 'echo', stack.busybox, 'hello')).toBe('hello');
    const id = await stack.host.mustDocker('create', '-l', 'x=y', stack.busybox);
    expect(await stack.host.mustDocker('inspect', '-f', '{{.Config.Labels.x}}', id)).toBe('y');
    await stack.host.mustDocker('rm', id);
    const unknown = await docker('run', '--rm', '-u', 'nobodyhere', stack.busybox, 'true');
    expect(unknown.code).toBe(125);
    expect(unknown.stderr).toContain('unable to find user nobodyhere: no matching entries in passwd file');
  });

  it('takes command, environment, user and workdir from the image', async () => {
    const image = await busyboxImage({
      config: {
        Entrypoint: ['sh', '-c'],
        Cmd: ['echo $WHO; pwd; id -u'],
        Env: ['PATH=/bin', 'WHO=image'],
        WorkingDir: '/work',
        User: 'alice',
      },
    });
    const reference = await stack.push(image, 'run/configured');
    expect(await stack.host.mustDocker('run', '--rm', reference)).toContain('image\n/work\n1000');
    expect(await stack.host.mustDocker('run', '--rm', '-e', 'WHO=me', reference, 'echo $WHO')).toBe('me');
  });

  it('-d prints the id and goes on', async () => {
    const id = await stack.host.mustDocker('run', '-d', '--name', 'detached', stack.busybox, 'sleep', '1000');
    expect(id).toMatch(/^[0-9a-f]{64}$/);
    expect(await stack.host.mustDocker('inspect', '-f', '{{.State.Status}} {{.Name}}', id)).toBe('running /detached');
    const taken = await docker('run', '--name', 'detached', stack.busybox);
    expect(taken.code).toBe(125);
    expect(taken.stderr).toContain(
      `Conflict. The container name "/detached" is already in use by container "${id}". You have to remove (or rename) that container to be able to reuse that name.`,
    );
    await stack.host.mustDocker('rm', '-f', 'detached');
  });

  it('--network none leaves loopback alone', async () => {
    expect(await stack.host.mustDocker('run', '--rm', '--network', 'none', stack.busybox, 'sh', '-c', 'ls /sys/class/net')).toBe('lo');
  });

  it('isolates: own pids, own root, default capabilities, masked paths', async () => {
    const [pid, capabilities, init] = (
      await stack.host.mustDocker(
        'run',
        '--rm',
        stack.busybox,
        'sh',
        '-c',
        'echo $$; grep CapEff /proc/self/status | cut -f 2; cat /proc/1/comm; cat /proc/kcore | head -c 1 | wc -c',
      )
    ).split('\n');
    expect(pid).toBe('1');
    expect(capabilities).toBe('00000000a80425fb');
    expect(init).toBe('sh');
    expect((await run('sh', '-c', 'echo x > /proc/sys/kernel/domainname')).code).not.toBe(0);
    expect((await run('mount', '-t', 'tmpfs', 'none', '/mnt')).code).not.toBe(0);
    expect(
      await stack.host.mustDocker(
        'run',
        '--rm',
        '--privileged',
        stack.busybox,
        'sh',
        '-c',
        'mkdir -p /mnt && mount -t tmpfs none /mnt && echo mounted',
      ),
    ).toBe('mounted');
  });

  it('limits memory and processes', async () => {
    const script =
      'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true';
    expect(
      (await stack.host.mustDocker('run', '--rm', '-m', '64m', '--pids-limit', '50', stack.busybox, 'sh', '-c', script)).split('\n'),
    ).toEqual(['67108864', '50']);
    const killed = await docker(
      'run',
      '--name',
      'greedy',
      '-m',
      '16m',
      '--memory-swap',
      '16m',
      stack.busybox,
      'sh',
      '-c',
      'tail /dev/zero',
    );
    expect(killed.code).toBe(137);
    expect(await stack.host.mustDocker('inspect', '-f', '{{.State.OOMKilled}}', 'greedy')).toBe('true');
    await stack.host.mustDocker('rm', 'greedy');
  });

  it('eight at once', async () => {
    const results = await Promise.all(Array.from({ length: 8 }, (_, index) => run('echo', String(index))));
    expect(results.map((result) => result.stdout)).toEqual(Array.from({ length: 8 }, (_, index) => `${index}\n`));
  });

  it('ends when the client is told to stop', async () => {
    const child = stack.host.dockerSpawn(
      'run',
      '--rm',
      '--name',
      'signalled',
      stack.busybox,
      'sh',
      '-c',
      'trap "echo caught; exit 9" TERM; echo ready; while :; do sleep 0.1; done',
    );
    let output = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      if (output === 'ready\n') child.kill('SIGTERM');
    });
    expect(await new Promise((resolve) => child.once('exit', resolve))).toBe(9);
    expect(output).toBe('ready\ncaught\n');
  });
});
