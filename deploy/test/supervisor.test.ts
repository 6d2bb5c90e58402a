import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { waitFor } from '@flotilla/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Plan, ProcessPlan } from '../src/stack/plan.ts';
import type { ServiceName } from '../src/stack/services.ts';
import { restartDelayMs } from '../src/supervisor/backoff.ts';
import { createSupervisorLog, type SupervisorLog } from '../src/supervisor/log.ts';
import { isAlive, reap, statOf } from '../src/supervisor/process.ts';
import { readState } from '../src/supervisor/state.ts';
import { type ProcessReport, Supervisor } from '../src/supervisor/supervisor.ts';

const standIn = fileURLToPath(new URL('./standIn/service.ts', import.meta.url));

let root: string;
let lines: { message: string; process?: string; replaces?: string }[];
let log: SupervisorLog;
let running: Supervisor[];

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'flotilla-sup-'));
  mkdirSync(join(root, 'supervisor'));
  mkdirSync(join(root, 'logs'));
  lines = [];
  log = createSupervisorLog((line) => lines.push(JSON.parse(line) as { message: string }));
  running = [];
});

afterEach(async () => {
  for (const supervisor of running) await supervisor.stop();
  rmSync(root, { recursive: true, force: true });
});

function service(name: ServiceName, options: Partial<ProcessPlan> & { behaviour?: string } = {}): ProcessPlan {
  const socket = join(root, `${name}-{instance}.sock`);
  const { behaviour = '', ...rest } = options;
  return {
    name,
    command: [process.execPath, standIn, socket, behaviour],
    env: {},
    account: 'root',
    log: join(root, 'logs', `${name}.log`),
    listens: false,
    probe: { kind: 'grpc', sockets: [socket] },
    address: `unix:${socket}`,
    sockets: [socket],
    startStage: 2,
    stopStage: 1,
    stopTimeoutMs: 5000,
    count: 1,
    version: '1',
    digest: 'd1',
    ...rest,
  };
}

async function supervise(...processes: ProcessPlan[]): Promise<Supervisor> {
  const plan: Plan = {
    dataRoot: root,
    execRoot: root,
    engineId: 'e',
    version: '1',
    lockFd: -1,
    listeners: [],
    processes,
    codeMount: undefined,
    tlsCopies: [],
  };
  const supervisor = new Supervisor(plan, log);
  running.push(supervisor);
  await supervisor.start();
  return supervisor;
}

async function healthy(supervisor: Supervisor): Promise<ProcessReport[]> {
  expect(await supervisor.untilHealthy(10_000)).toBe(true);
  return supervisor.report();
}

/** The report of a healthy process whose pid is none of these. */
async function replacement(supervisor: Supervisor, ...pids: number[]): Promise<ProcessReport> {
  for (let waited = 0; waited < 10_000; waited += 20) {
    const found = supervisor.report().find((item) => item.healthy && !pids.includes(item.pid));
    if (found !== undefined) return found;
    await pause(20);
  }
  throw new Error(`no replacement of ${pids.join()}: ${JSON.stringify(supervisor.report())}`);
}

