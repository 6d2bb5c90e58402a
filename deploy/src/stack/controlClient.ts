/** Talks to a running supervisor through its control socket. */
import { connect } from 'node:net';
import { Unavailable } from '@flotilla/errors/classes';
import type { ControlLine, ControlRequest } from '../supervisor/control.ts';
import type { ProcessReport, Renewal } from '../supervisor/supervisor.ts';
import type { ProcessName } from './services.ts';

export interface StackReport {
  readonly pid: number;
  readonly version: string;
  readonly healthy: boolean;
  readonly renewal: Renewal;
  readonly counts: Readonly<Partial<Record<ProcessName, number>>>;
  /** Starts in a row that ended early, of processes that do not stay up. */
  readonly failures: Readonly<Partial<Record<ProcessName, number>>>;
  readonly processes: readonly ProcessReport[];
}

const closed = 'the supervisor closed the connection';
/** It answers at once; one that is starved, or stopped by a signal, is not waited for without end. */
const reportMs = 15_000;

/**
 * Sends one request and waits for its answer.
 *
 * @param timeoutMs - how long nothing may come.
 * @throws Unavailable when no supervisor listens; Error with the supervisor's words when it refuses.
 */
export function callSupervisor(
  path: string,
  request: ControlRequest,
  onProgress: (line: string) => void = () => undefined,
  timeoutMs = 0,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => socket.write(`${JSON.stringify(request)}\n`));
    socket.setTimeout(timeoutMs, () => {
      reject(new Unavailable(`the supervisor does not answer within ${timeoutMs / 1000} s`));
      socket.destroy();
    });
    let text = '';
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') reject(new Unavailable('flotilla is not running', { cause: error }));
      else if (error.code === 'ECONNRESET' || error.code === 'EPIPE') reject(new Unavailable(closed, { cause: error }));
      else reject(error);
    });
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        const line = JSON.parse(text.slice(0, end)) as ControlLine;
        text = text.slice(end + 1);
        if ('progress' in line) onProgress(line.progress);
        else if ('error' in line) reject(new Error(line.error));
        else resolve(line.result);
      }
    });
    socket.on('close', () => reject(new Unavailable(closed)));
  });
}

export async function askReport(path: string): Promise<StackReport> {
  return (await callSupervisor(path, { command: 'ps' }, undefined, reportMs)) as StackReport;
}
