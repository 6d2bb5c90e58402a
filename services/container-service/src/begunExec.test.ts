import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tryLockFile } from '@flotilla/syscalls';
import { waitFor } from '@flotilla/testkit';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { claimExec, findBegunExec, processFile, removeExecFiles, StartingExecs, starterOf, takeOverExec } from './begunExec.ts';
import { Paths } from './paths.ts';

let root: string;
let paths: Paths;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'begun-exec-'));
  paths = new Paths(join(root, 'data'), join(root, 'exec'));
});
afterEach(() => rmSync(root, { recursive: true }));

it('an exec is started once', () => {
  claimExec(paths, 'e');
  expect(() => claimExec(paths, 'e')).toThrow('exec e is already running');
  expect(readdirSync(paths.execs)).toEqual(['e']);
  expect(existsSync(join(paths.execDirectory('e'), 'exit'))).toBe(true);
});

it('whose instance is gone is known', () => {
  expect(starterOf(paths, 'e')).toBe('nobody');
  claimExec(paths, 'e');
  expect(starterOf(paths, 'e')).toBe('an instance');
  writeFileSync(join(paths.execDirectory('e'), 'maker'), 'exec-1-0-ab');
  expect(starterOf(paths, 'e')).toBe('one that is gone');
});

it('is taken over once, of an instance that is gone', async () => {
  expect(takeOverExec(paths, 'e')).toBe('nobody');
  claimExec(paths, 'e');
  expect(takeOverExec(paths, 'e')).toBe('theirs');
  writeFileSync(join(paths.execDirectory('e'), 'maker'), 'exec-1-0-ab');
  const other = openSync(paths.execDirectory('e'), 'r');
  tryLockFile(other);
  expect(takeOverExec(paths, 'e')).toBe('theirs');
  closeSync(other);
  expect(takeOverExec(paths, 'e')).toBe('ours');
  expect(starterOf(paths, 'e')).toBe('an instance');
  expect(takeOverExec(paths, 'e')).toBe('theirs');
  await removeExecFiles(paths, 'e');
  await removeExecFiles(paths, 'e');
  expect(takeOverExec(paths, 'e')).toBe('nobody');
  expect(readdirSync(paths.execs)).toEqual([]);
});

it.each([
  ['nothing', [], 'untouched'],
  ['what conmon is to run', ['process.json'], 'failed'],
  ['both processes', ['process.json', 'monitor.pid', 'pid'], { pid: 7, monitorPid: 7 }],
  ['an exit code', ['process.json', 'exit/c'], { pid: 0, monitorPid: 0 }],
])('of a start that was cut off and has left %s', async (_left, files, found) => {
  claimExec(paths, 'e');
  for (const file of files) writeFileSync(join(paths.execDirectory('e'), file), '7\n');
  expect(await findBegunExec(paths, new StartingExecs(paths), { id: 'e', containerId: 'c' })).toEqual(found);
});

it('a start that was cut off and goes on for too long is ended', async () => {
  claimExec(paths, 'e');
  writeFileSync(processFile(paths.execDirectory('e')), '');
  const busy = spawn('sh', ['-c', 'sleep 60; exit', processFile(paths.execDirectory('e'))], { detached: true });
  const ended = once(busy, 'exit');
  const starting = new StartingExecs(paths);
  await waitFor(() => starting.of('e').length > 0, { what: 'it to be busy' });
  try {
    expect(await findBegunExec(paths, starting, { id: 'e', containerId: 'c' }, 50)).toBe('failed');
    expect(await ended).toEqual([null, 'SIGKILL']);
  } finally {
    process.kill(-(busy.pid ?? 0), 'SIGKILL');
  }
});
