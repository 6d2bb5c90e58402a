/**
 * Whose an exec is, as its directory tells: which instance starts and follows it, and, where that was gone in the middle of the start, what has come of it. The
 * directory comes into being whole, by a rename that only one can win, and goes by another: no exec is started twice, nor followed by two.
 */
import { closeSync, constants, existsSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Conflict } from '@flotilla/errors';
import { hasCode, kill, tryLockFile } from '@flotilla/syscalls';
import { isMakerAlive, newNameByMaker } from './madeBy.ts';
import type { Monitored } from './monitor.ts';
import type { Paths } from './paths.ts';
import { processesNaming } from './processes.ts';
import { readPid } from './startedRun.ts';

const firstPauseMs = 20;
const longestPauseMs = 500;
/** Looks so close together share one: below the shortest pause, so that two looks of one exec are two. */
const sharedMs = 15;
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

/** The processes that start execs. To look for them is to read all of /proc, and many execs may have been cut off at once. */
export class StartingExecs {
  private readonly directory: string;
  private found = new Map<string, number[]>();
  private foundAtMs = Number.NEGATIVE_INFINITY;

  constructor(paths: Pick<Paths, 'execs'>) {
    this.directory = paths.execs;
  }

  of(execId: string): readonly number[] {
    if (performance.now() - this.foundAtMs > sharedMs) {
      this.foundAtMs = performance.now();
      this.found = processesNaming(this.directory);
    }
    return this.found.get(execId) ?? [];
  }
}

/**
 * What has come of a start whose instance is gone: waits until its runtime is done.
 *
 * @param deadlineMs - what is busy with it for longer is killed.
 * @returns its processes, which may have ended by now; `failed` when nothing came up; `untouched` when it had not got so far.
 */
export async function findBegunExec(
  paths: ExecPaths,
  starting: StartingExecs,
  { id, containerId }: { readonly id: string; readonly containerId: string },
  deadlineMs: number = decideDeadlineMs,
): Promise<Monitored | 'failed' | 'untouched'> {
  const directory = paths.execDirectory(id);
  if (!existsSync(processFile(directory))) return 'untouched';
  const deadline = Date.now() + deadlineMs;
  for (let quiet = 0, pauseMs = firstPauseMs; ; pauseMs = Math.min(2 * pauseMs, longestPauseMs)) {
    // Before the look at the files: who has gone by then has written them.
    const busy = starting.of(id);
    const pid = readPid(join(directory, 'pid'));
    const monitorPid = readPid(join(directory, 'monitor.pid'));
    if (pid !== undefined && monitorPid !== undefined) return { pid, monitorPid };
    if (existsSync(join(directory, 'exit', containerId))) return { pid: pid ?? 0, monitorPid: monitorPid ?? 0 };
    // conmon forks while it starts: a look may miss the one that has just come for the one that has just gone.
    quiet = busy.length === 0 ? quiet + 1 : 0;
    if (quiet > 1) return 'failed';
    if (Date.now() > deadline) for (const each of busy) kill(each, 9);
    await pause(pauseMs);
  }
}
