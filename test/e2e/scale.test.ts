/** `flotilla scale` up and down while clients work: who comes takes load, who leaves ends nothing, and what has to be done once is done once. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildImage, busyboxLayer, randomBytesOf, type StackProcess, waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { countedSoFar, endCounter, pidOf, startCounter } from './counter.ts';
import { engineApi } from './engineApi.ts';
import { useStack } from './stack.ts';
import { type Watched, watched } from './watched.ts';

const stack = useStack();
const must = (...args: string[]) => stack.host.mustDocker(...args);

const replicas = { gateway: 2, 'image-service': 3, 'container-service': 2, 'network-volume': 2, 'registry-proxy': 2 } as const;
const services = Object.keys(replicas);
const flotilla = join(import.meta.dirname, '../../deploy/flotilla');
/** The promise: whoever is there has work within this time. */
const loadedWithinMs = 2_000;

interface Listed extends StackProcess {
  readonly underWay: number;
  readonly answered: number;
  readonly leases: readonly string[];
}

/** The replicas, when each has told of itself. */
async function listed(service?: string): Promise<Listed[]> {
  return waitFor(
    async () => {
      const all = await stack.host.listed<Listed>();
      const asked = all.filter((one) => services.includes(one.service) && (service === undefined || one.service === service));
      return asked.every(({ leases }) => leases !== undefined) && asked;
    },
    { timeoutMs: 60_000, what: 'every replica to tell of itself' },
  );
}

/** On a busy machine the start of eleven processes may take longer than the command waits. */
async function scale(counts: Readonly<Record<string, number>>): Promise<void> {
  const { host } = stack;
  const words = Object.entries(counts).map(([name, count]) => `${name}=${count}`);
  const args = ['scale', '--data-root', host.dataRoot, '--exec-root', host.execRoot, ...words];
  const { code, stderr } = await host.run('sh', [flotilla, ...args], { timeoutMs: 90_000 });
  if (code !== 0) expect(stderr).toContain('scaled, but not every replica is healthy yet');
  await waitFor(
    async () => {
      const running = (await host.processes()).filter(({ draining }) => !draining);
      return Object.entries(counts).every(
        ([name, count]) => running.filter(({ service, healthy }) => service === name && healthy).length === count,
      );
    },
    { timeoutMs: 90_000, intervalMs: 100, what: words.join(' ') },
  );
}

const one = Object.fromEntries(services.map((name) => [name, 1]));

/** Requests that each of the services has to answer, for so long. */
async function askAll(forMs: number): Promise<void> {
  const end = performance.now() + forMs;
  const paths = [
    '/containers/keeper/top',
    '/volumes',
    '/networks',
    `/images/${stack.busybox}/history`,
    `/distribution/${stack.busybox}/json`,
  ];
  const client = async (path: string): Promise<void> => {
    while (performance.now() < end) {
      const { status, text } = await engineApi(stack.host, 'GET', path, { headers: { connection: 'close' } });
      expect(status, text).toBe(200);
    }
  };
  await Promise.all(paths.flatMap((path) => [client(path), client(path)]));
}

/** A Dockerfile of its own in a directory of its own. */
function context(name: string, ...lines: string[]): string {
  const directory = join(stack.host.filesDirectory, name);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'Dockerfile'), [`FROM ${stack.busybox}`, ...lines, ''].join('\n'));
  return directory;
}

/** Clients that work without a pause; every failure is kept. */
class Clients {
  readonly failures: string[] = [];
  private readonly stop = new AbortController();
  private readonly loops: Promise<void>[] = [];

  /** Repeats docker commands, one after another. */
  repeat(...commands: (readonly string[])[]): void {
    this.loops.push(
      (async () => {
        while (!this.stop.signal.aborted) {
          for (const args of commands) {
            const { code, stdout, stderr } = await stack.host.dockerWith({ env: { DOCKER_BUILDKIT: '0' } }, ...args);
            if (code !== 0) this.failures.push(`docker ${args.join(' ')}: ${stdout}${stderr}`);
          }
        }
      })(),
    );
  }

  async end(): Promise<void> {
    this.stop.abort();
    await Promise.all(this.loops);
  }
}

