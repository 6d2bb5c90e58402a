/**
 * Streams of container-service that outlast the instance that serves them. What follows a log goes on at the next one, behind the last byte that was passed on;
 * an exec's output has no such place to return to, so its client is told, and never takes a part for the whole.
 */

import type { Duplex } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import type { AttachContainerRequest, ContainerLogsRequest } from '@flotilla/contracts/flotilla/container/v1/containers';
import { isNotFound } from '@flotilla/errors';
import { frame, stderr, type Ticket } from '@flotilla/streams';
import { type Backends, read } from '../backends.ts';
import { promised, redeem } from './transfer.ts';

export interface OpenStream {
  readonly stream: Duplex;
  readonly tty: boolean;
}

const lookMs = 250;

export async function openAttach(
  containers: Backends['containers'],
  asked: Omit<AttachContainerRequest, 'cursor'>,
  signal: AbortSignal,
): Promise<OpenStream> {
  const { ticket, tty } = await containers.attach(asked, { signal });
  const resume = async (cursor: string) => promised((await containers.attach({ ...asked, cursor }, { signal })).ticket);
  const lastWords = async () => notice('the attachment was lost with container-service, and could not be resumed', tty);
  return { stream: await redeem(ticket, signal, { resume, lastWords }), tty };
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
  return { stream: await redeem(ticket, signal, { resume }), tty };
}

/** @param ticket - of the exec's stream, as its start gave it. */
export async function openExec(
  execs: Backends['execs'],
  exec: string,
  { ticket, tty }: { ticket?: Ticket | undefined; tty: boolean },
  signal: AbortSignal,
): Promise<OpenStream> {
  const lastWords = async () => {
    // Its client asks for the exit code when the stream has ended.
    await whenEnded(execs, exec, signal);
    return notice('container-service was restarted: what this exec wrote since then is not shown', tty);
  };
  return { stream: await redeem(ticket, signal, { lastWords }), tty };
}

async function whenEnded(execs: Backends['execs'], exec: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    try {
      const { execJson } = await execs.inspect({ exec }, { ...read, signal });
      if (!(JSON.parse(Buffer.from(execJson).toString('utf8')) as { Running: boolean }).Running) return;
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
