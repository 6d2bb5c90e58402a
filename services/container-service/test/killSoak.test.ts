/**
 * Short lives of containers whose end is known beforehand, while container-service, conmon and the OCI runtime are killed at random moments: no container is lost,
 * none has an exit code that is not its own, no line of a log is missing, and nothing is left.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isNotFound } from '@flotilla/errors';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { agreeSoon, generator, isOf, listAll, livesTold, nothingLeft } from './agreement.ts';
import { create, inspect, logsOf, remove, type Stack, startStack, wait } from './stack.ts';

let stack: Stack;
beforeAll(async () => {
  stack = await startStack();
});
afterAll(async () => {
  await stack.stop();
});

const atOnce = 4;
const rounds = process.env.FLOTILLA_SOAK === undefined ? 2 : 50;
const seed = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000);
const killsARound = 4;
const killedCode = 137;
const lines = 40;

/** What was killed of a container, beside the service. Without any of it no run is cut short. */
interface Harm {
  monitor: boolean;
  runtime: boolean;
}

/** Calls are made again as a client would: a killed service cannot tell whether it has done them. */
async function insist<T>(act: () => Promise<T>, isDone: (error: unknown) => boolean = () => false): Promise<T | undefined> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await act();
    } catch (error) {
      if (isDone(error)) return undefined;
      if (attempt > 50) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

/** Starts a container until it has run: a runtime that is killed fails its start. */
async function startUntilRun(id: string): Promise<void> {
  await insist(async () => {
    if ((await inspect(stack, id)).State.StartedAt.startsWith('0001')) await stack.containers.start({ container: id });
  });
}

async function live(index: number, harms: Map<string, Harm>): Promise<void> {
  const code = 1 + (index % 100);
  const script = `i=0; while [ $i -lt ${lines} ]; do i=$((i+1)); echo $i; sleep 0.01; done; exit ${code}`;
  // A create that is cut off may have made its container: its name tells.
  const name = `life-${index}`;
  await insist(
    () => create(stack, ['sh', '-c', script], { name }),
    (error) => String(error).includes('is already in use'),
  );
  const { Id: id } = (await insist(() => inspect(stack, name))) ?? { Id: '' };
  const harm: Harm = { monitor: false, runtime: false };
  harms.set(id, harm);
  await startUntilRun(id);
  const exitCode = await insist(() => wait(stack, id));
  const told = `seed ${seed}, life ${index}: ${JSON.stringify(harm)}`;
  expect(exitCode === code || ((harm.monitor || harm.runtime) && exitCode === killedCode), `${told} exit code ${exitCode}`).toBe(true);
  const ended = await insist(() => inspect(stack, id));
  expect(ended?.State, told).toMatchObject({ Status: 'exited', ExitCode: exitCode });
  const log = (await insist(() => logsOf(stack, id)))?.stdout.split('\n').filter(Boolean) ?? [];
  // A start whose conmon or runtime was killed is undone; what its process had said by then stays in the log, before what the run said.
  const runs: string[][] = [];
  for (const line of log) {
    if (line === '1') runs.push([]);
    runs.at(-1)?.push(line);
  }
  // Who asks again while a start that was cut off is being finished may come after its end: then it runs again, and never in part.
  if (!harm.monitor && !harm.runtime) for (const run of runs) expect(run, told).toHaveLength(lines);
  for (const run of runs) expect(run, told).toEqual(run.map((_, line) => `${line + 1}`));
  if (exitCode === code) expect(runs.at(-1), told).toHaveLength(lines);
  await insist(() => remove(stack, id), isNotFound);
}

/** Kills the service, the conmon of a container, or the runtime that is busy with one. */
async function kill(random: () => number, harms: Map<string, Harm>): Promise<void> {
  const what = random();
  if (what < 0.5) return await stack.crash();
  const ids = [...harms.keys()];
  const id = ids[Math.floor(random() * ids.length)];
  if (id === undefined) return;
  const harm = harms.get(id);
  for (const pid of readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)) {
    try {
      const command = readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
      if (command !== (what < 0.75 ? 'conmon' : 'crun') || !isOf(pid, id)) continue;
      if (harm !== undefined) harm[command === 'conmon' ? 'monitor' : 'runtime'] = true;
      process.kill(pid, 'SIGKILL');
    } catch {
      // It was gone before we came.
    }
  }
}

test(`${atOnce * rounds} lives, seed ${seed}`, { timeout: 60_000 + rounds * 60_000 }, async () => {
  const random = generator(seed);
  for (let round = 0; round < rounds; round++) {
    const harms = new Map<string, Harm>();
    const lives = Promise.all(Array.from({ length: atOnce }, (_, index) => live(round * atOnce + index, harms)));
    for (let kills = 0; kills < killsARound; kills++) {
      await new Promise((resolve) => setTimeout(resolve, random() * 700));
      await kill(random, harms);
    }
    await lives;
    await agreeSoon(stack, `seed ${seed}`);
    expect(await listAll(stack)).toEqual([]);
  }
  livesTold(stack, `seed ${seed}`);
  await nothingLeft(stack);
  expect(readdirSync(join(stack.directory, 'snapshots'))).toEqual([]);
});
