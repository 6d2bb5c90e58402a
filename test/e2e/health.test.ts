/** Health checks, restart policies and the OOM killer: what happens to a container by itself, and what is told of it. */
import { waitFor } from '@flotilla/testkit';
import { afterEach, describe, expect, it } from 'vitest';
import { useStack } from './stack.ts';

const stack = useStack();
const must = (...args: string[]) => stack.host.mustDocker(...args);
const field = (container: string, format: string) => must('inspect', '-f', format, container);
const health = (container: string) => field(container, '{{.State.Health.Status}}');

afterEach(async () => {
  const ids = (await must('ps', '-aq')).split('\n').filter(Boolean);
  if (ids.length > 0) await must('rm', '-f', ...ids);
});

async function actionsOf(container: string): Promise<string[]> {
  const until = (Date.now() / 1000 + 0.3).toFixed(3);
  const args = ['--since', '0', '--until', until, '--filter', `container=${container}`, '--format', '{{.Action}}'];
  return (await must('events', ...args)).split('\n');
}

describe('health', () => {
  it('starting, healthy, unhealthy and healthy again: status, events, the last five results', async () => {
    const args = ['--health-cmd', 'test ! -e /sick || { echo sick; exit 3; }', '--health-interval', '300ms', '--health-retries', '2'];
    const id = await must('run', '-d', '--name', 'patient', ...args, stack.busybox, 'sleep', '600');
    expect(['starting', 'healthy']).toContain(await health('patient'));
    await waitFor(async () => (await health('patient')) === 'healthy', { what: 'health' });
    expect(await must('ps', '--filter', 'health=healthy', '--format', '{{.Names}} {{.Status}}')).toMatch(/^patient Up .* \(healthy\)$/);
    await must('exec', 'patient', 'touch', '/sick');
    await waitFor(async () => (await health('patient')) === 'unhealthy', { what: 'sickness' });
    const state = JSON.parse(await field('patient', '{{json .State.Health}}'));
    expect(state.FailingStreak).toBeGreaterThanOrEqual(2);
    expect(state.Log.at(-1)).toMatchObject({ ExitCode: 3, Output: 'sick\n' });
    await must('exec', 'patient', 'rm', '/sick');
    await waitFor(async () => (await health('patient')) === 'healthy', { what: 'health again' });
    await waitFor(async () => JSON.parse(await field('patient', '{{json .State.Health.Log}}')).length === 5, { what: 'five results' });
    const statuses = (await actionsOf(id)).filter((action) => action.startsWith('health_status'));
    expect(statuses).toEqual(['health_status: healthy', 'health_status: unhealthy', 'health_status: healthy']);
    await must('stop', '-t', '0', 'patient');
    expect(await health('patient')).toBe('unhealthy');
  });

  it('within the start period failures do not count, and the start interval is used; a slow check is ended', async () => {
    const args = [
      '--health-interval',
      '600s',
      '--health-start-period',
      '600s',
      '--health-start-interval',
      '300ms',
      '--health-retries',
      '1',
    ];
    const check = 'echo x >> /checks; test $(wc -l < /checks) -ge 3';
    await must('run', '-d', '--name', 'slow', '--health-cmd', check, ...args, stack.busybox, 'sleep', '600');
    const late = [
      '--health-cmd',
      'echo begun; sleep 30',
      '--health-interval',
      '200ms',
      '--health-timeout',
      '400ms',
      '--health-retries',
      '1',
    ];
    await must('run', '-d', '--name', 'hanging', ...late, stack.busybox, 'sleep', '600');
    await waitFor(async () => (await health('slow')) === 'healthy', { what: 'health after failures in the start period' });
    expect(await field('slow', '{{.State.Health.FailingStreak}}')).toBe('0');
    await waitFor(async () => (await health('hanging')) === 'unhealthy', { what: 'a check that hangs to count' });
    expect(JSON.parse(await field('hanging', '{{json .State.Health.Log}}'))[0]).toMatchObject({
      ExitCode: -1,
      Output: 'Health check exceeded timeout (400ms): begun\n',
    });
    await waitFor(async () => !(await must('top', 'hanging')).includes('sleep 30'), { what: 'the check to be gone' });
  });

  it('none with --no-healthcheck, and CMD without a shell', async () => {
    await must('run', '-d', '--name', 'unchecked', '--no-healthcheck', stack.busybox, 'sleep', '600');
    expect(await field('unchecked', '{{json .State.Health}}')).toBe('null');
    expect(await must('ps', '--filter', 'health=none', '--format', '{{.Names}}')).toBe('unchecked');
  });

  it('flotilla.restart-unhealthy=true restarts what has become unhealthy', async () => {
    const args = [
      '--health-cmd',
      'test ! -e /tmp/sick',
      '--health-interval',
      '300ms',
      '--health-retries',
      '1',
      '--tmpfs',
      '/tmp',
      '--stop-timeout',
      '0',
    ];
    await must('run', '-d', '--name', 'again', '-l', 'flotilla.restart-unhealthy=true', ...args, stack.busybox, 'sleep', '600');
    const pid = await field('again', '{{.State.Pid}}');
    await must('exec', 'again', 'touch', '/tmp/sick');
    await waitFor(async () => (await field('again', '{{.State.Pid}}')) !== pid && (await health('again')) === 'healthy', {
      timeoutMs: 40_000,
      what: 'a restart',
    });
  });
});

