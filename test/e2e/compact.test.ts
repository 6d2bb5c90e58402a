/** `flotilla up --compact`: the five services in one process, and back. Whole files run against it with FLOTILLA_TEST_COMPACT=1. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@flotilla/testkit';
import { describe, expect, it } from 'vitest';
import { countedSoFar, endCounter, pidOf, startCounter } from './counter.ts';
import { useStack } from './stack.ts';

const stack = useStack({ stack: { args: ['--compact'] }, ignoreLeaks: [/^file exec\/container-service\/seccomp\//] });
const must = (...args: string[]) => stack.host.mustDocker(...args);
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
    const events = await must('events', '--since', '1h', '--until', '0s', '--filter', 'container=web', '--format', '{{.Action}}');
    expect(events.split('\n')).toEqual(expect.arrayContaining(['create', 'start']));
    await must('rm', '-f', 'web');
    await must('builder', 'prune', '-af');
  });

  it('comes back after kill -9 with its containers running', async () => {
    await startCounter(stack, 'counter');
    const pid = await pidOf(stack, 'counter');
    const killed = await stack.host.kill('compact');
    await stack.host.waitHealthy('compact', killed);
    expect(await pidOf(stack, 'counter')).toBe(pid);
    const counted = await countedSoFar(stack, 'counter');
    await waitFor(async () => (await countedSoFar(stack, 'counter')) > counted);
  });

  it('goes on under the next supervisor when its own is killed', async () => {
    const before = await stack.host.processes();
    await stack.host.killSupervisor();
    await must('ps');
    await stack.host.startStack({ args: ['--compact'] });
    expect((await stack.host.processes()).map(({ pid }) => pid)).toEqual(before.map(({ pid }) => pid));
    await must('ps');
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
    expect(await stack.host.sh(`tr '\\0' ' ' < /proc/${pid}/cmdline`)).toContain('supervisor.mjs');
    await stack.host.stopStack();
    expect((await stack.host.run('test', ['-e', `${stack.host.filesDirectory}/flotilla.pid`])).code).toBe(1);
    await stack.host.startStack({ args: ['--compact'] });
  });

  it('reads its settings again on SIGHUP, and keeps those it has when the file is wrong', async () => {
    const file = join(stack.host.filesDirectory, 'daemon.json');
    const supervisor = (): number =>
      (JSON.parse(readFileSync(join(stack.host.execRoot, 'supervisor/state.json'), 'utf8')) as { supervisorPid: number }).supervisorPid;
    const labels = async (): Promise<string> => (await stack.host.docker('info', '-f', '{{.Labels}} {{.Debug}}')).stdout.trim();
    const says = (text: string): boolean => readFileSync(join(stack.host.dataRoot, 'logs/supervisor.log'), 'utf8').includes(text);
    writeFileSync(file, JSON.stringify({ labels: ['round=1'] }));
    await stack.host.stopStack();
    await stack.host.startStack({ args: ['--compact', '--config-file', file] });
    expect(await labels()).toBe('[round=1] false');
    await startCounter(stack, 'steady');
    const [counter, pid] = [await pidOf(stack, 'steady'), supervisor()];

    writeFileSync(file, JSON.stringify({ labels: ['round=2'], debug: true }));
    process.kill(pid, 'SIGHUP');
    await waitFor(async () => (await labels()) === '[round=2] true', { timeoutMs: 60_000, what: 'the new settings to be in force' });
    await waitFor(async () => (await stack.host.processes()).length === 3, { timeoutMs: 60_000, what: 'the replaced process to be gone' });
    expect([supervisor(), await pidOf(stack, 'steady')]).toEqual([pid, counter]);
    const dead = (): string[] => childrenOf(pid).filter((fields) => fields.startsWith('Z'));
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
    expect([await labels(), supervisor(), await pidOf(stack, 'steady')]).toEqual(['[round=2] true', pid, counter]);
    await endCounter(stack, 'steady');
  });
});

/** State and what follows it of every process that a process is the parent of. */
function childrenOf(parent: number): string[] {
  const stats = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
        return [stat.slice(stat.lastIndexOf(')') + 2)];
      } catch {
        return [];
      }
    });
  return stats.filter((fields) => fields.split(' ')[1] === String(parent));
}