describe('flotilla scale under work', () => {
  let clients: Clients;
  beforeAll(async () => {
    clients = new Clients();
    await must('run', '-d', '--name', 'keeper', stack.busybox, 'sleep', '100000');
    await startCounter(stack, 'counter');
  });
  afterAll(() => clients.end());

  it('brings load to whoever comes, and whoever leaves ends nothing that is under way', async () => {
    const pid = await pidOf(stack, 'counter');
    clients.repeat(['run', '--rm', stack.busybox, 'true'], ['exec', 'keeper', 'true'], ['ps', '-a']);
    const building = ['build', '-q', '--no-cache', '-t', 'built', context('short', 'RUN true')];
    clients.repeat(['pull', '-q', stack.busybox], ['network', 'create', 'come'], ['network', 'rm', 'come'], building);
    await scale(replicas);
    await askAll(loadedWithinMs);
    const all = await listed();
    for (const { service, instance, answered } of all) expect(answered, `${service} ${instance}`).toBeGreaterThan(0);
    for (const [service, count] of Object.entries(replicas)) expect(all.filter((item) => item.service === service)).toHaveLength(count);

    // Long ones on every replica, until the newest have some too: it is they who leave.
    const said = Array.from({ length: 300 }, (_, index) => `${index + 1}\n`).join('');
    const say = 'i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $i; sleep 0.03; done; exit 7';
    const followers: Watched[] = [];
    const events: Watched[] = [];
    const follow = async (): Promise<void> => {
      const more = [['logs', '-f'], ['attach', '--no-stdin'], ['wait']].map((words) => watched(stack, ...words, 'counter'));
      followers.push(...more);
      events.push(watched(stack, 'events', '--filter', 'container=counter', '--format', '{{.Action}}'));
      await waitFor(() => more.slice(0, 2).every(({ output }) => output() !== ''), { what: 'those who follow to hear', timeoutMs: 30_000 });
    };
    const execs = Array.from({ length: 4 }, () => watched(stack, 'exec', 'keeper', 'sh', '-c', say));
    const builds = Array.from({ length: 3 }, (_, index) =>
      stack.host.dockerWith(
        { env: { DOCKER_BUILDKIT: '0' } },
        ...['build', '-q', '--no-cache', '-t', `long-${index}`, context(`long-${index}`, 'RUN sleep 8; echo made > /made')],
      ),
    );
    do await follow();
    while (!(await listed('gateway')).every(({ underWay }) => underWay > 1));
    await waitFor(() => execs.every(({ output }) => output() !== ''), { what: 'every exec to speak', timeoutMs: 30_000 });

    await scale(one);
    const remaining = (await listed()).filter(({ draining }) => !draining);
    expect(remaining.map(({ service }) => service).sort()).toEqual(services.toSorted());
    // Connections are their gateway's: the one that leaves waits for its clients.
    expect((await listed('gateway')).filter(({ draining }) => draining)).toHaveLength(1);

    for (const exec of execs) {
      expect(await exec.code, exec.errors()).toBe(7);
      expect(exec.output()).toBe(said);
    }
    for (const build of builds) {
      const { code, stderr } = await build;
      expect(code, stderr).toBe(0);
    }
    await clients.end();
    expect(clients.failures).toEqual([]);
    expect(await pidOf(stack, 'counter')).toBe(pid);

    await endCounter(stack, 'counter');
    const lines = await countedSoFar(stack, 'counter');
    for (const [index, follower] of followers.entries()) {
      const isAttach = index % 3 === 1;
      const code = await follower.code;
      if (index % 3 === 2) expect(follower.output().trim()).toBe('42');
      else {
        expect(code, follower.errors()).toBe(isAttach ? 42 : 0);
        const heard = follower.output().trim().split('\n').map(Number);
        expect(heard.at(-1)).toBe(lines);
        expect(heard).toEqual(heard.map((_, place) => (heard[0] ?? 0) + place));
      }
    }
    await waitFor(() => events.every(({ output }) => output().includes('die\n')), { what: 'the events of the end' });
    for (const { end } of events) end();
    await must('builder', 'prune', '-af');
    await waitFor(async () => (await listed()).length === services.length, { what: 'those that drained to be gone', timeoutMs: 20_000 });
  }, 300_000);
});

