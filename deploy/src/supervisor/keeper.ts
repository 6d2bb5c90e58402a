/** The keeper of a compact stack (deploy/keeper.sh), seen from another process. */
import { readFileSync } from 'node:fs';
import type { StackPaths } from '../stack/paths.ts';
import { type ProcessIdentity, sendSignal, startTimeOf, waitGone } from './process.ts';
import { readState } from './state.ts';

/** It may be between two processes, or have one that is still starting: then it lives, and nobody answers. A pause between two starts ends before its own end. */
const endMs = 10_000;

/** The one that keeps this stack; undefined when there is none. */
export function keeperOf(paths: StackPaths): ProcessIdentity | undefined {
  const pid = readState(paths.state)?.supervisorPid ?? 0;
  const startTime = startTimeOf(pid);
  const words = commandOf(pid);
  const isOurs = words.some((word) => word.endsWith('/keeper.sh')) && words.includes(paths.plan);
  return startTime !== undefined && isOurs ? { pid, startTime } : undefined;
}

function commandOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return [];
  }
}

/** Ends the keeper, and nothing that it keeps: what serves goes on until another supervisor takes over. Answers whether there is none any more. */
export async function endKeeper(paths: StackPaths): Promise<boolean> {
  const keeper = keeperOf(paths);
  if (keeper === undefined) return true;
  sendSignal(keeper, 'SIGUSR1');
  return waitGone(keeper, endMs);
}
