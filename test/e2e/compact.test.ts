/** `flotilla up --compact`: the five services in one process, and back. Whole files run against it with FLOTILLA_TEST_COMPACT=1. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@flotilla/testkit';
import { describe, expect, it } from 'vitest';
import { startTimeOf } from '../../deploy/src/supervisor/process.ts';
import { checkout, edit, present, repository, upgrade, upgradeTakesMs } from './checkout.ts';
import { countedSoFar, endCounter, pidOf, startCounter } from './counter.ts';
import { useStack } from './stack.ts';
import { watched } from './watched.ts';

const stack = useStack({ stack: { args: ['--compact'] }, ignoreLeaks: [/^file exec\/container-service\/seccomp\//] });
const must = (...args: string[]) => stack.host.mustDocker(...args);
const supervisorPid = (): number =>
  (JSON.parse(readFileSync(join(stack.host.execRoot, 'supervisor/state.json'), 'utf8')) as { supervisorPid: number }).supervisorPid;
const linesOf = (log: string): string[] =>
  readFileSync(join(stack.host.dataRoot, `logs/${log}.log`), 'utf8')
    .trim()
    .split('\n');
const engines = async (): Promise<number[]> =>
  (await stack.host.processes()).filter(({ service }) => service !== 'compact').map(({ pid }) => pid);
const kinds = async (): Promise<string[]> => (await stack.host.processes()).map((one) => one.service).sort();

/** Settings for containers that do not say, and flags of dockerd that ask for what is so anyway. */
function engineDefaults(): string[] {
  const profile = join(stack.host.filesDirectory, 'seccomp.json');
  const refused = { names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO' };
  writeFileSync(profile, JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [refused] }));
  return [
    ...['--init', '--no-new-privileges', '--default-shm-size=32m', '--default-ipc-mode=shareable', '--seccomp-profile', profile],
    ...['--pidfile', join(stack.host.filesDirectory, 'flotilla.pid')],
    ...['--live-restore', '--userland-proxy=false', '--ip6tables=true', '-s', 'overlay2'],
  ];
}

