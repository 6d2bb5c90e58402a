/** What must be true of containers whatever was done to them and whoever was killed: records, processes, mounts, control groups, files and events agree. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ContainerSummary } from '@flotilla/engine-api';
import { waitFor } from '@flotilla/testkit';
import { expect } from 'vitest';
import { startTimeOf } from '../src/processes.ts';
import { inspect, type Stack } from './stack.ts';

/** A small generator (mulberry32), so that a failure can be run again by its seed. */
export function generator(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export async function listAll(stack: Stack): Promise<ContainerSummary[]> {
  const { containersJson } = await stack.containers.list({ all: true, limit: 0, size: false, filters: {} }, { idempotent: true });
  return JSON.parse(containersJson.toString()) as ContainerSummary[];
}

/** A number in a file may be another's process by now: only the container's own and its conmon are killed. */
export function isOf(pid: number, container: string): boolean {
  return pid > 1 && ['cgroup', 'cmdline'].some((file) => readFileSync(`/proc/${pid}/${file}`, 'utf8').includes(container));
}

type Going = 'down' | 'up' | 'paused';
const goingAfter = new Map<string, Going>([
  ['create', 'down'],
  ['start', 'up'],
  ['pause', 'paused'],
  ['unpause', 'up'],
  ['die', 'down'],
]);

/** What the events say of each container that is there. */
function toldOf(stack: Stack): Map<string, Going> {
  const containers = new Map<string, Going>();
  for (const { actorId, action } of stack.events) {
    const going = goingAfter.get(action);
    if (going !== undefined) containers.set(actorId, going);
    if (action === 'destroy') containers.delete(actorId);
  }
  return containers;
}

function goingOf({ State }: ContainerSummary): Going {
  if (State === 'paused') return 'paused';
  return State === 'running' ? 'up' : 'down';
}

async function agree(stack: Stack): Promise<void> {
  const containers = await listAll(stack);
  expect(toldOf(stack)).toEqual(new Map(containers.map((container) => [container.Id, goingOf(container)])));
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
export function livesTold(stack: Stack, whose: string): void {
  const lives = new Map<string, string[]>();
  for (const { actorId, action } of stack.events) {
    if (actorId !== '') lives.set(actorId, [...(lives.get(actorId) ?? []), action]);
  }
  expect(lives.size).toBeGreaterThan(0);
  for (const [id, actions] of lives) {
    const life = `${whose}, ${id}: ${actions.join(' ')}`;
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
      if (action === 'stop') expect(state, life).toBe('down');
      if (action === 'die') state = 'down';
    }
    expect(state, life).toBe('down');
  }
}

/** Ends and removals under way may still be finishing. */
export async function agreeSoon(stack: Stack, whose: string): Promise<void> {
  let last: unknown;
  await waitFor(
    async () => {
      try {
        await agree(stack);
        return true;
      } catch (error) {
        last = error;
        return false;
      }
    },
    { timeoutMs: 15_000, what: 'records and machine to agree' },
  ).catch(() => {
    throw new Error(`${whose}: ${String(last)}`, { cause: last });
  });
}

/** When every container is removed, no file of one is left. */
export async function nothingLeft(stack: Stack): Promise<void> {
  const service = join(stack.execRoot, 'container-service');
  for (const path of ['execs', 'exits', 'runs', 'readers', 'runtimes/crun']) {
    const directory = join(service, path);
    if (existsSync(directory)) await waitFor(() => readdirSync(directory).length === 0, { timeoutMs: 40_000, what: `${path} to be empty` });
  }
  await waitFor(() => readdirSync(join(stack.directory, 'data/container-service/containers')).length === 0, {
    timeoutMs: 40_000,
    what: 'no directory left',
  });
}
