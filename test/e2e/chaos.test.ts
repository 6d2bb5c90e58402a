import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { get, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { waitFor } from '@flotilla/testkit';
import { afterEach, describe, expect, it } from 'vitest';
import { countedSoFar, endCounter, pidOf, startCounter } from './counter.ts';
import { engineApi } from './engineApi.ts';
import { isCompact, useStack } from './stack.ts';
import { watched } from './watched.ts';

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

/** An answer whose body nobody reads yet. */
async function openAnswer(path: string): Promise<IncomingMessage> {
  const [answer] = (await once(get({ socketPath: stack.host.socketPath, path }), 'response')) as [IncomingMessage];
  return answer;
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

  it('interrupts no stream: logs -f, attach and run in the foreground show each line once, over three deaths', async () => {
    const script = 'i=0; while [ ! -e /end ]; do i=$((i+1)); echo $i; sleep 0.01; done; sleep 0.3; echo last; exit 42';
    const clients = [watched(stack, 'run', '--rm', '--name', 'counter', stack.busybox, 'sh', '-c', script)];
    await waitFor(() => clients[0]?.output().includes('3\n'), { what: 'the counter to count' });
    clients.push(
      watched(stack, 'logs', '-f', 'counter'),
      watched(stack, 'logs', '-f', '-t', '--tail', '0', 'counter'),
      watched(stack, 'attach', '--no-stdin', 'counter'),
    );
    await waitFor(() => clients.every((client) => client.output() !== ''), { what: 'every client to hear something' });
    for (let round = 0; round < 3; round += 1) {
      // What is written while nobody serves it counts too.
      const killed = await stack.host.kill('container-service');
      await stack.host.waitHealthy('container-service', killed);
      const heard = clients.map((client) => client.output().length);
      await waitFor(() => clients.every((client, index) => client.output().length > (heard[index] ?? 0)), {
        timeoutMs: 20_000,
        what: `every client to go on after death ${round + 1}`,
      });
    }
    await must('exec', 'counter', 'touch', '/end');
    // The container ends, and is removed, in the arms of the next instance.
    await stack.host.kill('container-service');
    const codes = await Promise.all(clients.map((client) => client.code));
    expect(codes).toEqual([42, 0, 0, 42]);
    for (const client of clients) {
      const lines = client
        .output()
        .trimEnd()
        .split('\n')
        .map((line) => line.replace(/^\S+Z /, ''));
      expect(lines.pop()).toBe('last');
      const first = Number(lines[0]);
      expect(lines).toEqual(lines.map((_, index) => String(first + index)));
    }
    expect(clients[0]?.output()).toMatch(/^1\n/);
  });

  it('says so where output cannot be resumed: an attached exec', async () => {
    await must('run', '-d', '--name', 'busy', stack.busybox, 'sleep', '1000');
    const client = watched(stack, 'exec', 'busy', 'sh', '-c', 'echo begun; while [ ! -e /end ]; do sleep 0.02; done; exit 7');
    await waitFor(() => client.output() === 'begun\n', { what: 'the exec to begin' });
    const killed = await stack.host.kill('container-service');
    await stack.host.waitHealthy('container-service', killed);
    await must('exec', 'busy', 'touch', '/end');
    expect(await client.code).toBe(7);
    expect(client.errors()).toContain('flotilla: container-service was restarted');
  });

  it('keeps the standard input of run -i: each line arrives once, and then its end', async () => {
    const client = stack.host.dockerSpawn('run', '-i', '--rm', '--name', 'fed', stack.busybox, 'sh', '-c', 'cat; echo over; exit 5');
    let output = '';
    client.stdout?.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
    const code = once(client, 'close');
    client.stdin?.write('one\n');
    await waitFor(() => output === 'one\n', { what: 'the first line' });
    await stack.host.kill('container-service');
    client.stdin?.write('two\n');
    await waitFor(() => output === 'one\ntwo\n', { timeoutMs: 20_000, what: 'the second line' });
    client.stdin?.end('three\n');
    expect([(await code)[0], output]).toEqual([5, 'one\ntwo\nthree\nover\n']);
  });

  it('ends a copy out of a container, and an export, with an error: half of it does not look whole', async () => {
    await must('run', '-d', '--name', 'full', stack.busybox, 'sh', '-c', 'dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null; sleep 1000');
    await waitFor(async () => (await must('exec', 'full', 'stat', '-c', '%s', '/big')) === `${64 * 1024 * 1024}`, { what: 'the file' });
    // Readers that take nothing yet, so that both are in the middle.
    const answers = await Promise.all(
      ['/v1.50/containers/full/archive?path=/big', '/v1.50/containers/full/export'].map((path) => openAnswer(path)),
    );
    await stack.host.kill('container-service');
    for (const answer of answers) {
      const end = new Promise((resolve) => answer.on('end', () => resolve('whole')).on('error', ({ message }) => resolve(message)));
      answer.resume();
      expect(await end).toBe('aborted');
    }
    await waitFor(async () => (await stack.host.docker('cp', 'full:/etc/passwd', '-')).code === 0, { what: 'copies to go on' });
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

describe('kill -9 of image-service', () => {
  it('ends a save and a load with an error: half of it does not look whole', async () => {
    await must('run', '--name', 'filled', stack.busybox, 'dd', 'if=/dev/zero', 'of=/big', 'bs=1M', 'count=64');
    await must('commit', 'filled', 'big');
    // A reader that takes nothing yet, and a writer that has not sent all.
    const saved = await openAnswer('/v1.50/images/big/get');
    const loading = stack.host.dockerSpawn('load');
    let told = '';
    for (const stream of [loading.stdout, loading.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        told += chunk.toString();
      });
    }
    const code = once(loading, 'close');
    loading.stdin?.write(Buffer.alloc(512));
    const ingest = join(stack.host.dataRoot, 'image-service/ingest');
    await waitFor(() => readdirSync(ingest).some((name) => name.startsWith('load-')), { what: 'the load to begin' });
    const killed = await stack.host.kill('image-service');
    const end = new Promise((resolve) => saved.on('end', () => resolve('whole')).on('error', ({ message }) => resolve(message)));
    saved.resume();
    expect(await end).toBe('aborted');
    expect([(await code)[0], told]).toEqual([1, 'Error response from daemon: the service went away before it answered\n']);
    await stack.host.waitHealthy('image-service', killed);
    await must('rmi', 'big');
  });
});

describe('kill -9 of the gateway', () => {
  it('refuses nobody: the next client waits for the new one', async () => {
    for (let round = 0; round < 3; round += 1) {
      await stack.host.kill('gateway');
      expect(await must('version', '--format', '{{.Server.Os}}')).toBe('linux');
    }
  });

  const waiting = ['sh', '-c', 'echo begun; while [ ! -e /end ]; do sleep 0.02; done; exit 7'];
  const isTold =
    /^Error response from daemon: the output of exec [0-9a-f]{64} was cut off when the gateway that carried it went away; it still runs/;

  it('leaves no exec that was cut off from its client looking whole: its client is told', async () => {
    await must('run', '-d', '--name', 'busy', stack.busybox, 'sleep', '1000');
    const clients = [['busy'], ['-i', 'busy']].map((args) => watched(stack, 'exec', ...args, ...waiting));
    await waitFor(() => clients.every((client) => client.output() === 'begun\n'), { what: 'the execs to begin' });
    await stack.host.kill('gateway');
    for (const client of clients) {
      expect(await client.code, client.errors()).toBe(1);
      expect(client.errors()).toMatch(isTold);
    }
  });

  it.skipIf(isCompact)('nor with two of each: who asks the other one is told, and who is carried by it has its exit code', async () => {
    await stack.host.flotilla('scale', 'gateway=2', 'container-service=2');
    await must('run', '-d', '--name', 'busy', stack.busybox, 'sleep', '1000');
    const ended: number[] = [];
    const clients = Array.from({ length: 6 }, () => watched(stack, 'exec', 'busy', ...waiting));
    for (const { code } of clients) void code.then((number) => ended.push(number ?? -1));
    await waitFor(() => clients.every((client) => client.output() === 'begun\n'), { what: 'the execs to begin' });
    // One whose client leaves has nobody who could be misled.
    const left = watched(stack, 'exec', 'busy', 'sh', '-c', 'echo begun; exec sleep 999');
    await waitFor(() => left.output() === 'begun\n', { what: 'one more to begin' });
    left.end();
    await left.code;
    const execs = async () =>
      (JSON.parse(await must('inspect', '-f', '{{json .ExecIDs}}', 'busy')) as string[]).map((id) => `/v1.50/exec/${id}/json`);
    const asked = async () => Promise.all((await execs()).map((path) => engineApi(stack.host, 'GET', path)));
    const isRunning = (text: string) => (JSON.parse(text) as { Running?: boolean }).Running === true;
    expect((await asked()).filter(({ text }) => isRunning(text))).toHaveLength(7);
    await waitFor(() => readdirSync(join(stack.host.execRoot, 'container-service/carriers')).length === 6, {
      what: 'the leave to be noticed',
    });

    const gateways = (await stack.host.processes()).filter(({ service }) => service === 'gateway').map(({ pid }) => pid);
    process.kill(gateways[0] ?? 0, 'SIGKILL');
    await waitFor(async () => (await asked()).filter(({ status }) => status === 500).length === ended.length, {
      what: 'those cut off to be told',
    });
    const cutOff = ended.length;
    await stack.host.waitHealthy('gateway', gateways.slice(0, 1));
    expect((await asked()).filter(({ text }) => isRunning(text))).toHaveLength(7 - cutOff);
    await must('exec', 'busy', 'touch', '/end');
    const codes = await Promise.all(clients.map(({ code }) => code));
    expect(codes.toSorted()).toEqual([...Array<number>(cutOff).fill(1), ...Array<number>(6 - cutOff).fill(7)]);
    for (const [index, client] of clients.entries()) expect(client.errors()).toMatch(codes[index] === 1 ? isTold : /^$/);
    await stack.host.flotilla('scale', 'gateway=1', 'container-service=1');
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
