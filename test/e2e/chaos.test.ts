import { existsSync } from 'node:fs';
import { waitFor } from '@flotilla/testkit';
import { afterEach, describe, expect, it } from 'vitest';
import { countedSoFar, endCounter, pidOf, startCounter } from './counter.ts';
import { engineApi } from './engineApi.ts';
import { useStack } from './stack.ts';

/** The promise: a killed service is back within this. */
const backWithinMs = 3_000;

const stack = useStack();
const must = (...args: string[]) => stack.host.mustDocker(...args);

afterEach(async () => {
  const ids = (await must('ps', '-aq')).split('\n').filter(Boolean);
  if (ids.length > 0) await must('rm', '-f', ...ids);
});

/** Waits until the API answers what needs the service, and checks how long that took. */
async function backSince(begun: number, path: string): Promise<void> {
  await waitFor(async () => (await engineApi(stack.host, 'GET', path, { timeoutMs: 5_000 })).status === 200, {
    timeoutMs: 15_000,
    intervalMs: 30,
    what: path,
  });
  expect(Date.now() - begun).toBeLessThan(backWithinMs);
}

/** A question that only the killed service can answer. */
const questions: Readonly<Record<string, string>> = {
  gateway: '/v1.50/version',
  'container-service': '/v1.50/containers/json?all=1',
  'image-service': '/v1.50/images/json',
  'network-volume': '/v1.50/networks',
  'registry-proxy': '/_ping',
  redis: '/v1.50/containers/json',
  nats: '/v1.50/containers/json',
};

for (const [service, question] of Object.entries(questions)) {
  describe(`kill -9 of ${service}`, () => {
    it('leaves the container running, loses no line, and is back in 3 s', async () => {
      await startCounter(stack, 'counter');
      const pid = await pidOf(stack, 'counter');
      const killed = await stack.host.kill(service);
      await backSince(Date.now(), question);
      await stack.host.waitHealthy(service, killed);
      expect(existsSync(`/proc/${pid}`)).toBe(true);
      expect(await pidOf(stack, 'counter')).toBe(pid);
      expect(await must('ps', '--format', '{{.Names}} {{.State}}')).toBe('counter running');
      const counted = await countedSoFar(stack, 'counter');
      await waitFor(async () => (await countedSoFar(stack, 'counter')) > counted);
      await endCounter(stack, 'counter');
      // The engine still does everything.
      expect(await must('run', '--rm', stack.busybox, 'echo', 'still here')).toBe('still here');
    });
  });
}

describe('kill -9 of container-service', () => {
  it('keeps the exit code of a container that ended meanwhile', async () => {
    await must(
      'run',
      '-d',
      '--name',
      'short',
      stack.busybox,
      'sh',
      '-c',
      'while [ ! -e /go ]; do sleep 0.02; done; echo last words; exit 17',
    );
    await must('exec', '-d', 'short', 'sh', '-c', 'sleep 0.3; touch /go');
    const killed = await stack.host.kill('container-service');
    await stack.host.waitHealthy('container-service', killed);
    expect(await must('wait', 'short')).toBe('17');
    expect(await must('logs', 'short')).toBe('last words');
  });

  it('lets a client that waits, and one that follows, get their answer', async () => {
    await startCounter(stack, 'counter');
    const follower = stack.host.dockerSpawn('logs', '-f', 'counter');
    let followed = '';
    follower.stdout?.on('data', (chunk: Buffer) => {
      followed += chunk.toString();
    });
    await waitFor(() => followed.length > 0);
    const killed = await stack.host.kill('container-service');
    await stack.host.waitHealthy('container-service', killed);
    await endCounter(stack, 'counter');
    // A follower either went on or was told that the stream is over; it never hangs, and what it saw is right as far as it goes.
    await waitFor(() => follower.exitCode !== null, { timeoutMs: 10_000, what: 'logs -f to end' });
    const lines = followed.split('\n').slice(0, -1);
    expect(lines).toEqual(Array.from({ length: lines.length }, (_, index) => String(index + 1)));
  });

  it('in the middle of many starts leaves no half-made container', async () => {
    const runs = Array.from({ length: 6 }, (_, index) =>
      stack.host.docker('run', '-d', '--name', `start-${index}`, stack.busybox, 'sleep', '1000'),
    );
    await new Promise((resolve) => setTimeout(resolve, 150));
    const killed = await stack.host.kill('container-service');
    await Promise.all(runs);
    await stack.host.waitHealthy('container-service', killed);
    const rows = (await must('ps', '-a', '--format', '{{.Names}} {{.State}}')).split('\n').filter(Boolean);
    for (const row of rows) expect(row).toMatch(/^start-\d (running|created|exited)$/);
    // Whatever they are, they can be started and removed.
    for (const row of rows) await must('start', row.split(' ')[0] ?? '');
    for (const row of rows) await must('rm', '-f', row.split(' ')[0] ?? '');
    expect(await must('ps', '-aq')).toBe('');
  });
});

describe('kill -9 of the gateway', () => {
  it('refuses nobody: the next client waits for the new one', async () => {
    for (let round = 0; round < 3; round += 1) {
      await stack.host.kill('gateway');
      expect(await must('version', '--format', '{{.Server.Os}}')).toBe('linux');
    }
  });
});

describe('kill -9 of the supervisor', () => {
  it('stops nothing; up takes the running services over', async () => {
    await startCounter(stack, 'counter');
    const before = await stack.host.processes();
    await stack.host.killSupervisor();
    expect(await must('ps', '--format', '{{.Names}}')).toBe('counter');
    await stack.host.startStack();
    const after = await stack.host.processes();
    const pid = (list: typeof before, service: string) => list.find((one) => one.service === service)?.pid;
    for (const service of ['gateway', 'container-service', 'redis']) expect(pid(after, service)).toBe(pid(before, service));
    await countedSoFar(stack, 'counter');
    await endCounter(stack, 'counter');
  });
});

describe('kill -9 of a conmon', () => {
  it('ends its container as killed, as a killed shim does in dockerd, and it can be started again', async () => {
    await must('run', '-d', '--name', 'orphan', stack.busybox, 'sleep', '1000');
    const pid = await pidOf(stack, 'orphan');
    const parent = Number((await stack.host.sh(`sed 's/.*) . //; s/ .*//' /proc/${pid}/stat`)).trim());
    expect((await stack.host.sh(`cat /proc/${parent}/comm`)).trim()).toBe('conmon');
    process.kill(parent, 'SIGKILL');
    expect(await must('wait', 'orphan')).toBe('137');
    await waitFor(() => !existsSync(`/proc/${pid}`), { what: 'the process to be gone' });
    expect(await must('inspect', '-f', '{{.State.Status}} {{.State.ExitCode}}', 'orphan')).toBe('exited 137');
    await must('start', 'orphan');
    expect(await must('ps', '--format', '{{.Names}}')).toBe('orphan');
  });
});
