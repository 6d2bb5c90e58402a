/**
 * Whose an exec is, as its directory tells: which instance starts and follows it, and, where that was gone in the middle of the start, what has come of it. The
 * directory comes into being whole, by a rename that only one can win, and goes by another: no exec is started twice, nor followed by two.
 */
import { closeSync, constants, existsSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Conflict } from '@flotilla/errors';
import { hasCode, tryLockFile } from '@flotilla/syscalls';
import { isMakerAlive, newNameByMaker } from './madeBy.ts';
import type { Monitored } from './monitor.ts';
import type { Paths } from './paths.ts';
import { processesNaming } from './processes.ts';
import { readPid } from './startedRun.ts';

const lookMs = 20;
/** As long as a start waits for its runtime. */
const decideDeadlineMs = 120_000;

type ExecPaths = Pick<Paths, 'execs' | 'execDirectory'>;

const makerFile = (directory: string): string => join(directory, 'maker');
/** Written last before conmon may start. */
export const processFile = (directory: string): string => join(directory, 'process.json');

/** Makes the directory of an exec that starts now. @throws Conflict when somebody else starts it. */
export function claimExec(paths: ExecPaths, execId: string): void {
  const name = newNameByMaker('exec');
  const making = paths.execDirectory(name);
  mkdirSync(join(making, 'exit'), { recursive: true, mode: 0o700 });
  writeFileSync(makerFile(making), name);
  try {
    renameSync(making, paths.execDirectory(execId));
  } catch (error) {
    rmSync(making, { recursive: true, force: true });
    if (existsSync(paths.execDirectory(execId))) throw new Conflict(`exec ${execId} is already running`, { cause: error });
    throw error;
  }
}

/** Who starts an exec whose record says that it has not begun. */
export function starterOf(paths: ExecPaths, execId: string): 'nobody' | 'an instance' | 'one that is gone' {
  try {
    return isMakerAlive(readFileSync(makerFile(paths.execDirectory(execId)), 'utf8')) ? 'an instance' : 'one that is gone';
  } catch {
    return 'nobody';
  }
}

/**
 * Makes the exec of an instance that is gone this one's. Of several that try one succeeds.
 *
 * @returns `theirs` while an instance that lives has it, this one too; `nobody` when it has no directory.
 */
export function takeOverExec(paths: ExecPaths, execId: string): 'ours' | 'theirs' | 'nobody' {
  let fd: number;
  try {
    fd = openSync(paths.execDirectory(execId), constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return 'nobody';
    throw error;
  }
  try {
    // It may be moved away meanwhile, and another be made in its place.
    const file = makerFile(`/proc/self/fd/${fd}`);
    if (!tryLockFile(fd) || isMakerAlive(readFileSync(file, 'utf8'))) return 'theirs';
    writeFileSync(`${file}.new`, newNameByMaker('exec'));
    renameSync(`${file}.new`, file);
    return 'ours';
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return 'nobody';
    throw error;
  } finally {
    closeSync(fd);
  }
}

/** Takes away the directory of an exec of ours, whole: who looks finds all of it or nothing. */
export async function removeExecFiles(paths: ExecPaths, execId: string): Promise<void> {
  const leaving = paths.execDirectory(newNameByMaker('exec'));
  try {
    renameSync(paths.execDirectory(execId), leaving);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
  // conmon may write into it to its last moment.
  await rm(leaving, { recursive: true, force: true, maxRetries: 8, retryDelay: 25 });
}

/**
 * What has come of a start whose instance is gone: waits until its runtime is done.
 *
 * @returns its processes, which may have ended by now; `failed` when nothing came up; `untouched` when it had not got so far.
 */
export async function findBegunExec(paths: ExecPaths, execId: string, containerId: string): Promise<Monitored | 'failed' | 'untouched'> {
  const directory = paths.execDirectory(execId);
  if (!existsSync(processFile(directory))) return 'untouched';
  const deadline = Date.now() + decideDeadlineMs;
  for (let quiet = 0; Date.now() < deadline; ) {
    // Before the look at the files: who has gone by then has written them.
    const busy = processesNaming(paths.execs).get(execId) ?? [];
    const pid = readPid(join(directory, 'pid'));
    const monitorPid = readPid(join(directory, 'monitor.pid'));
    if (pid !== undefined && monitorPid !== undefined) return { pid, monitorPid };
    if (existsSync(join(directory, 'exit', containerId))) return { pid: pid ?? 0, monitorPid: monitorPid ?? 0 };
    // conmon forks while it starts: a look may miss the one that has just come for the one that has just gone.
    quiet = busy.length === 0 ? quiet + 1 : 0;
    if (quiet > 1) return 'failed';
    await pause(lookMs);
  }
  return 'failed';
}
