/**
 * Real work by docker clients while any part of the stack is killed, stopped or cut off, by a seed (TEST_SEED gives another). Afterwards: nothing stopped that
 * should run, no line and no exit code lost, what was acknowledged is so, nothing done twice, nothing left behind, and every call ended with a success or a clear error.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { Random, waitFor } from '@flotilla/testkit';
import { expect, it } from 'vitest';
import { workAll } from './chaos/clients.ts';
import { eventFormat, Follower, parseEvent } from './chaos/followers.ts';
import { Harms } from './chaos/harms.ts';
import { Journal } from './chaos/journal.ts';
import { report } from './chaos/report.ts';
import { countedSoFar, endCounter, pidOf, startCounter } from './counter.ts';
import { useStack } from './stack.ts';

const isSoak = process.env.FLOTILLA_SOAK === '1';
const seed = Number(process.env.TEST_SEED ?? (isSoak ? Date.now() % 1_000_000 : 1));
const harms = Number(process.env.CHAOS_HARMS ?? (isSoak ? 150 : 8));
/** The promise: after a harm the stack answers within this. */
const backWithinMs = 3_000;

const stack = useStack();
const must = (...args: string[]) => stack.host.mustDocker(...args);
const replicas = ['gateway', 'container-service', 'image-service', 'network-volume', 'registry-proxy'];

/** Containers that were removed twice, or started while they ran, or ended when they did not run, as events tell it. */
function twice(history: readonly string[]): string[] {
  const states = new Map<string, string>();
  const found: string[] = [];
  for (const line of history) {
    const { type, action, id, isStep } = parseEvent(line);
    if (type !== 'container' || !isStep) continue;
    const before = states.get(id);
    const isRight = {
      create: before === undefined,
      start: before === 'create' || before === 'die',
      die: before === 'start',
      destroy: before !== 'destroy',
    };
    if (before !== undefined && !isRight[action as keyof typeof isRight]) found.push(`${id.slice(0, 12)}: ${action} after ${before}`);
    states.set(id, action);
  }
  return found;
}

it(`${harms} harms to a stack with two replicas of everything, seed ${seed}`, async () => {
  const { host } = stack;
  const otherLoad = loadavg()[0] ?? 0;
  await host.flotilla('scale', ...replicas.map((name) => `${name}=2`));
  const pulled = await stack.push(stack.busyboxImage, 'pulled');
  await must('run', '-d', '--name', 'keeper', stack.busybox, 'sleep', '100000');
  await startCounter(stack, 'counter');
  // One that comes back by itself, and writes down each of its lives.
  const life = 'echo start >> /lives/log; sleep 0.2; echo end >> /lives/log; exit 1';
  await must('run', '-d', '--name', 'phoenix', '--restart', 'always', '-v', 'lives:/lives', stack.busybox, 'sh', '-c', life);
  const pids = [await pidOf(stack, 'keeper'), await pidOf(stack, 'counter')];

  const journal = new Journal();
  const state = JSON.parse(readFileSync(join(host.execRoot, 'supervisor/state.json'), 'utf8')) as { natsPort: number };
  const harmful = new Harms({ host, journal, random: new Random(seed), image: stack.busybox, natsPort: state.natsPort });
  const events = `events --since ${(Date.now() / 1000).toFixed(3)} --format ${eventFormat}`;
  const [logs, attached, told] = ['logs -f counter', 'attach --no-stdin counter', events].map(
    (line) => new Follower(host, journal, line),
  ) as [Follower, Follower, Follower];
  const followers = [logs, attached, told];
  await Promise.all(followers.map((follower) => follower.follow()));
  const stop = new AbortController();
  const work = workAll({ host, journal, image: stack.busybox, pulled, keeper: 'keeper', signal: stop.signal });
  try {
    for (let done = 0; done < harms; done++) {
      const { what, tookMs } = await harmful.one();
      process.stdout.write(`${done + 1} ${what}: answers after ${Math.round(tookMs)} ms\n`);
      await Promise.all(followers.map((follower) => follower.follow()));
    }
  } finally {
    stop.abort();
    await work;
    process.stdout.write(report(journal, { seed, commit: 'this run', otherLoad }));
  }

  // Nothing that should run has stopped, and no line is lost.
  expect([await pidOf(stack, 'keeper'), await pidOf(stack, 'counter')]).toEqual(pids);
  await countedSoFar(stack, 'counter');
  await endCounter(stack, 'counter');
  await Promise.all([logs, attached].map((follower) => follower.stop(undefined)));
  const all = (await must('logs', 'counter')).split('\n');
  for (const follower of [logs, attached]) follower.check(all);

  // Restarted once for each of its ends, one life at a time.
  await must('stop', '-t', '5', 'phoenix');
  const lives = (await must('run', '--rm', '-v', 'lives:/lives', stack.busybox, 'cat', '/lives/log')).split('\n');
  const starts = lives.filter((line) => line === 'start').length;
  expect(lives.filter((line, index) => line !== (index % 2 === 0 ? 'start' : 'end'))).toEqual([]);
  // A restart is counted when it is decided; the stop may have come before the start.
  expect([starts - 1, starts]).toContain(Number(await must('inspect', '-f', '{{.RestartCount}}', 'phoenix')));

  // Nothing happened twice, and who listens to events has heard all of them, as they are told again to who comes later.
  await must('volume', 'create', 'last-word');
  const past = async () => (await must(...events.split(' '), '--until', (Date.now() / 1000).toFixed(3))).split('\n');
  const isLastWord = (line: string): boolean => line.endsWith('/volume/create/last-word');
  const history = await waitFor(() => past().then((lines) => (lines.some(isLastWord) ? lines : undefined)), {
    timeoutMs: 20_000,
    what: 'the last event',
  });
  await waitFor(() => told.hasHeard(history), { timeoutMs: 20_000, what: 'all events to be told' }).catch(() => undefined);
  await told.stop('SIGTERM');
  told.checkEvents(history, await past());
  for (const what of twice(history)) journal.violated(what);

  // No service ended by a fault of its own.
  for (const name of readdirSync(join(host.dataRoot, 'logs')))
    expect(
      readFileSync(join(host.dataRoot, 'logs', name), 'utf8')
        .split('\n')
        .filter((line) => line.includes('"level":"fatal"')),
      name,
    ).toEqual([]);

  await host.flotilla('scale', ...replicas.map((name) => `${name}=1`));
  await must('builder', 'prune', '-af');
  // What killed work of image-service has left is kept a day, for whoever asks for it again; after that it goes.
  const content = join(host.dataRoot, 'image-service');
  await host.sh(`touch -d '2 days ago' ${content}/layers/* ${content}/blobs/*/*`);
  await host.flotilla('restart', 'image-service');
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: import.meta.dirname, encoding: 'utf8' }).trim();
  const day = new Date().toISOString().slice(0, 10);
  if (isSoak)
    writeFileSync(
      join(import.meta.dirname, '../../bench/results', `${day}-${commit}-chaos.md`),
      report(journal, { seed, commit, otherLoad }),
    );
  expect(journal.violations).toEqual([]);
  expect(journal.harms.filter((harm) => harm.tookMs > backWithinMs).map((harm) => `${harm.what}: ${Math.round(harm.tookMs)} ms`)).toEqual(
    [],
  );
}, 7_200_000);
