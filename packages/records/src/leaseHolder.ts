/**
 * Who holds a lease: this process, told from any other of this machine by boot, pid namespace, pid and start time. A lease of a process that has died is not
 * waited for: whoever sees that takes it away. Of a holder on another machine or in another container nothing can be known, and its lease runs out by itself.
 */
import { readFileSync, readlinkSync } from 'node:fs';

function startOf(pid: string): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The command in parentheses may hold anything; fields are counted behind its end.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return '';
  }
}

/** Where pids mean what they mean here; empty where /proc does not say it. */
function pidNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return '';
  }
}

/** `<boot>/<pid namespace>/<pid>/<start>` of this process. */
export function thisHolder(): string {
  return `${bootId()}/${pidNamespace()}/${process.pid}/${startOf(`${process.pid}`) ?? ''}`;
}

/** Whether the holder named in a lease's value (`<token>@<holder>`) ran where this process would see it, and is gone. */
export function isGone(value: string): boolean {
  const [boot = '', namespace = '', pid = '', start = ''] = value.slice(value.indexOf('@') + 1).split('/');
  if (boot === '' || namespace === '' || boot !== bootId() || namespace !== pidNamespace()) return false;
  return /^\d+$/.test(pid) && startOf(pid) !== start;
}
