/**
 * A start, as its bundle tells of it. What the record will say is written beside the OCI configuration before the runtime may begin; whoever finds the bundle of a start
 * that was cut off learns from it, and from what conmon and the runtime have left, whether the container runs.
 */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { NetworkSettings } from '@flotilla/engine-api';
import { nowNano } from './clock.ts';
import type { Run } from './container.ts';
import type { Monitored } from './monitor.ts';
import type { Paths } from './paths.ts';
import { processesNaming, startTimeOf } from './processes.ts';

/** What is known of a run before its processes are. */
export interface BegunRun {
  readonly run: Omit<Run, 'id' | keyof Monitored | 'pidStart' | 'monitorStart'>;
  readonly byPolicy: boolean;
  readonly networkSettings?: NetworkSettings;
  readonly apparmorProfile?: string;
}

/** A run that has come up. */
export interface StartedRun extends Monitored {
  readonly begun: BegunRun;
  readonly atNano: bigint;
}

const firstPauseMs = 5;
const longestPauseMs = 100;
/** As long as a start waits for its runtime. */
const decideDeadlineMs = 120_000;

const fileIn = (bundle: string): string => join(bundle, 'begun.json');

/** To be called before the bundle is complete. */
export function writeBegunRun(bundle: string, begun: BegunRun): void {
  writeFileSync(fileIn(bundle), JSON.stringify(begun));
}

/** The run as the record has it. */
export function runOf({ begun, pid, monitorPid, atNano }: StartedRun): Run {
  return {
    ...begun.run,
    id: `${pid}-${atNano}`,
    pid,
    pidStart: startTimeOf(pid) ?? '',
    monitorPid,
    monitorStart: startTimeOf(monitorPid) ?? '',
  };
}

/**
 * What has come of a start that nobody waits for: waits until its runtime is done. The caller holds the container's lease.
 *
 * @returns undefined when nothing came up, or nobody is left who could tell how it ends.
 */
export async function findStartedRun(paths: Paths, id: string, bootId: string): Promise<StartedRun | undefined> {
  const bundle = paths.bundle(id);
  const begun = readBegunRun(bundle);
  if (begun?.run.bootId !== bootId) return undefined;
  const deadline = Date.now() + decideDeadlineMs;
  let wasQuiet = false;
  for (let pauseMs = firstPauseMs; Date.now() < deadline; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
    // Before the look at the exit file: who has gone by then has written it.
    const busy = processesNaming(paths.runs).get(id) ?? [];
    const pid = readPid(join(bundle, 'pid'));
    const monitorPid = readPid(join(bundle, 'monitor.pid'));
    if (pid !== undefined && monitorPid !== undefined) {
      const started = { begun, pid, monitorPid, atNano: writtenAt(join(bundle, 'pid')) };
      if (existsSync(paths.exit(id))) return started;
      // conmon is left alone with the process: the runtime has done its part.
      const alone = busy.includes(monitorPid) && busy.every((each) => each === monitorPid || each === pid);
      if (alone && startTimeOf(pid) !== undefined) return started;
    }
    // conmon forks while it starts: a look may miss the one that has just come for the one that has just gone.
    if (busy.length === 0 && wasQuiet) return undefined;
    wasQuiet = busy.length === 0;
    await pause(pauseMs);
  }
  return undefined;
}

function readBegunRun(bundle: string): BegunRun | undefined {
  try {
    return JSON.parse(readFileSync(fileIn(bundle), 'utf8')) as BegunRun;
  } catch {
    // Cut off before there was one, or in the middle of writing it.
    return undefined;
  }
}

/** A process id that conmon or a runtime has written; undefined while it has not. */
export function readPid(path: string): number | undefined {
  try {
    const pid = Number.parseInt(readFileSync(path, 'utf8'), 10);
    return Number.isNaN(pid) ? undefined : pid;
  } catch {
    return undefined;
  }
}

function writtenAt(path: string): bigint {
  return statSync(path, { bigint: true, throwIfNoEntry: false })?.mtimeNs ?? nowNano();
}
