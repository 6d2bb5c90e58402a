/** The record of an exec: an additional process in a running container. */
import type { ExecConfig } from '@flotilla/engine-api';

export interface ExecRecord {
  /** 64 hex digits. */
  readonly id: string;
  readonly containerId: string;
  /** the run it belongs to; it is gone when the container runs anew. */
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
