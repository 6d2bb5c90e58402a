/** What arguments of ps show and what they do not, with the real ps and a process of the test's own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ContainerRecord } from './container.ts';
import { type Top, topOf } from './top.ts';

let child: ChildProcess;
beforeAll(() => {
  child = spawn('sleep', ['600'], { stdio: 'ignore' });
});
afterAll(() => {
  child.kill();
});

function top(psArguments: string): Promise<Top> {
  const container = { id: 'x', state: { status: 'running', run: {} } } as ContainerRecord;
  return topOf(container, psArguments, () => [child.pid ?? 0]);
}

describe('ps arguments', () => {
  it.each([
    '',
    '-ef',
    'aux',
    'axf',
    '-o pid,cmd',
    '-opid,cmd',
    'o pid,cmd',
    'eopid,cmd',
    '--format pid,cmd',
    '-o pid=PID,cmd',
    '-C sleep',
    'aux --sort pid',
  ])('%s: one process, and no other', async (psArguments) => {
    const { titles, processes } = await top(psArguments);
    expect(processes).toHaveLength(1);
    expect(processes[0]).toHaveLength(titles.length);
    expect(processes[0]?.[titles.indexOf('PID')]).toBe(`${child.pid}`);
  });

  it.each([
    ['-o cmd', "Couldn't find PID field in ps output"],
    ['--no-headers', "Couldn't find PID field in ps output"],
    ['-o uid=PID,cmd', 'specifying "uid=PID,cmd" is not allowed'],
    ['-o', 'ps: error: '],
    ['--nonsense', 'ps: error: unknown gnu long option'],
  ])('%s: %s', async (psArguments, message) => {
    await expect(top(psArguments)).rejects.toThrow(message);
  });
});