describe('a supervisor', () => {
  it('starts a killed process again at once, in a new instance', async () => {
    const supervisor = await supervise(service('gateway'));
    const [before] = await healthy(supervisor);
    process.kill(before?.pid ?? 0, 'SIGKILL');
    const after = await replacement(supervisor, before?.pid ?? 0);
    expect(after.instance).not.toBe(before?.instance);
    expect(after.restarts).toBe(1);
    expect(existsSync(before?.address.slice('unix:'.length) ?? '')).toBe(false);
  });

  it('lets one go on that somebody has stopped', async () => {
    const supervisor = await supervise(service('gateway'));
    const [before] = await healthy(supervisor);
    process.kill(before?.pid ?? 0, 'SIGSTOP');
    await waitFor(() => lines.some((line) => line.message.startsWith('was stopped by a signal')), { timeoutMs: 10_000 });
    await pause(100);
    expect(statOf(before?.pid ?? 0)?.state).not.toBe('T');
    expect((await healthy(supervisor))[0]?.pid).toBe(before?.pid);
  });

  it('kills one that sleeps and does not answer, and none that is only busy', async () => {
    const supervisor = await supervise(service('gateway', { behaviour: 'block' }), service('image-service', { behaviour: 'spin' }));
    const [blocks, spins] = await healthy(supervisor);
    for (const one of [blocks, spins]) process.kill(one?.pid ?? 0, 'SIGUSR2');
    await replacement(supervisor, blocks?.pid ?? 0, spins?.pid ?? 0);
    expect(lines.filter((line) => line.message.startsWith('does not answer')).map((line) => line.process)).toEqual(['gateway']);
    expect(supervisor.report().find((item) => item.pid === spins?.pid)?.healthy).toBe(false);
    process.kill(spins?.pid ?? 0, 'SIGKILL');
  });

  it('waits longer and longer for one that does not stay up', async () => {
    expect([1, 2, 3, 4, 20].map(restartDelayMs)).toEqual([0, 100, 200, 400, 5000]);
    await supervise(service('gateway', { behaviour: 'crash' }));
    await pause(1500);
    const starts = lines.filter((line) => line.message === 'started').length;
    expect(starts).toBeGreaterThanOrEqual(2);
    expect(starts).toBeLessThan(8);
  });

  it('stops who asks before who is asked, and leaves no trace but the logs', async () => {
    const supervisor = await supervise(
      service('image-service', { stopStage: 3 }),
      service('gateway', { stopStage: 1 }),
      service('container-service', { stopStage: 2 }),
    );
    await healthy(supervisor);
    const order: string[] = [];
    await supervisor.stop((line) => order.push(line));
    expect(order).toEqual(['gateway stopped', 'container-service stopped', 'image-service stopped']);
    expect(existsSync(join(root, 'supervisor/state.json'))).toBe(false);
    expect(supervisor.report()).toEqual([]);
  });

  it('kills one that does not stop in time', async () => {
    const supervisor = await supervise(service('gateway', { behaviour: 'ignore-term', stopTimeoutMs: 300 }));
    const [before] = await healthy(supervisor);
    await supervisor.stop();
    expect(existsSync(`/proc/${before?.pid}`)).toBe(false);
    expect(lines.some((line) => line.message.includes('was killed'))).toBe(true);
  });

  it('ends though it never hears of the end of one, and starts nothing any more while it stops', async () => {
    const supervisor = await supervise(service('gateway'), service('image-service', { behaviour: 'ignore-term', stopTimeoutMs: 500 }));
    const [{ pid } = { pid: 0 }] = await healthy(supervisor);
    process.kill(pid, 'SIGKILL');
    // Without a turn of the event loop Node cannot have seen it.
    while (!reap(pid));
    const stopped = supervisor.stop();
    await expect(supervisor.scale({ gateway: 2 })).rejects.toThrow('the stack is stopping');
    await expect(supervisor.restart('gateway')).rejects.toThrow('the stack is stopping');
    expect(() => supervisor.leave()).toThrow('the stack is stopping');
    await stopped;
    expect(supervisor.report()).toEqual([]);
  });

  it('scales up and down, and remembers how many there are to be', async () => {
    const supervisor = await supervise(service('gateway'));
    await healthy(supervisor);
    await supervisor.scale({ gateway: 3 });
    expect((await healthy(supervisor)).length).toBe(3);
    expect(readState(join(root, 'supervisor/state.json'))?.counts.gateway).toBe(3);
    await supervisor.scale({ gateway: 1 });
    expect(supervisor.report().length).toBe(1);
    await expect(supervisor.scale({ nonsense: 1 })).rejects.toThrow('no such service: nonsense');
  });

  it('lets one that leaves end what it does, whoever minds it meanwhile', async () => {
    const first = await supervise(service('gateway', { count: 2, behaviour: 'drain' }));
    const [kept, leaving] = await healthy(first);
    await first.scale({ gateway: 1 });
    expect(first.report().map(({ pid, healthy, draining }) => ({ pid, healthy, draining }))).toEqual([
      { pid: kept?.pid, healthy: true, draining: false },
      { pid: leaving?.pid, healthy: false, draining: true },
    ]);
    expect(first.healthy).toBe(true);
    first.leave();
    const second = await supervise(service('gateway', { behaviour: 'drain' }));
    await healthy(second);
    expect(second.report().map(({ pid, draining }) => [pid, draining])).toEqual([
      [kept?.pid, false],
      [leaving?.pid, true],
    ]);
    writeFileSync(`${leaving?.callSockets[0]}.idle`, '');
    await waitFor(() => second.report().length === 1, { what: 'the other one to be gone' });
    expect(second.report()[0]?.pid).toBe(kept?.pid);
  }, 30_000);

  it('restarts a service into a new process', async () => {
    const supervisor = await supervise(service('gateway'));
    const [before] = await healthy(supervisor);
    await supervisor.restart('gateway');
    const [after] = await healthy(supervisor);
    expect(after?.pid).not.toBe(before?.pid);
  });

  it('takes over what another one left, and replaces what does something else', async () => {
    const first = await supervise(service('gateway'), service('image-service'));
    const before = await healthy(first);
    await pause(20);
    // The first one's notes are all that a killed supervisor leaves; its object goes on, blind, until the end of the test.
    const second = await supervise(service('gateway'), service('image-service', { digest: 'd2' }));
    await healthy(second);
    const pid = (reports: ProcessReport[], name: string): number => reports.find((item) => item.service === name)?.pid ?? 0;
    expect(pid(second.report(), 'gateway')).toBe(pid(before, 'gateway'));
    expect(pid(second.report(), 'image-service')).not.toBe(pid(before, 'image-service'));
    // What is replaced serves until its successor is healthy.
    expect(lines.filter((line) => line.message === 'adopted').map((line) => line.process)).toEqual(['gateway', 'image-service']);
  });

  it('replaces as many as there are to be, whichever die meanwhile', async () => {
    const first = await supervise(service('gateway', { count: 2 }));
    const before = await healthy(first);
    await pause(20);
    const taking = supervise(service('gateway', { count: 2, digest: 'd2' }));
    while (!lines.some(({ replaces }) => replaces !== undefined)) await pause(5);
    const waiting = before.find(({ instance }) => !lines.some(({ replaces }) => replaces === instance));
    process.kill(waiting?.pid ?? 0, 'SIGKILL');
    const second = await taking;
    expect((await healthy(second)).map(({ outdated }) => outdated)).toEqual([false, false]);
  });
});

describe('an identity', () => {
  it('is a pid with its start time, so that a pid used again is not taken for it', () => {
    expect(isAlive({ pid: process.pid, startTime: '1' })).toBe(false);
  });
});
