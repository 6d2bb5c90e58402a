/** What runs, on disk: how a new supervisor finds the processes of one that was killed. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { ListenerName } from '../stack/plan.ts';
import type { ProcessName } from '../stack/services.ts';

export interface ProcessState {
  readonly name: ProcessName;
  readonly instance: string;
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: with the pid it names one process for ever. */
  readonly startTime: string;
  readonly startedAt: string;
  readonly restarts: number;
  readonly digest: string;
  readonly version: string;
  readonly address: string;
  readonly sockets: readonly string[];
  readonly stopStage: number;
  readonly stopTimeoutMs: number;
  /** Takes nothing new, and ends when nothing is under way in it. */
  readonly draining?: boolean;
}

export interface StackState {
  readonly supervisorPid: number;
  readonly engineId: string;
  /** Port of the stack's own nats-server. */
  readonly natsPort: number | undefined;
  readonly listeners: readonly { readonly name: ListenerName; readonly address: string; readonly inode: number }[];
  readonly processes: readonly ProcessState[];
  /** Wanted replicas. */
  readonly counts: Readonly<Partial<Record<ProcessName, number>>>;
}

export function writeState(path: string, state: StackState): void {
  writeFileSync(`${path}.new`, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** The last state, or undefined where there is none that can be read. */
export function readState(path: string): StackState | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as StackState;
  } catch {
    return undefined;
  }
}
