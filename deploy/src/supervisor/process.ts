/** Processes by pid and start time, whoever their parent is: alive, gone, stopping. */
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { waitpid } from '@flotilla/syscalls';

/** Names one process for ever; a pid alone is used again. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTime: string;
}

export interface ProcessStat {
  /** As the kernel writes it: R runs, S sleeps, D waits for a disk, T was stopped by a signal. */
  readonly state: string;
  /** In clock ticks since boot. */
  readonly startTime: string;
  /** Processor time of all its threads, in clock ticks. */
  readonly cpuTicks: number;
}

/** What the kernel says of a living process; undefined when there is none (a zombie is none). */
export function statOf(pid: number): ProcessStat | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name may hold spaces and parentheses: fields are counted from the last one.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const [state = '', startTime = ''] = [fields[0], fields[19]];
    return state === 'Z' || state === 'X' ? undefined : { state, startTime, cpuTicks: Number(fields[11]) + Number(fields[12]) };
  } catch {
    return undefined;
  }
}

export function startTimeOf(pid: number): string | undefined {
  return statOf(pid)?.startTime;
}

export function isAlive(identity: ProcessIdentity): boolean {
  return startTimeOf(identity.pid) === identity.startTime;
}

/**
 * Lets a process that has ended go for good where it is a child of this one all the same: what this process started before it was made another supervisor.
 *
 * @returns false while its threads are still ending: it has to be tried again.
 */
export function reap(pid: number): boolean {
  try {
    return waitpid(pid) !== undefined;
  } catch {
    // Somebody else's, or gone.
    return true;
  }
}

export function sendSignal(identity: ProcessIdentity, signal: NodeJS.Signals): void {
  if (!isAlive(identity)) return;
  try {
    process.kill(identity.pid, signal);
  } catch {
    // Gone between the look and the call.
  }
}

/** Whether a process has a handler of its own for a signal, which would end it otherwise. */
export function catches({ pid }: ProcessIdentity, signal: NodeJS.Signals): boolean {
  try {
    const mask = /^SigCgt:\t([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? '0';
    return ((BigInt(`0x${mask}`) >> BigInt(constants.signals[signal] - 1)) & 1n) === 1n;
  } catch {
    return false;
  }
}

/** Waits until a process is gone; false when it is still there at the deadline. */
export async function waitGone(identity: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const end = Date.now() + timeoutMs;
  for (let waitMs = 5; isAlive(identity); waitMs = Math.min(waitMs * 2, 100)) {
    if (Date.now() >= end) return false;
    await pause(waitMs);
  }
  return true;
}

/** How the end of a process went; `stays`: not even SIGKILL ends it, since it waits in the kernel (a disk or a network file system that does not answer). */
export type StopOutcome = 'stopped' | 'killed' | 'stays';

/** SIGTERM, then SIGKILL at the deadline. */
export async function stopProcess(identity: ProcessIdentity, timeoutMs: number): Promise<StopOutcome> {
  sendSignal(identity, 'SIGTERM');
  if (await waitGone(identity, timeoutMs)) return 'stopped';
  sendSignal(identity, 'SIGKILL');
  return (await waitGone(identity, 5000)) ? 'killed' : 'stays';
}

/** Stops what an earlier supervisor started. */
export async function stopLeft(process: ProcessIdentity & { readonly stopTimeoutMs: number }): Promise<void> {
  await stopProcess(process, process.stopTimeoutMs);
  reap(process.pid);
}
