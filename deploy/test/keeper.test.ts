/** deploy/keeper.sh with a shell in the place of a compact stack's process, and how such a process is ended when it hangs. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitFor } from '@flotilla/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { statOf } from '../src/supervisor/process.ts';

const keeper = join(import.meta.dirname, '../keeper.sh');
const hangs = join(import.meta.dirname, 'standIn/hangs.ts');

let directory: string;
let running: ChildProcess[];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'flotilla-keeper-'));
  running = [];
});
afterEach(() => {
  for (const pid of [...running.map((child) => child.pid), ...pids()]) {
    try {
      process.kill(pid ?? 0, 'SIGKILL');
    } catch {
      // It has ended.
    }
  }
  rmSync(directory, { recursive: true, force: true });
});

/** What the process' shell has written, one word a line. */
function said(name: string): string[] {
  const path = join(directory, name);
  return existsSync(path) ? readFileSync(path, 'utf8').split('\n').slice(0, -1) : [];
}

/** Of every process that the keeper has started: $1 is the plan, $2 the keeper, $3 the failures. */
const pids = (): number[] => said('pids').map(Number);
const failures = (): string[] => said('failures');

/** @param script - of the process. */
function keep(script: string): { child: ChildProcess; end: Promise<number | null> } {
  const whole = `cd ${directory}; echo $3 >> failures; echo $$ >> pids; ${script}`;
  const child = spawn('sh', [keeper, join(directory, 'log'), 'plan', 'sh', '-c', whole, 'sh'], { stdio: ['ignore', 'pipe', 'inherit'] });
  running.push(child);
  return { child, end: new Promise((resolve) => child.once('exit', resolve)) };
}

const started = (count: number) => waitFor(() => pids().length >= count, { timeoutMs: 20_000, what: `start ${count}` });

describe('a keeper', () => {
  it('starts its process again when it dies, at once the first time and then later and later, and says how often', async () => {
    keep('exec sleep 60');
    for (let count = 1; count < 4; count++) {
      await started(count);
      process.kill(pids().at(-1) ?? 0, 'SIGKILL');
      if (count === 1) await started(2);
    }
    await started(4);
    expect(failures()).toEqual(['0', '1', '2', '3']);
  }, 30_000);

  it('ends with its process when the stack is down, and passes signals on', async () => {
    const { child, end } = keep('trap "echo hup >> signals" HUP; trap "echo term >> signals; exit 0" TERM; while :; do sleep 0.1; done');
    await started(1);
    await waitFor(() => (statOf(pids()[0] ?? 0)?.state ?? '') !== '');
    await waitFor(
      () => {
        child.kill('SIGHUP');
        return said('signals').includes('hup');
      },
      { what: 'the signal' },
    );
    child.kill('SIGTERM');
    expect(await end).toBe(0);
    expect(said('signals').at(-1)).toBe('term');
    expect(pids()).toHaveLength(1);
  }, 30_000);

  it('leaves its process alone when that says so', async () => {
    const { end } = keep('kill -USR1 $2; exec sleep 60');
    expect(await end).toBe(0);
    expect(statOf(pids()[0] ?? 0)).toBeDefined();
  });

  it('ends with what it cannot go on with when it is to stop', async () => {
    const { child, end } = keep('exec sleep 60');
    await started(1);
    child.kill('SIGTERM');
    expect(await end).toBe(128 + 15);
  });

  it("keeps the supervisor's lines apart from the services'", async () => {
    const { child, end } = keep('echo service; echo error >&2; echo supervisor >&0');
    let text = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    expect(await end).toBe(0);
    expect([text, said('log')]).toEqual(['supervisor\n', ['service', 'error']]);
  });
});

describe('a process whose loop hangs', () => {
  it.each(['block', 'spin'])('is ended by the kernel: %s', async (how) => {
    const child = spawn(process.execPath, [hangs, how], { stdio: 'ignore' });
    running.push(child);
    expect(await new Promise((resolve) => child.once('exit', (_code, signal) => resolve(signal)))).toBe('SIGALRM');
  });

  it('is not meant where the loop turns, nor in what it starts', async () => {
    const child = spawn(process.execPath, [hangs, 'turn'], { stdio: 'ignore' });
    running.push(child);
    expect(await new Promise((resolve) => child.once('exit', (code, signal) => resolve(signal ?? code)))).toBe(0);
  });
});
