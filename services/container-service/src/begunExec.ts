/**
 * An exec that is being started, as its directory tells of it: who starts it, and, where that instance is gone, what has come of it. The directory comes into
 * being whole, by a rename that only one can win: no exec is started twice.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Conflict } from '@flotilla/errors';
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
