/** The record of an exec: an additional process in a running container. */
import type { ExecConfig } from '@flotilla/engine-api';
import { Conflict } from '@flotilla/errors';
import { assertRunning, type ContainerRecord, type Run } from './container.ts';

export interface ExecRecord {
  /** 64 hex digits. */
  readonly id: string;
  readonly containerId: string;
  /** the run it belongs to: it can be started in no other, and is forgotten at the end of the one that follows. */
  readonly runId: string;
  readonly config: ExecConfig;
  readonly state: 'created' | 'running' | 'exited';
  /** null until it has ended. */
  readonly exitCode: number | null;
  readonly pid: number;
  readonly pidStart: string;
  readonly monitorPid: number;
  readonly monitorStart: string;
}

/**
 * The run that an exec may join.
 *
 * @param reference - how the client named the container.
 * @throws Conflict when it does not run, or is paused.
 */
export function requireReady(container: ContainerRecord, reference: string = container.id): Run {
  if (container.state.status === 'restarting')
    throw new Conflict(`Container ${container.id} is restarting, wait until the container is running`);
  if (container.state.status === 'paused') throw new Conflict(`Container ${reference} is paused, unpause the container before exec`);
  return assertRunning(container);
}

/** What an exec runs, as events tell it. */
export function commandText(command: readonly string[] | null | undefined): string {
  const [program = '', ...args] = command ?? [];
  return `${program} ${args.join(' ')}`;
}
