/**
 * Streams of container-service that outlast the instance that serves them. What follows a log goes on at the next one, behind the last byte that was passed on;
 * an exec's output has no such place to return to, so its client is told, and never takes a part for the whole.
 */

import type { Duplex } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import type {
  AttachContainerRequest,
  ContainerLogsRequest,
  StartExecRequest,
  StatsContainerRequest,
  StatsContainerResponse,
} from '@flotilla/contracts/flotilla/container/v1/containers';
import { Conflict, isNotFound, isUnavailable } from '@flotilla/errors';
import { frame, stderr } from '@flotilla/streams';
import { type Backends, long, read } from '../backends.ts';
import { promised, redeem } from './transfer.ts';

export interface OpenStream {
  readonly stream: Duplex;
  readonly tty: boolean;
}

const lookMs = 250;
/** How long an exec may take to run. */
const startPatienceMs = 10_000;
/** How long container-service may be away before samples end. */
const patienceMs = 60_000;

export async function openAttach(
  containers: Backends['containers'],
  asked: Omit<AttachContainerRequest, 'cursor'>,
  signal: AbortSignal,
): Promise<OpenStream> {
  const begin = () => containers.attach(asked, { ...read, signal });
  const { ticket, tty } = await begin();
  const resume = async (cursor: string) => promised((await containers.attach({ ...asked, cursor }, { signal })).ticket);
  const restart = async () => promised((await begin()).ticket);
  const lastWords = async () => notice('the attachment was lost with container-service, and could not be resumed', tty);
  return { stream: await redeem(ticket, signal, { resume, restart, lastWords }), tty };
}

/** A log: what is short comes whole. */
export async function openLogs(
  containers: Backends['containers'],
  asked: Omit<ContainerLogsRequest, 'cursor' | 'mayBeWhole'>,
  signal: AbortSignal,
): Promise<OpenStream | { readonly whole: Uint8Array; readonly tty: boolean }> {
  const { ticket, tty, whole } = await containers.logs({ ...asked, mayBeWhole: true }, { signal, idempotent: true });
  if (whole !== undefined) return { whole, tty };
  const again = { ...asked, mayBeWhole: false };
  const resume = async (cursor: string) => promised((await containers.logs({ ...again, cursor }, { signal })).ticket);
  const restart = async () => promised((await containers.logs(again, { signal })).ticket);
  return { stream: await redeem(ticket, signal, { resume, restart }), tty };
}

/** Samples of a container's use, once or for as long as the client stays. */
export async function* openStats(
  containers: Backends['containers'],
  asked: StatsContainerRequest,
  signal: AbortSignal,
): AsyncGenerator<StatsContainerResponse> {
  let heardAtMs: number | undefined;
  for (;;) {
    try {
      for await (const sample of containers.stats(asked, { signal })) {
        heardAtMs = performance.now();
        yield sample;
      }
      return;
    } catch (error) {
      const mayComeBack = asked.stream && heardAtMs !== undefined && performance.now() - heardAtMs < patienceMs;
      if (!mayComeBack || !isUnavailable(error) || signal.aborted) throw error;
    }
    await pause(lookMs);
  }
}

/** Starts an exec and opens its stream. What was cut off before it had begun is started again; of what had begun the rest of its output is lost, and that is said. */
export async function openExec(execs: Backends['execs'], asked: StartExecRequest, signal: AbortSignal): Promise<OpenStream> {
  const { exec } = asked;
  const start = () => execs.start(asked, { ...long, ...read, signal });
  const restart = async () => {
    const { Running, ExitCode } = await stateOf(execs, exec, signal);
    if (Running || ExitCode !== null) throw new Conflict(`exec ${exec} has begun`);
    return promised((await start()).ticket);
  };
  const lastWords = async () => {
    // Its client asks for the exit code when the stream has ended.
    await whenEnded(execs, exec, signal);
    return notice('container-service was restarted: what this exec wrote since then is not shown', asked.tty);
  };
  const { ticket, tty } = await start();
  return { stream: await redeem(ticket, signal, { restart, lastWords }), tty };
}

interface ExecState {
  readonly Running: boolean;
  readonly ExitCode: number | null;
}

async function stateOf(execs: Backends['execs'], exec: string, signal: AbortSignal): Promise<ExecState> {
  const { execJson } = await execs.inspect({ exec }, { ...read, signal });
  return JSON.parse(Buffer.from(execJson).toString('utf8')) as ExecState;
}

async function whenEnded(execs: Backends['execs'], exec: string, signal: AbortSignal): Promise<void> {
  const begunUntil = Date.now() + startPatienceMs;
  for (;;) {
    try {
      const { Running, ExitCode } = await stateOf(execs, exec, signal);
      // Only the link to its instance may have broken, while that was starting it.
      const mayBegin = ExitCode === null && Date.now() < begunUntil;
      if (!Running && !mayBegin) return;
    } catch (error) {
      if (isNotFound(error) || signal.aborted) return;
    }
    await pause(lookMs);
  }
}

function notice(text: string, tty: boolean): Buffer {
  const line = Buffer.from(`flotilla: ${text}\r\n`);
  return tty ? line : frame(stderr, line);
}
