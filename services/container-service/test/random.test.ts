/**
 * Random lives of containers from several clients at once, while container-service, conmon and containers' own processes are killed. After each round inspect, records,
 * processes, mounts, control groups and files must agree; at the end the events must tell a life that can be, and nothing may be left.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ContainerSummary } from '@flotilla/engine-api';
import { waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTimeOf } from '../src/processes.ts';
import { create, inspect, readTicket, remove, type Stack, startStack } from './stack.ts';

let stack: Stack;
beforeAll(async () => {
  stack = await startStack();
});
afterAll(async () => {
  await stack.stop();
});

const rounds = process.env.FLOTILLA_SOAK === undefined ? 4 : 40;
const clients = 3;
const stepsARound = 8;
const seed = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000);

/** A small generator (mulberry32), so that a failure can be run again by its seed. */
function generator(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

async function list(): Promise<ContainerSummary[]> {
  const { containersJson } = await stack.containers.list({ all: true, limit: 0, size: false, filters: {} }, { idempotent: true });
  return JSON.parse(containersJson.toString()) as ContainerSummary[];
}

const commands = [
  ['sleep', '300'],
  ['sh', '-c', 'exit 3'],
  ['sh', '-c', 'echo out; sleep 0.05'],
  ['sh', '-c', 'trap "exit 0" TERM; while :; do sleep 0.02; done'],
];

const probed = { Test: ['CMD', 'test', '-e', '/bin/sh'], Interval: 200_000_000, Timeout: 2_000_000_000, Retries: 1 };

/** Runs a command in a container and reads what it says to the end; a killed service cuts that off. */
async function runExec(container: string, command: readonly string[]): Promise<void> {
  const config = { AttachStdout: true, AttachStderr: true, Cmd: command };
  const { id } = await stack.execs.create({ container, configJson: Buffer.from(JSON.stringify(config)) });
  const { ticket } = await stack.execs.start({ exec: id, detach: false, tty: false, height: 0, width: 0 });
  await readTicket(ticket).catch(() => undefined);
}

/** One act of a client. What the state of a container forbids at that moment, or a killed service cannot answer, is no failure of the test. */
async function act(random: () => number): Promise<void> {
  const pick = <T>(from: readonly T[]): T | undefined => from[Math.floor(random() * from.length)];
  const container = pick(await list().catch(() => []))?.Id ?? '';
  const { containers } = stack;
  const acts: (() => Promise<unknown>)[] = [
    () => create(stack, pick(commands) ?? ['true'], { hostConfig: { AutoRemove: random() < 0.3 } }),
    () => create(stack, pick(commands) ?? ['true']),
    () => create(stack, pick(commands) ?? ['true'], { config: { Healthcheck: probed }, hostConfig: { RestartPolicy: onFailure } }),
    () => containers.start({ container }),
    () => containers.start({ container }),
    () => containers.stop({ container, signal: '', timeoutSeconds: 0 }),
    () => containers.kill({ container, signal: '' }),
    () => containers.restart({ container, signal: '', timeoutSeconds: 0 }),
    () => containers.pause({ container }),
    () => containers.unpause({ container }),
    () => containers.rename({ container, newName: `renamed_${Math.floor(random() * 1e9)}` }),
    () => runExec(container, pick(commands.slice(1, 3)) ?? ['true']),
    () => containers.update({ container, updateJson: Buffer.from(JSON.stringify({ Memory: pick(memories), MemorySwap: -1 })) }),
    () => containers.update({ container, updateJson: Buffer.from(JSON.stringify({ RestartPolicy: onFailure })) }),
    () => (random() < 0.2 ? containers.prune({ filters: {} }) : Promise.resolve()),
    () => containers.remove({ container, force: random() < 0.5, removeVolumes: true, removeLink: false }),
  ];
  await pick(acts)?.().catch((error: unknown) => {
    expect(String(error)).not.toMatch(/TypeError|ReferenceError|ENOENT|EINVAL|SyscallError/);
  });
}

const onFailure = { Name: 'on-failure', MaximumRetryCount: 2 };
const memories = [32, 64, 128].map((megabytes) => megabytes * 1024 * 1024);

/** Kills something that is not ours to lose. */
async function kill(random: () => number): Promise<void> {
  const what = random();
  if (what < 0.4) return await stack.crash();
  const runs = join(stack.execRoot, 'container-service/runs');
  const bundles = readdirSync(runs);
  const bundle = bundles[Math.floor(random() * bundles.length)];
  if (bundle === undefined) return;
  try {
    const pid = Number(readFileSync(join(runs, bundle, what < 0.7 ? 'monitor.pid' : 'pid'), 'utf8'));
    if (isOf(pid, bundle)) process.kill(pid, 'SIGKILL');
  } catch {
    // It was gone before we came.
  }
}

/** A number in a file may be another's process by now: only the container's own and its conmon are killed. */
function isOf(pid: number, container: string): boolean {
  return pid > 1 && ['cgroup', 'cmdline'].some((file) => readFileSync(`/proc/${pid}/${file}`, 'utf8').includes(container));
}

async function agree(): Promise<void> {
  const containers = await list();
  for (const { Id, State } of containers) {
    const document = await inspect(stack, Id);
    const pid = document.State.Pid;
    const group = stack.groupOf(Id);
    expect(document.State.Status).toBe(State);
    if (State === 'running' || State === 'paused') {
      expect(group.processes(), Id).toContain(pid);
      expect(group.frozen(), `${Id} ${State}`).toBe(State === 'paused');
      const limit = document.HostConfig.Memory ?? 0;
      if (limit > 0) expect(group.sample().memory.limit, Id).toBe(limit);
    } else {
      expect(group.processes(), `${Id} ${State}`).toEqual([]);
    }
    if (State === 'running' || State === 'paused') expect(startTimeOf(pid), `${Id} ${State} pid ${pid}`).toBeDefined();
    else expect(pid).toBe(0);
    expect(existsSync(join(stack.directory, 'snapshots', Id))).toBe(true);
  }
  const running = new Set(containers.filter(({ State }) => State === 'running' || State === 'paused').map(({ Id }) => Id));
  const runs = readdirSync(join(stack.execRoot, 'container-service/runs'));
  expect(runs.filter((id) => !running.has(id))).toEqual([]);
  const mounted = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .flatMap((line) => /snapshots\/([0-9a-f]{64})\/merged/.exec(line)?.[1] ?? [])
    .filter((id) => existsSync(join(stack.directory, 'snapshots', id)));
  expect(mounted.filter((id) => !running.has(id))).toEqual([]);
}

/** Of each container: made once, its runs one after the other, gone at the end; paused only while it runs. */
function livesTold(): void {
  const lives = new Map<string, string[]>();
  for (const { actorId, action } of stack.events) {
    // A `stop` is told when the one who asked for it has its answer: a container that removes itself may be gone by then.
    if (actorId !== '' && action !== 'stop') lives.set(actorId, [...(lives.get(actorId) ?? []), action]);
  }
  expect(lives.size).toBeGreaterThan(0);
  for (const [id, actions] of lives) {
    const life = `seed ${seed}, ${id}: ${actions.join(' ')}`;
    expect([actions[0], actions.at(-1)], life).toEqual(['create', 'destroy']);
    expect(
      actions.filter((action) => action === 'create' || action === 'destroy'),
      life,
    ).toHaveLength(2);
    let state = 'down';
    for (const action of actions) {
      if (action === 'start') expect(state, life).toBe('down');
      if (action === 'die' || action === 'pause' || action === 'unpause') expect(state, life).not.toBe('down');
      if (action === 'start' || action === 'unpause') state = 'up';
      if (action === 'pause') state = 'paused';
      if (action === 'die') state = 'down';
    }
    expect(state, life).toBe('down');
  }
}

/** Ends and removals under way may still be finishing. */
async function agreeSoon(): Promise<void> {
  let last: unknown;
  await waitFor(
    async () => {
      try {
        await agree();
        return true;
      } catch (error) {
        last = error;
        return false;
      }
    },
    { timeoutMs: 15_000, what: 'records and machine to agree' },
  ).catch(() => {
    throw new Error(`seed ${seed}: ${String(last)}`, { cause: last });
  });
}

test(`random lives, seed ${seed}`, { timeout: rounds * 60_000 }, async () => {
  const random = generator(seed);
  for (let round = 0; round < rounds; round++) {
    const acting = Array.from({ length: clients }, async () => {
      for (let step = 0; step < stepsARound; step++) await act(random);
    });
    await new Promise((resolve) => setTimeout(resolve, random() * 400));
    await kill(random);
    await Promise.all(acting);
    await agreeSoon();
  }
  for (const { Id } of await list()) await remove(stack, Id).catch(() => undefined);
  await waitFor(async () => (await list()).length === 0, { what: 'every container to be gone' });
  await agreeSoon();
  const count = (wanted: string): number => stack.events.filter(({ action }) => action === wanted).length;
  await waitFor(() => count('create') === count('destroy'), { what: 'every removal to be told' });
  livesTold();
  for (const path of ['container-service/execs', 'container-service/exits', 'container-service/runs', 'container-service/runtimes/crun']) {
    const directory = join(stack.execRoot, path);
    if (existsSync(directory)) await waitFor(() => readdirSync(directory).length === 0, { what: `${path} to be empty` });
  }
  await waitFor(() => readdirSync(join(stack.directory, 'data/container-service/containers')).length === 0, { what: 'no directory left' });
});