describe('a compact stack', () => {
  it('is three processes, and refuses to be scaled', async () => {
    expect(await kinds()).toEqual(['compact', 'nats', 'redis']);
    const scaled = await stack.host.flotilla('scale', 'gateway=2');
    expect(scaled.code).toBe(1);
    expect(scaled.stderr).toContain('a compact stack has one of each service');
    expect(await kinds()).toEqual(['compact', 'nats', 'redis']);
  });

  it('runs, builds, networks, mounts, copies and tells its events as the five do', async () => {
    await must('network', 'create', 'inner');
    await must('volume', 'create', 'kept');
    await must('run', '-d', '--name', 'web', '--network', 'inner', '-v', 'kept:/www', stack.busybox, 'httpd', '-f', '-h', '/www');
    await must('exec', 'web', 'sh', '-c', 'echo page > /www/index.html');
    expect(await must('run', '--rm', '--network', 'inner', stack.busybox, 'wget', '-qO-', 'http://web/')).toBe('page');
    await stack.host.sh(`mkdir -p ${stack.host.filesDirectory}/context`);
    await stack.host.sh(`printf 'FROM ${stack.busybox}\nRUN echo built > /made\n' > ${stack.host.filesDirectory}/context/Dockerfile`);
    const built = await stack.host.dockerWith(
      { env: { DOCKER_BUILDKIT: '0' } },
      'build',
      '-q',
      '-t',
      'made:here',
      `${stack.host.filesDirectory}/context`,
    );
    expect(built.code, built.stderr).toBe(0);
    expect(await must('run', '--rm', 'made:here', 'cat', '/made')).toBe('built');
    await must('cp', 'web:/www/index.html', `${stack.host.filesDirectory}/page`);
    expect(await stack.host.sh(`cat ${stack.host.filesDirectory}/page`)).toBe('page\n');
    // `--until 0s` would leave out what happened in the second that has begun.
    const now = `${Math.ceil(Date.now() / 1000)}`;
    const events = await must('events', '--since', '1h', '--until', now, '--filter', 'container=web', '--format', '{{.Action}}');
    expect(events.split('\n')).toEqual(expect.arrayContaining(['create', 'start']));
    await must('rm', '-f', 'web');
    await must('builder', 'prune', '-af');
  });

  it('is one process with Redis and NATS as its children, and a shell that keeps it', async () => {
    const own = await stack.host.processes();
    const compact = own.find(({ service }) => service === 'compact')?.pid ?? 0;
    const engines = own.filter(({ service }) => service !== 'compact').map(({ pid }) => pid);
    expect(childrenOf(supervisorPid()).map(({ pid }) => pid)).toEqual([compact]);
    expect(childrenOf(compact).map(({ pid }) => pid)).toEqual(expect.arrayContaining(engines));
    expect(await stack.host.sh(`tr '\\0' ' ' < /proc/${supervisorPid()}/cmdline`)).toMatch(/^\/bin\/sh \S+\/deploy\/keeper\.sh /);
    // The services' lines are where they were, the supervisor's are not among them.
    expect(linesOf('supervisor').every((line) => line.includes('"service":"supervisor"'))).toBe(true);
    expect(linesOf('compact').some((line) => line.includes('"service":"gateway"'))).toBe(true);
    expect(linesOf('compact').some((line) => line.includes('"service":"supervisor"'))).toBe(false);
  });

  it('comes back after kill -9, with its containers, Redis and NATS running and no client refused', async () => {
    await startCounter(stack, 'counter');
    const pid = await pidOf(stack, 'counter');
    const before = await engines();
    const keeper = supervisorPid();
    const killed = await stack.host.kill('compact');
    await must('ps');
    await stack.host.waitHealthy('compact', killed);
    expect([await pidOf(stack, 'counter'), await engines(), supervisorPid()]).toEqual([pid, before, keeper]);
    const counted = await countedSoFar(stack, 'counter');
    await waitFor(async () => (await countedSoFar(stack, 'counter')) > counted);
  });

  it('has what dies beside it started again, and restarts it when asked', async () => {
    for (const engine of ['redis', 'nats']) await stack.host.waitHealthy(engine, await stack.host.kill(engine));
    const before = await engines();
    expect((await stack.host.flotilla('restart', 'nats')).code).toBe(0);
    expect((await engines()).filter((pid) => before.includes(pid))).toHaveLength(1);
    const refused = await stack.host.flotilla('restart', 'gateway');
    expect([refused.code, refused.stderr]).toEqual([1, 'flotilla: the services of a compact stack are one process: compact\n']);
  });

  it('has nothing to do when it is started again', async () => {
    const before = await stack.host.processes();
    expect((await stack.host.flotilla('up', '--compact')).stdout).toContain('already running');
    expect((await stack.host.processes()).map(({ pid }) => pid)).toEqual(before.map(({ pid }) => pid));
  });

  it('serves on when its keeper is killed, until the next one takes over', async () => {
    const [pid, before] = [await pidOf(stack, 'counter'), await engines()];
    await startCounter(stack, 'followed');
    const follower = watched(stack, 'logs', '-f', 'followed');
    await waitFor(() => follower.output() !== '', { what: 'the follower to hear something' });
    const [left] = (await stack.host.processes()).filter(({ service }) => service === 'compact');
    await stack.host.killSupervisor();
    await must('ps');
    expect((await stack.host.flotilla('ps')).stderr).toContain('the supervisor is gone');
    await stack.host.startStack({ args: ['--compact'] });
    expect([await pidOf(stack, 'counter'), await engines()]).toEqual([pid, before]);
    await endCounter(stack, 'followed');
    // The one before carried it to its end.
    expect(await follower.code, follower.errors()).toBe(0);
    expect(follower.output()).toBe(`${await must('logs', 'followed')}\n`);
    await waitFor(() => startTimeOf(left?.pid ?? 0) === undefined, { what: 'the one before to be gone' });
    // It is not the new one's child, which looks now and then whether it is there.
    await waitFor(async () => (await kinds()).length === 3, { what: 'the one before to be known as gone' });
    expect(await kinds()).toEqual(['compact', 'nats', 'redis']);
  });

  it('becomes five processes and one again, without its containers noticing', async () => {
    const pid = await pidOf(stack, 'counter');
    await stack.host.stopStack();
    await stack.host.startStack();
    expect(await kinds()).toEqual(['container-service', 'gateway', 'image-service', 'nats', 'network-volume', 'redis', 'registry-proxy']);
    expect(await pidOf(stack, 'counter')).toBe(pid);
    await must('run', '--rm', stack.busybox, 'true');
    // What the services left in their own users' names is root's again.
    await stack.host.killSupervisor();
    await stack.host.startStack({ args: ['--compact', ...engineDefaults()] });
    expect(await kinds()).toEqual(['compact', 'nats', 'redis']);
    expect(await pidOf(stack, 'counter')).toBe(pid);
    await must('pull', '-q', stack.busybox);
    await endCounter(stack, 'counter');
  });

  it("gives containers what the command line says, and what dockerd's would say means nothing", async () => {
    const script = 'cat /proc/1/comm; grep NoNewPrivs /proc/self/status; df -k /dev/shm | tail -1; mkdir /made';
    const plain = await stack.host.docker('run', '--rm', stack.busybox, 'sh', '-c', script);
    expect(plain.stdout).toMatch(/^docker-init\nNoNewPrivs:\t1\nshm +32768 /);
    expect(plain.stderr).toContain("can't create directory '/made': Operation not permitted");
    const own = ['--init=false', '--shm-size', '16m', '--security-opt', 'no-new-privileges=false', '--security-opt', 'seccomp=unconfined'];
    const asked = await must('run', '--rm', ...own, stack.busybox, 'sh', '-c', script);
    expect(asked).toMatch(/^sh\nNoNewPrivs:\t0\nshm +16384 /);
    expect(await must('create', '--name', 'shares', stack.busybox)).toMatch(/^[0-9a-f]{64}$/);
    expect(await must('inspect', '-f', '{{.HostConfig.IpcMode}}', 'shares')).toBe('shareable');
    await must('rm', 'shares');
    expect(await must('info', '-f', '{{json .SecurityOptions}}')).toContain(
      `name=seccomp,profile=${stack.host.filesDirectory}/seccomp.json`,
    );
    const pid = await stack.host.sh(`cat ${stack.host.filesDirectory}/flotilla.pid`);
    expect(await stack.host.sh(`tr '\\0' ' ' < /proc/${pid}/cmdline`)).toContain('keeper.sh');
    await stack.host.stopStack();
    expect((await stack.host.run('test', ['-e', `${stack.host.filesDirectory}/flotilla.pid`])).code).toBe(1);
    await stack.host.startStack({ args: ['--compact'] });
  });

  it('reads its settings again on SIGHUP, and keeps those it has when the file is wrong', async () => {
    const file = join(stack.host.filesDirectory, 'daemon.json');
    const labels = async (): Promise<string> => (await stack.host.docker('info', '-f', '{{.Labels}} {{.Debug}}')).stdout.trim();
    const says = (text: string): boolean => readFileSync(join(stack.host.dataRoot, 'logs/supervisor.log'), 'utf8').includes(text);
    writeFileSync(file, JSON.stringify({ labels: ['round=1'] }));
    await stack.host.stopStack();
    await stack.host.startStack({ args: ['--compact', '--config-file', file] });
    expect(await labels()).toBe('[round=1] false');
    await startCounter(stack, 'steady');
    const [counter, pid] = [await pidOf(stack, 'steady'), supervisorPid()];

    writeFileSync(file, JSON.stringify({ labels: ['round=2'], debug: true }));
    process.kill(pid, 'SIGHUP');
    await waitFor(async () => (await labels()) === '[round=2] true', { timeoutMs: 60_000, what: 'the new settings to be in force' });
    await waitFor(async () => (await stack.host.processes()).length === 3, { timeoutMs: 60_000, what: 'the replaced process to be gone' });
    expect([supervisorPid(), await pidOf(stack, 'steady')]).toEqual([pid, counter]);
    const dead = (): unknown[] => childrenOf(pid).filter(({ state }) => state === 'Z');
    await waitFor(() => dead().length === 0, { what: 'what it had started to be reaped' });

    for (const wrong of [{ colour: 1 }, { 'data-root': '/elsewhere' }]) {
      writeFileSync(file, JSON.stringify(wrong));
      process.kill(pid, 'SIGHUP');
      const reason = 'colour' in wrong ? "don't match any configuration option: colour" : 'specified both as a flag';
      await waitFor(() => says(reason), { timeoutMs: 60_000, what: reason });
    }
    // What only the start finds out.
    writeFileSync(file, JSON.stringify({ labels: ['round=3'], 'audit-log': '/nowhere/at/all' }));
    process.kill(pid, 'SIGHUP');
    await waitFor(() => says('/nowhere/at'), { timeoutMs: 60_000, what: 'the reason' });
    await waitFor(async () => (await stack.host.flotilla('ps')).code === 0, { timeoutMs: 60_000, what: 'a supervisor' });
    expect([await labels(), supervisorPid(), await pidOf(stack, 'steady')]).toEqual(['[round=2] true', pid, counter]);
    await endCounter(stack, 'steady');
  });

  it(
    'goes on with the code of another checkout and back, and with its own when the other does not come up',
    async () => {
      await stack.host.stopStack();
      await stack.host.startStack({ args: ['--compact'] });
      await startCounter(stack, 'lasting');
      const [pid, before] = [await pidOf(stack, 'lasting'), await engines()];
      const follower = watched(stack, 'logs', '-f', 'lasting');
      await waitFor(() => follower.output() !== '', { what: 'the follower to hear something' });
      for (const [from, to] of [
        [checkout(stack, '0.9.0'), '0.9.0'],
        [repository, present],
      ] as const) {
        const { code, stdout, stderr } = await upgrade(stack, from);
        expect(code, stdout + stderr).toBe(0);
        expect(stdout).toContain(`upgraded to ${to}`);
        expect(await runningVersions()).toEqual([to]);
      }
      const broken = checkout(stack, '0.9.1');
      const place = "return startService('image-service'";
      edit(join(broken, 'services/image-service/src/main.ts'), (text) =>
        text.replace(place, `throw new Error('broken on purpose');\n${place}`),
      );
      const failed = await upgrade(stack, broken);
      expect(failed.code).toBe(1);
      expect(failed.stdout + failed.stderr).toContain('compact does not come up');
      expect(failed.stderr).toContain('what ran before runs on');
      expect(await runningVersions()).toEqual([present]);
      expect([await pidOf(stack, 'lasting'), await engines()]).toEqual([pid, before]);
      expect(await must('run', '--rm', stack.busybox, 'echo', 'well')).toBe('well');
      await endCounter(stack, 'lasting');
      expect(await follower.code, follower.errors()).toBe(0);
    },
    3 * upgradeTakesMs,
  );
});

/** Of what takes calls. */
async function runningVersions(): Promise<string[]> {
  const found = JSON.parse((await stack.host.flotilla('ps', '--json')).stdout) as { service: string; version: string; draining: boolean }[];
  return found.filter(({ service, draining }) => service === 'compact' && !draining).map(({ version }) => version);
}

/** Of every process that a process is the parent of. */
function childrenOf(parent: number): { pid: number; state: string }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
        const [state = '', of = ''] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
        return Number(of) === parent ? [{ pid: Number(pid), state }] : [];
      } catch {
        return [];
      }
    });
}
