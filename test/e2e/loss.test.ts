import { existsSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@flotilla/testkit';
import { expect, it } from 'vitest';
import { countedSoFar, pidOf, startCounter } from './counter.ts';
import { useStack } from './stack.ts';

// What doctor tells stays.
const stack = useStack({ ignoreLeaks: [/records\.restored/] });
const must = (...args: string[]) => stack.host.mustDocker(...args);
const data = (...parts: string[]): string => join(stack.host.dataRoot, ...parts);
const keepers = ['container-service', 'image-service', 'network-volume'];

/** What clients see of everything that is kept. */
async function seen(): Promise<string> {
  const lists = [
    ['ps', '-a', '--no-trunc', '--format', '{{.ID}} {{.Names}} {{.State}} {{.Image}} {{.Ports}} {{.Mounts}}'],
    ['images', '--no-trunc', '--digests'],
    ['volume', 'ls'],
    ['network', 'ls', '--no-trunc'],
    ['inspect', '-f', '{{json .Config}}{{json .HostConfig}}{{json .NetworkSettings}}{{.State.Pid}}', 'counter'],
  ];
  return (await Promise.all(lists.map(async (list) => (await must(...list)).split('\n').sort().join('\n')))).join('\n');
}

async function loseData(engine: 'redis' | 'nats'): Promise<void> {
  // Before it is killed, for the next one is there at once; the supervisor makes the directory again.
  renameSync(data(engine), data(`${engine}.lost`));
  const [pid = 0] = await stack.host.kill(engine);
  await stack.host.waitHealthy(engine, [pid]);
  rmSync(data(`${engine}.lost`), { recursive: true });
}

async function startKeepersAgain(): Promise<void> {
  const killed = (await stack.host.processes()).filter(({ service }) => keepers.includes(service)).map(({ pid }) => pid);
  for (const pid of killed) process.kill(pid, 'SIGKILL');
  for (const keeper of keepers) await stack.host.waitHealthy(keeper, killed);
}

async function doctor(): Promise<string[]> {
  const findings = JSON.parse((await stack.host.flotilla('doctor', '--json')).stdout) as { what: string; state: string; detail: string }[];
  return findings.filter(({ what }) => what.startsWith('records of ')).map(({ what, state }) => `${state} ${what}`);
}

it('Redis and NATS lose their data while they run: everything is there as it was, and clients work on', async () => {
  await must('volume', 'create', 'kept');
  await must('network', 'create', 'harbour');
  const since = (Date.now() / 1000 - 1).toFixed(3);
  await startCounter(stack, 'counter', '-v', 'kept:/kept', '--network', 'harbour', '-p', '8081:80', '-e', 'A=b');
  await must('create', '--name', 'created', stack.busybox, 'true');
  const before = await seen();
  expect(before).toContain('harbour');
  const started = async (): Promise<string[]> => {
    const filters = ['--filter', 'container=counter', '--filter', 'container=created', '--filter', 'event=start'];
    const format = ['--format', '{{.Actor.Attributes.name}}'];
    return (await must('events', '--since', since, '--until', (Date.now() / 1000).toFixed(3), ...filters, ...format)).split('\n');
  };
  await loseData('nats');
  await waitFor(async () => (await started()).includes('counter'), { what: 'the events to be back', timeoutMs: 20_000 });
  await loseData('redis');
  await waitFor(async () => (await seen()) === before, { what: 'everything to be as it was', timeoutMs: 20_000 });
  expect(await must('run', '--rm', '--network', 'harbour', stack.busybox, 'echo', 'works')).toBe('works');
  await must('start', '-a', 'created');
  await waitFor(async () => (await started()).join() === 'counter,created', { what: 'the events of before and after' });
  await must('rm', 'created');
});

it('Redis has lost its data when the engine starts: records come from their copy, and doctor says so', async () => {
  const before = await seen();
  await stack.host.stopStack();
  for (const engine of ['redis', 'nats']) rmSync(data(engine), { recursive: true });
  await stack.host.startStack();
  expect(await seen()).toBe(before);
  expect(await doctor()).toEqual(keepers.map((service) => `warning records of ${service}`));
  const counted = await countedSoFar(stack, 'counter');
  await waitFor(async () => (await countedSoFar(stack, 'counter')) > counted, { what: 'the container to go on' });
  expect(await must('exec', 'counter', 'cat', '/etc/hostname')).not.toBe('');
});

it('where the copies are lost too, nothing is taken for a leftover until an operator says so', async () => {
  const pid = await pidOf(stack, 'counter');
  const isRunning = (): boolean => existsSync(`/proc/${pid}`);
  await must('exec', 'counter', 'touch', '/kept/file');
  await stack.host.stopStack();
  rmSync(data('redis'), { recursive: true });
  for (const keeper of keepers) rmSync(data(keeper, 'records.copy'));
  await stack.host.startStack();
  expect(await must('ps', '-aq')).toBe('');
  expect(await doctor()).toEqual(expect.arrayContaining(keepers.map((service) => `missing records of ${service}`)));
  // A second start, with records that are not empty any more, leaves it as well.
  await must('volume', 'create', 'another');
  await startKeepersAgain();
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  expect(isRunning()).toBe(true);
  expect(existsSync(data('volumes', 'kept', '_data', 'file'))).toBe(true);
  for (const keeper of keepers) rmSync(data(keeper, 'records.lost'));
  await startKeepersAgain();
  await waitFor(() => !isRunning() && !existsSync(data('volumes', 'kept')), { what: 'what was given up to be removed' });
  expect(await must('volume', 'ls', '-q')).toBe('another');
  await must('volume', 'rm', 'another');
  await must('pull', stack.busybox);
}, 240_000);
