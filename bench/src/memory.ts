/** What an engine's processes cost: proportional set size, so that shared pages are counted once. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

function namespaceOf(pid: number | 'self', kind: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/${kind}`);
  } catch {
    return undefined;
  }
}

/** Every process in the network namespace of `pid` that is not inside a container (those have a pid namespace of their own). */
export function engineProcesses(pid: number): number[] {
  const network = namespaceOf(pid, 'net');
  const processes = namespaceOf('self', 'pid');
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((candidate) => namespaceOf(candidate, 'net') === network && namespaceOf(candidate, 'pid') === processes);
}

/** Sum of PSS, MiB. */
export function pssMiB(pids: readonly number[]): number {
  let kib = 0;
  for (const pid of pids) {
    try {
      kib += Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0);
    } catch {
      // It ended while we looked.
    }
  }
  return kib / 1024;
}
