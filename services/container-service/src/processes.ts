/** Processes of the host as /proc shows them: whether one still is the one we knew, and signals that cannot hit another. */
import { closeSync, constants, openSync, readdirSync, readFileSync } from 'node:fs';
import { hasCode, openPath } from '@flotilla/syscalls';

/** This boot of the machine; processes of another boot are gone whatever their numbers say. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** Start time of a process in clock ticks since boot; undefined when there is none, or only its zombie. */
export function startTimeOf(pid: number): string | undefined {
  return statOf(pid)?.start;
}

function statOf(pid: number): { readonly start: string; readonly memoryBytes: number } | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  // The command in parentheses may hold spaces and parentheses itself: fields are counted behind the last one.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state = 'X', start = '', memory] = [fields[0], fields[19], fields[20]];
  return state === 'Z' || state === 'X' ? undefined : { start, memoryBytes: Number(memory) };
}

/** Whether the process with that number is still the one that started then. */
export function isAlive(pid: number, start: string): boolean {
  return pid > 0 && startTimeOf(pid) === start;
}

/**
 * Whether it is alive and not about to go: who was killed loses its memory first, then its connections, and may be seen a moment longer. So whoever has seen one
 * of these close knows by this whether it was the process' end.
 */
export function isAtWork(pid: number, start: string): boolean {
  const stat = pid > 0 ? statOf(pid) : undefined;
  return stat !== undefined && stat.start === start && stat.memoryBytes > 0;
}

/**
 * A descriptor of what a process has as its root, which the caller closes; undefined when the process is gone. By a path with its number in it one could
 * come to another process' root later, which may be the host's.
 */
export function openProcessRoot(pid: number, start: string): number | undefined {
  let root: number;
  try {
    root = openSync(`/proc/${pid}/root`, constants.O_DIRECTORY | openPath);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
  // Looked at afterwards: whoever lives now had that number when it was opened.
  if (isAlive(pid, start)) return root;
  closeSync(root);
  return undefined;
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

/**
 * The processes whose command line names a path below `directory`, by the name that follows it: conmon and the OCI runtime while they start a container name its
 * bundle.
 */
export function processesNaming(directory: string): Map<string, number[]> {
  const found = new Map<string, number[]>();
  const prefix = `${directory}/`;
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    let command: string;
    try {
      command = readFileSync(`/proc/${entry}/cmdline`, 'latin1');
    } catch {
      continue;
    }
    const at = command.indexOf(prefix);
    if (at < 0) continue;
    const name = /^[^/\0]+/.exec(command.slice(at + prefix.length))?.[0] ?? '';
    found.set(name, [...(found.get(name) ?? []), Number(entry)]);
  }
  return found;
}