describe('restart policies', () => {
  it('on-failure: with growing delays, as often as allowed, and never after success', async () => {
    const script = 'date +%s%N >> /starts 2>/dev/null; cat /proc/uptime >> /uptimes; exit 7';
    await must('run', '-d', '--name', 'failing', '--restart', 'on-failure:4', stack.busybox, 'sh', '-c', script);
    await must('run', '-d', '--name', 'fine', '--restart', 'on-failure', stack.busybox, 'true');
    await waitFor(async () => (await field('failing', '{{.State.Status}} {{.RestartCount}}')) === 'exited 4', {
      timeoutMs: 30_000,
      what: 'four restarts',
    });
    expect(await field('failing', '{{.State.ExitCode}}')).toBe('7');
    await must('cp', 'failing:/uptimes', `${stack.host.directory}/uptimes`);
    const times = (await stack.host.sh(`cut -d ' ' -f 1 ${stack.host.directory}/uptimes`)).trim().split('\n').map(Number);
    expect(times).toHaveLength(5);
    // 100 ms, doubled each time: a pause is never shorter.
    for (const [index, least] of [0.1, 0.2, 0.4, 0.8].entries()) {
      expect((times[index + 1] ?? 0) - (times[index] ?? 0)).toBeGreaterThanOrEqual(least - 0.02);
    }
    expect(await field('fine', '{{.State.Status}} {{.RestartCount}}')).toBe('exited 0');
    // A start by hand begins to count anew.
    await must('start', 'failing');
    await waitFor(async () => (await field('failing', '{{.State.Status}} {{.RestartCount}}')) === 'exited 4', {
      timeoutMs: 30_000,
      what: 'four more restarts',
    });
  });

  it('rm -f takes away one that is just being restarted', async () => {
    for (let round = 0; round < 4; round++) {
      await must('run', '-d', '--name', 'restless', '--restart', 'always', '--network', 'none', stack.busybox, 'true');
      await must('wait', 'restless');
      await new Promise((resolve) => setTimeout(resolve, round * 40));
      await must('rm', '-f', 'restless');
    }
    expect(await must('ps', '-aq', '--filter', 'name=restless')).toBe('');
  });

  it('stop ends a restarting one; kill by hand keeps it down', async () => {
    await must('run', '-d', '--name', 'looping', '--restart', 'always', stack.busybox, 'false');
    await waitFor(async () => Number(await field('looping', '{{.RestartCount}}')) >= 3, { timeoutMs: 30_000, what: 'restarts' });
    await must('stop', 'looping');
    expect(await field('looping', '{{.State.Status}}')).toBe('exited');
    await must('run', '-d', '--name', 'killed', '--restart', 'unless-stopped', stack.busybox, 'sleep', '600');
    await must('kill', 'killed');
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(await field('killed', '{{.State.Status}} {{.RestartCount}}')).toBe('exited 0');
  });
});

describe('the OOM killer', () => {
  it('is told of in the state and by an event', async () => {
    const id = await must('run', '-d', '-m', '16m', '--memory-swap', '16m', stack.busybox, 'tail', '/dev/zero');
    expect(await must('wait', id)).toBe('137');
    expect(await field(id, '{{.State.OOMKilled}}')).toBe('true');
    const actions = await actionsOf(id);
    expect(actions.indexOf('oom')).toBeGreaterThan(0);
    expect(actions.indexOf('oom')).toBeLessThan(actions.indexOf('die'));
  });

  it('a container that is not to be killed stands still, and that is told', async () => {
    const args = ['-m', '16m', '--memory-swap', '16m', '--oom-kill-disable', stack.busybox];
    // It grows in its own memory: a system call that lacks memory would fail.
    const { stdout, stderr } = await stack.host.docker('run', '-d', ...args, 'sh', '-c', 'a=0123456789; while :; do a=$a$a; done');
    // cgroup v2 knows no such thing.
    if (stderr.includes('OomKillDisable discarded')) return;
    const id = stdout.trim();
    await waitFor(async () => (await actionsOf(id)).includes('oom'), { what: 'the event' });
    expect(await field(id, '{{.State.Status}} {{.State.OOMKilled}}')).toBe('running true');
    expect((await actionsOf(id)).filter((action) => action === 'oom')).toHaveLength(1);
    await must('kill', id);
  });
});
