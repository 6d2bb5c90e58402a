/** Processes of the host as /proc shows them: whether one still is the one we knew, and signals that cannot hit another. */
import { readFileSync } from 'node:fs';

/** This boot of the machine; processes of another boot are gone whatever their numbers say. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** Start time of a process in clock ticks since boot; undefined when there is none, or only its zombie. */
export function startTimeOf(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  // The command in parentheses may hold spaces and parentheses itself: fields are counted behind the last one.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const state = fields[0];
  return state === 'Z' || state === 'X' ? undefined : fields[19];
}

/** Whether the process with that number is still the one that started then. */
export function isAlive(pid: number, start: string): boolean {
  return pid > 0 && startTimeOf(pid) === start;
}

/** Sends a signal; false when the process is gone. */
export function signalProcess(pid: number, start: string, signal: number): boolean {
  if (!isAlive(pid, start)) return false;
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}
