import { waitFor } from '@flotilla/testkit';
import { afterEach, describe, expect, it } from 'vitest';
import { containerShapes } from './containerShapes.ts';
import { engineApi } from './engineApi.ts';
import { mismatches } from './mismatches.ts';
import { useStack } from './stack.ts';

const stack = useStack();
const docker = (...args: string[]) => stack.host.docker(...args);
const must = (...args: string[]) => stack.host.mustDocker(...args);
const state = (container: string, field: string) => must('inspect', '-f', `{{.State.${field}}}`, container);

afterEach(async () => {
  const ids = (await must('ps', '-aq')).split('\n').filter(Boolean);
  if (ids.length > 0) await must('rm', '-f', ...ids);
});

/** A shell that says which signal it got and ends with that code, or goes on when told `ignore`. */
const signalTrap =
  'trap "echo term; exit 15" TERM; trap "echo usr1" USR1; trap "echo int; exit 2" INT; echo ready; while :; do sleep 0.05; done';

async function startTrap(name: string, ...args: string[]): Promise<void> {
  await must('run', '-d', '--name', name, ...args, stack.busybox, 'sh', '-c', signalTrap);
  await waitFor(async () => (await must('logs', name)).includes('ready'));
}

describe('docker ps', () => {
  it('shows its columns', async () => {
    await must('run', '-d', '--name', 'running', stack.busybox, 'sleep', '1000');
    await docker('run', '--name', 'exited', stack.busybox, 'sh', '-c', 'exit 3');
    await must('create', '--name', 'created', stack.busybox);
    const lines = (await must('ps', '-a')).split('\n');
    expect(lines[0]).toMatch(/^CONTAINER ID\s+IMAGE\s+COMMAND\s+CREATED\s+STATUS\s+PORTS\s+NAMES$/);
    const row = (name: string) => lines.find((line) => line.endsWith(name)) ?? '';
    expect(row('running')).toMatch(new RegExp(`^[0-9a-f]{12}\\s+${stack.busybox}\\s+"sleep 1000"\\s+.* ago\\s+Up .*\\s+running$`));
    expect(row('exited')).toMatch(/\s"sh -c 'exit 3'"\s+.* ago\s+Exited \(3\) .* ago\s+exited$/);
    expect(row('created')).toMatch(/\s"sh"\s+.* ago\s+Created\s+created$/);
    expect(await must('ps', '--format', '{{.Names}}')).toBe('running');
    // Newest first.
    expect(await must('ps', '-a', '--format', '{{.Names}}')).toBe('created\nexited\nrunning');
  });

  it('names an image by its id when the name is another’s, or gone', async () => {
    await must('tag', stack.busybox, 'moving:1');
    await must('create', '--name', 'old', 'moving:1');
    const shown = () => must('ps', '-a', '--format', '{{.Image}}', '--no-trunc', '--filter', 'name=old');
    expect(await shown()).toBe('moving:1');
    const id = await must('inspect', '-f', '{{.Image}}', 'old');
    await must('commit', 'old', 'moving:1');
    expect(await shown()).toBe(id);
    await must('tag', stack.busybox, 'moving:1');
    expect(await shown()).toBe('moving:1');
    await must('rmi', 'moving:1');
    expect(await shown()).toBe(id);
    expect(await must('inspect', '-f', '{{.Config.Image}}', 'old')).toBe('moving:1');
  });

  it('filters, limits and tells sizes', async () => {
    await must('run', '-d', '--name', 'one', '-l', 'side=left', stack.busybox, 'sleep', '1000');
    await must('create', '--name', 'two', '-l', 'side=right', stack.busybox);
    const names = (...args: string[]) => must('ps', '-a', '--format', '{{.Names}}', ...args);
    expect(await names('--filter', 'label=side=left')).toBe('one');
    expect(await names('--filter', 'status=created')).toBe('two');
    expect(await names('--filter', 'name=tw')).toBe('two');
    expect(await names('-n', '1')).toBe('two');
    expect(await names('--filter', `ancestor=${stack.busybox}`)).toBe('two\none');
    await must('exec', 'one', 'dd', 'if=/dev/zero', 'of=/big', 'bs=1M', 'count=3');
    expect(await must('ps', '-s', '--format', '{{.Size}}')).toMatch(/^3\.1\dMB \(virtual /);
    expect((await docker('ps', '--filter', 'nosuch=1')).stderr).toContain("invalid filter 'nosuch'");
  });
});

describe('stopping', () => {
  it('stop sends SIGTERM and waits', async () => {
    await startTrap('polite');
    expect(await must('stop', 'polite')).toBe('polite');
    expect(await state('polite', 'ExitCode')).toBe('15');
    expect(await must('logs', 'polite')).toBe('ready\nterm');
    // Stopping a stopped one is no error.
    expect(await must('stop', 'polite')).toBe('polite');
  });

  it('stop -t, or the container’s own --stop-timeout, kills what does not listen', async () => {
    const startDeaf = async (name: string, ...args: string[]): Promise<void> => {
      const script = 'trap "" TERM; echo ready; while :; do sleep 0.05; done';
      await must('run', '-d', '--name', name, ...args, stack.busybox, 'sh', '-c', script);
      await waitFor(async () => (await must('logs', name)).includes('ready'));
    };
    await startDeaf('stubborn', '--stop-timeout', '60');
    await startDeaf('brief', '--stop-timeout', '1');
    const stopped = async (name: string, ...args: string[]): Promise<number> => {
      const begun = Date.now();
      await must('stop', ...args, name);
      return Date.now() - begun;
    };
    for (const tookMs of await Promise.all([stopped('stubborn', '-t', '1'), stopped('brief')])) {
      expect(tookMs).toBeGreaterThanOrEqual(900);
      expect(tookMs).toBeLessThan(6_000);
    }
    expect([await state('stubborn', 'ExitCode'), await state('brief', 'ExitCode')]).toEqual(['137', '137']);
  });

  it('stop -t waits longer than any timer', async () => {
    await startTrap('patient');
    expect(await must('stop', '-t', '2147483648', 'patient')).toBe('patient');
    expect(await state('patient', 'ExitCode')).toBe('15');
  });

  it('--stop-signal is used', async () => {
    await startTrap('other', '--stop-signal', 'INT');
    await must('stop', 'other');
    expect(await state('other', 'ExitCode')).toBe('2');
  });

  it('kill sends SIGKILL, kill -s any other', async () => {
    await startTrap('target');
    await must('kill', '-s', 'USR1', 'target');
    await waitFor(async () => (await must('logs', 'target')).includes('usr1'));
    expect(await state('target', 'Running')).toBe('true');
    await must('kill', 'target');
    await waitFor(async () => (await state('target', 'Running')) === 'false');
    expect(await state('target', 'ExitCode')).toBe('137');
    const again = await docker('kill', 'target');
    expect(again.code).toBe(1);
    expect(again.stderr).toMatch(/cannot kill container: target: container [0-9a-f]{64} is not running/);
    expect((await docker('kill', '-s', 'NOSUCH', 'target')).stderr).toMatch(/invalid signal: NOSUCH/i);
  });
});

describe('killing by a signal', () => {
  it('that is not the one the container named to stop it: the restart policy holds', async () => {
    await startTrap('named', '--restart', 'always', '--stop-signal', 'CONT');
    await must('kill', '-s', 'TERM', 'named');
    await waitFor(async () => (await must('inspect', '-f', '{{.RestartCount}} {{.State.Running}}', 'named')) === '1 true');
    await startTrap('unnamed', '--restart', 'always');
    await must('kill', '-s', 'TERM', 'unnamed');
    await waitFor(async () => (await state('unnamed', 'Status')) === 'exited');
  });
});

describe('starting', () => {
  it('start -a shows the output and tells the exit code', async () => {
    await must('create', '--name', 'again', stack.busybox, 'sh', '-c', 'echo run; echo err >&2; exit 4');
    for (let round = 0; round < 2; round += 1)
      expect(await docker('start', '-a', 'again')).toMatchObject({ code: 4, stdout: 'run\n', stderr: 'err\n' });
    expect(await must('logs', 'again')).toContain('run\nrun');
  });

  it('start of a running one changes nothing', async () => {
    await must('run', '-d', '--name', 'up', stack.busybox, 'sleep', '1000');
    const pid = await state('up', 'Pid');
    expect(await must('start', 'up')).toBe('up');
    expect(await state('up', 'Pid')).toBe(pid);
  });

  it('tells whose namespace cannot be joined, and why', async () => {
    const id = await must('create', '--name', 'asleep', stack.busybox, 'sleep', '600');
    await must('run', '-d', '--name', 'awake', stack.busybox, 'sleep', '600');
    for (const [args, says] of [
      [['--pid', 'container:asleep'], `failed to join PID namespace: container ${id} is not running`],
      [['--ipc', 'container:asleep'], `failed to join IPC namespace: container ${id} is not running`],
      [
        ['--ipc', 'container:awake'],
        'failed to join IPC namespace: non-shareable IPC (hint: use IpcMode:shareable for the donor container)',
      ],
      [['--network', 'container:asleep'], `cannot join network of a non running container: ${id}`],
      [['--pid', 'container:nobody'], 'No such container: nobody'],
      [['--network', 'container:nobody'], 'No such container: nobody'],
      [['--volumes-from', 'nobody'], 'No such container: nobody'],
    ] as const) {
      const result = await docker('run', '--rm', ...args, stack.busybox, 'true');
      expect(result.stderr).toContain(says);
      // A container that is missing is no image that is missing.
      expect(result.stderr).not.toContain('Unable to find image');
      expect(result.code).toBe(125);
    }
  });

  it('keeps the file system between runs', async () => {
    await must('create', '--name', 'counter', stack.busybox, 'sh', '-c', 'echo x >> /count; wc -l < /count');
    for (const expected of ['1', '2', '3']) expect((await docker('start', '-a', 'counter')).stdout.trim()).toBe(expected);
  });

  it('restart gives a new process in the same container', async () => {
    await startTrap('twice');
    const before = JSON.parse(await must('inspect', '-f', '{{json .State}}', 'twice'));
    await must('restart', 'twice');
    const after = JSON.parse(await must('inspect', '-f', '{{json .State}}', 'twice'));
    expect(after.Running).toBe(true);
    expect(after.Pid).not.toBe(before.Pid);
    expect(Date.parse(after.StartedAt)).toBeGreaterThan(Date.parse(before.StartedAt));
    await waitFor(async () => (await must('logs', 'twice')) === 'ready\nterm\nready');
  });

  it('--restart on-failure tries again, so often and no more', async () => {
    await must('run', '-d', '--name', 'failing', '--restart', 'on-failure:2', stack.busybox, 'sh', '-c', 'echo try; exit 1');
    await waitFor(async () => (await must('logs', 'failing')) === 'try\ntry\ntry' && (await state('failing', 'Status')) === 'exited', {
      timeoutMs: 20_000,
    });
    expect(await must('inspect', '-f', '{{.RestartCount}}', 'failing')).toBe('2');
  });
});

describe('waiting', () => {
  it('wait prints the exit code, of the past and of the future', async () => {
    await must('run', '-d', '--name', 'past', stack.busybox, 'sh', '-c', 'exit 5');
    expect(await must('wait', 'past')).toBe('5');
    await must('run', '-d', '--name', 'future', stack.busybox, 'sh', '-c', 'sleep 0.5; exit 6');
    expect(await must('wait', 'future', 'past')).toBe('6\n5');
  });

  it('several waiters all get the answer', async () => {
    await must('run', '-d', '--name', 'awaited', stack.busybox, 'sh', '-c', 'sleep 0.7; exit 7');
    expect(await Promise.all([1, 2, 3, 4, 5].map(() => must('wait', 'awaited')))).toEqual(['7', '7', '7', '7', '7']);
  });
});

describe('removing', () => {
  it('refuses a running one, unless forced', async () => {
    await must('run', '-d', '--name', 'busy', stack.busybox, 'sleep', '1000');
    const refused = await docker('rm', 'busy');
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(
      /cannot remove container "\/?busy": container is running: stop the container before removing or force remove/,
    );
    expect(await must('rm', '-f', 'busy')).toBe('busy');
    expect((await docker('inspect', 'busy')).stderr).toMatch(/No such (object|container): busy/i);
  });

  it('says when there is none', async () => {
    for (const command of [
      ['rm', 'ghost'],
      ['start', 'ghost'],
      ['stop', 'ghost'],
      ['logs', 'ghost'],
      ['wait', 'ghost'],
    ]) {
      const result = await docker(...command);
      expect(result.code).toBe(1);
      expect(result.stderr).toContain('No such container: ghost');
    }
  });

  it('frees the name at once', async () => {
    for (let round = 0; round < 5; round += 1) {
      await must('run', '-d', '--name', 'reused', stack.busybox, 'sleep', '1000');
      await must('rm', '-f', 'reused');
    }
  });
});

describe('inspect', () => {
  it('tells what was asked for and what is', async () => {
    const id = await must(
      'run',
      '-d',
      '--name',
      'known',
      '-e',
      'A=B',
      '-p',
      '8099:80',
      '--restart',
      'unless-stopped',
      '-m',
      '32m',
      stack.busybox,
      'sleep',
      '1000',
    );
    const [it_] = JSON.parse(await must('inspect', id.slice(0, 12)));
    expect(it_).toMatchObject({
      Id: id,
      Name: '/known',
      Path: 'sleep',
      Args: ['1000'],
      Image: stack.busyboxImage.id,
      RestartCount: 0,
      Driver: 'overlay2',
      Platform: 'linux',
      State: { Status: 'running', Running: true, Paused: false, Restarting: false, OOMKilled: false, Dead: false, ExitCode: 0, Error: '' },
      Config: { Image: stack.busybox, Cmd: ['sleep', '1000'], Hostname: id.slice(0, 12), Tty: false, OpenStdin: false },
      HostConfig: {
        NetworkMode: 'bridge',
        Memory: 33_554_432,
        RestartPolicy: { Name: 'unless-stopped', MaximumRetryCount: 0 },
        Privileged: false,
        AutoRemove: false,
      },
    });
    expect(it_.Config.Env).toContain('A=B');
    expect(it_.NetworkSettings.Ports['80/tcp'][0]).toEqual({ HostIp: '0.0.0.0', HostPort: '8099' });
    expect(it_.NetworkSettings.Networks.bridge.IPAddress).toMatch(/^\d+\.\d+\.\d+\.\d+$/);
    expect((await stack.host.sh(`cat /proc/${it_.State.Pid}/comm`)).trim()).toBe('sleep');
    expect(Date.parse(it_.State.StartedAt)).toBeGreaterThanOrEqual(Date.parse(it_.Created));
  });

  it('finds by name, id and the beginning of an id', async () => {
    const id = await must('create', '--name', 'sought', stack.busybox);
    for (const reference of [id, id.slice(0, 12), id.slice(0, 5), 'sought', '/sought'])
      expect(await must('inspect', '-f', '{{.Id}}', reference)).toBe(id);
  });

  it('every document about a container is as the API describes it, field by field', async () => {
    const document = async (method: string, path: string, body?: unknown): Promise<unknown> =>
      (await engineApi(stack.host, method, `/v1.50/containers/${path}`, body === undefined ? {} : { body })).json;
    const wrong = (value: unknown, type: string): string[] => mismatches(value, type, containerShapes);
    const Image = stack.busybox;
    expect(wrong(await document('POST', 'create?name=plain', { Image, Cmd: ['true'] }), 'Create')).toEqual([]);
    await document('POST', 'create?name=rich', {
      Image,
      Cmd: ['sleep', '100'],
      ExposedPorts: { '80/tcp': {}, '81/udp': {} },
      Labels: { a: 'b' },
      Healthcheck: { Test: ['CMD', 'true'], Interval: 100_000_000 },
      Volumes: { '/anonymous': {} },
      StopTimeout: 1,
      HostConfig: {
        Binds: ['/tmp:/bound'],
        Mounts: [
          { Type: 'tmpfs', Target: '/mounted' },
          { Type: 'image', Source: Image, Target: '/image' },
        ],
        Tmpfs: { '/temporary': '' },
        PortBindings: { '80/tcp': [{ HostPort: '18080' }] },
        Memory: 1e8,
        NanoCpus: 5e8,
        BlkioDeviceReadBps: [{ Path: '/dev/vda', Rate: 1_048_576 }],
        Devices: [{ PathOnHost: '/dev/null', PathInContainer: '/dev/nothing', CgroupPermissions: 'r' }],
        Ulimits: [{ Name: 'core', Soft: 0, Hard: 0 }],
        CapAdd: ['NET_ADMIN'],
        Dns: ['9.9.9.9'],
        ExtraHosts: ['a:1.2.3.4'],
        Annotations: { a: 'b' },
        Init: true,
        Sysctls: { 'net.ipv4.ip_default_ttl': '33' },
        RestartPolicy: { Name: 'always' },
      },
    });
    for (const name of ['plain', 'rich']) {
      expect(wrong(await document('GET', `${name}/json?size=1`), 'Inspect'), `${name}, created`).toEqual([]);
      expect((await engineApi(stack.host, 'POST', `/v1.50/containers/${name}/start`)).message).toBe('');
    }
    expect(wrong(await document('POST', 'plain/wait'), 'Wait')).toEqual([]);
    await waitFor(async () => (await must('inspect', '-f', '{{json .State.Health.Log}}', 'rich')) !== '[]');
    for (const name of ['plain', 'rich']) expect(wrong(await document('GET', `${name}/json`), 'Inspect'), name).toEqual([]);
    expect(wrong(await document('GET', 'json?all=1&size=1'), 'Summary[]')).toEqual([]);
    expect(wrong(await document('GET', 'rich/top'), 'Top')).toEqual([]);
    expect(wrong(await document('GET', 'rich/changes'), 'Change[]')).toEqual([]);
    expect(wrong(await document('POST', 'rich/update', { CpuShares: 512 }), 'Update')).toEqual([]);
    for (const stats of ['rich/stats?stream=0', 'rich/stats?stream=0&one-shot=1', 'plain/stats?stream=0']) {
      expect(wrong(await document('GET', stats), 'Stats'), stats).toEqual([]);
    }
    await must('rm', '-fv', 'plain', 'rich');
  });
});

describe('pausing and renaming', () => {
  it('pause stops the clock, unpause lets it go on', async () => {
    await must('run', '-d', '--name', 'ticking', stack.busybox, 'sh', '-c', 'while :; do echo tick; sleep 0.05; done');
    await must('pause', 'ticking');
    expect(await state('ticking', 'Status')).toBe('paused');
    const count = (await must('logs', 'ticking')).length;
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect((await must('logs', 'ticking')).length).toBe(count);
    await must('unpause', 'ticking');
    await waitFor(async () => (await must('logs', 'ticking')).length > count);
  });

  it('rename changes the name, and top lists the processes', async () => {
    const id = await must('run', '-d', '--name', 'before', stack.busybox, 'sleep', '1234');
    await must('rename', 'before', 'after');
    expect(await must('inspect', '-f', '{{.Id}} {{.Name}}', 'after')).toBe(`${id} /after`);
    expect(await must('top', 'after')).toContain('sleep 1234');
  });
});
