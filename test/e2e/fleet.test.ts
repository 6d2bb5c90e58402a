/**
 * Real work by docker clients while any part of the stack is killed, stopped or cut off, by a seed (TEST_SEED gives another). Afterwards: nothing stopped that
 * should run, no line and no exit code lost, what was acknowledged is so, nothing done twice, nothing left behind, and every call ended with a success or a clear error.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Random, waitFor } from '@flotilla/testkit';
import { expect, it } from 'vitest';
import { workAll } from './chaos/clients.ts';
import { Harms } from './chaos/harms.ts';
import { Journal } from './chaos/journal.ts';
import { report } from './chaos/report.ts';
import { countedSoFar, endCounter, pidOf, startCounter } from './counter.ts';
import { useStack } from './stack.ts';

const seed = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000);
const harms = Number(process.env.CHAOS_HARMS ?? 150);
/** The promise: after a harm the stack answers within this. */
const backWithinMs = 3_000;

const stack = useStack();
const must = (...args: string[]) => stack.host.mustDocker(...args);
const replicas = ['gateway', 'container-service', 'image-service', 'network-volume', 'registry-proxy'];

/** A client whose output must be the counter's, from where it came in to the end. */
function follow(...args: string[]): { lines: () => string[]; ended: Promise<number | null>; isEnded: () => boolean } {
  const child = stack.host.dockerSpawn(...args);
  let text = '';
  let over = false;
  child.stdout?.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  const ended = new Promise<number | null>((resolve) => {
    child.once('close', (code) => {
      over = true;
      resolve(code);
    });
  });
  return { lines: () => text.split('\n').slice(0, -1), ended, isEnded: () => over };
}

it(`${harms} harms to a stack with two replicas of everything, seed ${seed}`, async () => {
  const { host } = stack;
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
  const followers = ['logs -f counter', 'attach --no-stdin counter'].map((line) => ({ line, client: follow(...line.split(' ')) }));
  const stop = new AbortController();
  const work = workAll({ host, journal, image: stack.busybox, pulled, keeper: 'keeper', signal: stop.signal });
  try {
    for (let done = 0; done < harms; done++) {
      const { what, tookMs } = await harmful.one();
      process.stdout.write(`${done + 1} ${what}: answers after ${Math.round(tookMs)} ms\n`);
    }
  } finally {
    stop.abort();
    await work;
    process.stdout.write(report(journal, { seed, commit: 'this run' }));
  }

  // Nothing that should run has stopped, and no line is lost.
  expect([await pidOf(stack, 'keeper'), await pidOf(stack, 'counter')]).toEqual(pids);
  await countedSoFar(stack, 'counter');
  const connectionsLost = journal.harms.some((harm) => harm.what === 'kill gateway');
  for (const { line, client } of followers) if (client.isEnded() && !connectionsLost) journal.violated(`docker ${line} has ended`);
  await endCounter(stack, 'counter');
  await waitFor(() => followers.every(({ client }) => client.isEnded()), { what: 'followers to end' });
  const all = (await must('logs', 'counter')).split('\n');
  for (const { line, client } of followers) {
    const lines = client.lines();
    const first = Number(lines[0] ?? 1);
    const wanted = all.slice(first - 1, connectionsLost ? first - 1 + lines.length : undefined);
    expect(lines, `docker ${line}`).toEqual(wanted);
  }

  // Restarted once for each of its ends, one life at a time.
  await must('stop', '-t', '5', 'phoenix');
  const lives = (await must('run', '--rm', '-v', 'lives:/lives', stack.busybox, 'cat', '/lives/log')).split('\n');
  const starts = lives.filter((line) => line === 'start').length;
  expect(lives.filter((line, index) => line !== (index % 2 === 0 ? 'start' : 'end'))).toEqual([]);
  // A restart is counted when it is decided; the stop may have come before the start.
  expect([starts - 1, starts]).toContain(Number(await must('inspect', '-f', '{{.RestartCount}}', 'phoenix')));

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
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: import.meta.dirname, encoding: 'utf8' }).trim();
  const day = new Date().toISOString().slice(0, 10);
  writeFileSync(join(import.meta.dirname, '../../bench/results', `${day}-${commit}-chaos.md`), report(journal, { seed, commit }));
  expect(journal.violations).toEqual([]);
  expect(journal.harms.filter((harm) => harm.tookMs > backWithinMs).map((harm) => `${harm.what}: ${Math.round(harm.tookMs)} ms`)).toEqual(
    [],
  );
}, 7_200_000);
