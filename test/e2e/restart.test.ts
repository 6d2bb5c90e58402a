import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cutPower, waitFor } from '@flotilla/testkit';
import { describe, expect, it } from 'vitest';
import { countedSoFar, endCounter, pidOf, startCounter } from './counter.ts';
import { useStack } from './stack.ts';

const stack = useStack({ outside: true });
const must = (...args: string[]) => stack.host.mustDocker(...args);

describe('flotilla down and up', () => {
  it('keeps containers running, with their logs, ports, volumes and names', async () => {
    await must('volume', 'create', 'kept');
    await startCounter(stack, 'counter');
    await must(
      'run',
      '-d',
      '--name',
      'web',
      '-p',
      '8080:80',
      '-v',
      'kept:/www',
      stack.busybox,
      'sh',
      '-c',
      'echo page > /www/index.html; exec httpd -f -p 80 -h /www',
    );
    await must('create', '--name', 'created', stack.busybox);
    await stack.host.docker('run', '--name', 'exited', stack.busybox, 'sh', '-c', 'exit 3');
    const pid = await pidOf(stack, 'counter');
    const fetch = () => stack.outside.host.run('curl', ['-s', '-m', '2', `http://${stack.outside.hostAddress}:8080/`]);
    await waitFor(async () => (await fetch()).stdout === 'page\n');

    await stack.host.stopStack();
    // Without an engine the containers go on: they run, print, and are reached.
    expect((await stack.host.sh(`cat /proc/${pid}/comm`)).trim()).toBe('sh');
    expect((await fetch()).stdout).toBe('page\n');
    expect((await stack.host.docker('ps')).code).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 300));
    await stack.host.startStack();

    expect(await pidOf(stack, 'counter')).toBe(pid);
    expect((await must('ps', '-a', '--format', '{{.Names}} {{.State}}')).split('\n').sort()).toEqual([
      'counter running',
      'created created',
      'exited exited',
      'web running',
    ]);
    expect(await must('inspect', '-f', '{{.State.ExitCode}}', 'exited')).toBe('3');
    expect((await fetch()).stdout).toBe('page\n');
    const counted = await countedSoFar(stack, 'counter');
    await waitFor(async () => (await countedSoFar(stack, 'counter')) > counted);
    await endCounter(stack, 'counter');
    expect(await must('exec', 'web', 'cat', '/www/index.html')).toBe('page');
    await must('rm', '-f', 'web');
    expect((await fetch()).code).not.toBe(0);
    expect(await must('volume', 'ls', '-q')).toBe('kept');
    expect(await must('images', '-q', '--no-trunc')).toBe(stack.busyboxImage.id);
    expect((await stack.host.docker('start', '-a', 'exited')).code).toBe(3);
    await must('rm', '-f', 'counter', 'created', 'exited');
    await must('volume', 'rm', 'kept');
  });

  it('notices what ended while it was away', async () => {
    await must('run', '-d', '--name', 'ending', stack.busybox, 'sh', '-c', 'echo begun; sleep 2; echo ended; exit 11');
    await must('run', '-d', '--name', 'always', '--restart', 'always', stack.busybox, 'sh', '-c', 'echo begun; sleep 2');
    await must('run', '-d', '--rm', '--name', 'fleeting', stack.busybox, 'sleep', '2');
    await stack.host.stopStack();
    await new Promise((resolve) => setTimeout(resolve, 2_200));
    await stack.host.startStack();
    expect(await must('wait', 'ending')).toBe('11');
    expect(await must('logs', 'ending')).toBe('begun\nended');
    await waitFor(async () => (await must('logs', 'always')).split('\n').length >= 2, { what: 'the container to be restarted' });
    await waitFor(async () => (await must('ps', '-aq', '--filter', 'name=fleeting')) === '', { what: 'the --rm container to be removed' });
    await must('rm', '-f', 'ending', 'always');
  });

  it('starts what its policy wants up, and leaves down what a user stopped', async () => {
    const policies = ['no', 'on-failure', 'unless-stopped', 'always'];
    const start = (name: string, policy: string) => must('run', '-d', '--name', name, '--restart', policy, stack.busybox, 'sleep', '600');
    for (const policy of policies) await start(policy, policy);
    for (const policy of ['unless-stopped', 'always']) await start(`${policy}-by-hand`, policy);
    await must('stop', '-t', '0', 'unless-stopped-by-hand', 'always-by-hand');
    const pids = await Promise.all(policies.map((name) => pidOf(stack, name)));
    const states = async (): Promise<string[]> => (await must('ps', '-a', '--format', '{{.Names}} {{.State}}')).split('\n').sort();
    await stack.host.stopStack();
    await stack.host.sh(`kill -9 ${pids.join(' ')}`);
    await stack.host.startStack();
    const up = ['always running', 'no exited', 'on-failure running', 'unless-stopped running'];
    const expected = [...up, 'always-by-hand exited', 'unless-stopped-by-hand exited'].sort();
    await waitFor(async () => JSON.stringify(await states()) === JSON.stringify(expected), { what: 'the policies to be kept' });

    // A machine that has come up anew: `always` means what was stopped by hand too.
    await stack.host.stopStack();
    writeFileSync(join(stack.host.dataRoot, 'container-service/boot'), 'an earlier one');
    await stack.host.startStack();
    const after = expected.map((line) => (line === 'always-by-hand exited' ? 'always-by-hand running' : line));
    await waitFor(async () => JSON.stringify(await states()) === JSON.stringify(after), { what: 'the policies to be kept after a boot' });
    await must('rm', '-f', ...policies, 'unless-stopped-by-hand', 'always-by-hand');
  });

  it('events go on where they were; down a second time changes nothing', async () => {
    const since = (Date.now() / 1000).toFixed(3);
    await must('run', '--rm', '--name', 'earlier', stack.busybox, 'true');
    await stack.host.stopStack();
    await stack.host.stopStack();
    await stack.host.startStack();
    await must('run', '--rm', '--name', 'later', stack.busybox, 'true');
    const until = (Date.now() / 1000 + 0.7).toFixed(3);
    const seen = await must(
      'events',
      '--since',
      since,
      '--until',
      until,
      '--filter',
      'event=die',
      '--format',
      '{{.Actor.Attributes.name}}',
    );
    expect(seen.split('\n')).toEqual(['earlier', 'later']);
  });

  it('a reboot: of all that ran only the records and the data are left, and the policies are kept', async () => {
    const run = (name: string, ...args: string[]) => must('run', '-d', '--name', name, ...args);
    const sleep = [stack.busybox, 'sh', '-c', 'echo ran; sleep 1000'];
    await must('network', 'create', 'harbour');
    const page = 'echo page >> /www/index.html; exec httpd -f -p 80 -h /www';
    await run(
      'always',
      '--restart',
      'always',
      '--network',
      'harbour',
      '-p',
      '8081:80',
      '-v',
      'pages:/www',
      stack.busybox,
      'sh',
      '-c',
      page,
    );
    for (const policy of ['no', 'on-failure', 'unless-stopped']) await run(policy, '--restart', policy, ...sleep);
    await run('unless-stopped-by-hand', '--restart', 'unless-stopped', ...sleep);
    await run('always-by-hand', '--restart', 'always', ...sleep);
    await run('removed', '--rm', ...sleep);
    await must('create', '--name', 'never', '--restart', 'always', ...sleep);
    await must('stop', '-t', '0', 'unless-stopped-by-hand', 'always-by-hand');
    await stack.host.stopStack();
    const booted = await cutPower(stack.host);
    try {
      await stack.host.startStack();
      const expected = [
        'always running',
        'always-by-hand running',
        'never created',
        'no exited',
        'on-failure running',
        'unless-stopped running',
      ];
      const states = async (): Promise<string[]> => (await must('ps', '-a', '--format', '{{.Names}} {{.State}}')).split('\n').sort();
      await waitFor(async () => JSON.stringify(await states()) === JSON.stringify([...expected, 'unless-stopped-by-hand exited']), {
        timeoutMs: 30_000,
        what: 'the policies to be kept after the reboot',
      });
      expect(await must('inspect', '-f', '{{.State.ExitCode}} {{.State.Pid}} {{.State.Running}}', 'no')).toBe('255 0 false');
      expect(await must('logs', 'on-failure')).toBe('ran\nran');
      const fetch = () => stack.outside.host.run('curl', ['-s', '-m', '2', `http://${stack.outside.hostAddress}:8081/`]);
      await waitFor(async () => (await fetch()).stdout === 'page\npage\n', { what: 'the published page' });
      expect(await must('run', '--rm', '--network', 'harbour', stack.busybox, 'wget', '-qO-', 'always')).toBe('page\npage');
      await must('start', 'no');
      await must('rm', '-fv', ...(await must('ps', '-aq')).split('\n'));
      await must('network', 'rm', 'harbour');
      await must('volume', 'rm', 'pages');
    } finally {
      await booted();
    }
  }, 120_000);
});