describe('several replicas of everything', () => {
  beforeAll(() => scale({ ...replicas, 'container-service': 3 }), 180_000);
  afterAll(() => scale(one), 180_000);

  it('agree at once: what is acknowledged is so, whoever is asked', async () => {
    const asked = async (path: string): Promise<number[]> =>
      Promise.all(
        Array.from({ length: 8 }, async () => (await engineApi(stack.host, 'GET', path, { headers: { connection: 'close' } })).status),
      );
    const all = (status: number): number[] => Array.from({ length: 8 }, () => status);
    for (let round = 0; round < 5; round++) {
      const name = `agreed-${round}`;
      await must('create', '--name', name, stack.busybox);
      expect(await asked(`/containers/${name}/json`)).toEqual(all(200));
      await must('network', 'create', name);
      expect(await asked(`/networks/${name}`)).toEqual(all(200));
      await must('tag', stack.busybox, name);
      expect(await asked(`/images/${name}/json`)).toEqual(all(200));
      const pushed = `${stack.registry.address}/${name}`;
      await must('tag', stack.busybox, pushed);
      const pushes = await Promise.all(Array.from({ length: 4 }, () => stack.host.docker('push', pushed)));
      expect(pushes.map(({ code, stderr }) => `${code} ${stderr}`)).toEqual(pushes.map(() => '0 '));
      await must('rmi', pushed);
      await must('rm', name);
      expect(await asked(`/containers/${name}/json`)).toEqual(all(404));
      await must('network', 'rm', name);
      expect(await asked(`/networks/${name}`)).toEqual(all(404));
      await must('rmi', name);
      expect(await asked(`/images/${name}/json`)).toEqual(all(404));
    }
  });

  it('ask a registry once for what several of them pull', async () => {
    const big = await buildImage({ layers: [busyboxLayer(), [{ path: 'big', content: randomBytesOf(8_000_000, 'scale') }]] });
    const reference = await stack.push(big, 'asked-once');
    const before = stack.registry.requests().length;
    await Promise.all(Array.from({ length: 6 }, () => must('pull', '-q', reference)));
    const blobs = stack.registry
      .requests()
      .slice(before)
      .filter(({ method, path }) => method === 'GET' && path.includes('/blobs/'))
      .map(({ path }) => path);
    expect(blobs.length).toBeGreaterThan(0);
    expect(blobs.toSorted()).toEqual([...new Set(blobs)].toSorted());
  });

  it('decide a restart once, probe once, and rotate a log once', async () => {
    const [lives, probes] = ['lives', 'probes'].map((name) => ['-v', `${name}:/${name}`]) as [string[], string[]];
    await must(
      ...['run', '-d', '--name', 'phoenix', '--restart', 'on-failure:4', ...lives, stack.busybox],
      ...['sh', '-c', 'echo begun >> /lives/log; sleep 0.3; exit 1'],
    );
    await must(
      ...['run', '-d', '--name', 'probed', '--health-cmd', 'cut -d " " -f 1 /proc/uptime >> /probes/log', '--health-interval', '500ms'],
      ...[...probes, stack.busybox, 'sleep', '1000'],
    );
    await must(
      ...['run', '-d', '--name', 'talker', '--log-opt', 'max-size=20k', '--log-opt', 'max-file=3', stack.busybox],
      ...['sh', '-c', 'i=0; while [ $i -lt 12000 ]; do i=$((i+1)); echo line $i; done'],
    );
    await waitFor(async () => (await must('inspect', '-f', '{{.RestartCount}} {{.State.Status}}', 'phoenix')) === '4 exited', {
      what: 'the policy to give up',
      timeoutMs: 30_000,
    });
    const count = async (path: string, from: string): Promise<string[]> =>
      (await must('run', '--rm', '--volumes-from', from, stack.busybox, 'cat', path)).split('\n');
    expect(await count('/lives/log', 'phoenix')).toHaveLength(5);

    await waitFor(async () => (await must('inspect', '-f', '{{.State.Health.Status}}', 'probed')) === 'healthy', { what: 'a probe' });
    await waitFor(async () => (await count('/probes/log', 'probed')).length > 5, { what: 'probes', timeoutMs: 20_000 });
    const times = (await count('/probes/log', 'probed')).map(Number);
    // A second prober would come between two of the first.
    for (const [index, time] of times.slice(1).entries()) expect(time - (times[index] ?? 0)).toBeGreaterThan(0.4);

    expect(await must('wait', 'talker')).toBe('0');
    const kept = (await must('logs', 'talker')).split('\n').map((line) => Number(line.slice('line '.length)));
    expect(kept.at(-1)).toBe(12_000);
    expect(kept).toEqual(kept.map((_, index) => (kept[0] ?? 0) + index));
    await must('rm', '-fv', 'phoenix', 'probed', 'talker');
    await must('volume', 'rm', 'lives', 'probes');
  }, 90_000);

  it('are listed with what each has to do, and the leases that it holds', async () => {
    const directory = context('leased', 'RUN sleep 10');
    const building = stack.host.dockerWith({ env: { DOCKER_BUILDKIT: '0' } }, 'build', '-q', '--no-cache', '-t', 'leased', directory);
    await waitFor(async () => (await listed('image-service')).some(({ underWay }) => underWay > 0), { what: 'the build to be seen' });
    // Each service has one who brings its events to the others.
    for (const service of ['image-service', 'container-service', 'network-volume']) {
      const relays = (await listed(service)).filter(({ leases }) => leases.includes('event-relay'));
      expect(relays, service).toHaveLength(1);
    }
    const table = await stack.host.flotilla('ps');
    expect(table.stdout.split('\n')[0]).toMatch(/^SERVICE +INSTANCE +PID +HEALTH +LOAD +LEASES +UPTIME/);
    expect(table.stdout).toMatch(/^image-service +\w+ +\d+ +healthy +[\d.]+\/s, \d+ now +\d+ /m);
    expect((await building).code).toBe(0);
    await must('builder', 'prune', '-af');
  });
});
