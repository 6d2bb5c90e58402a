/** Routes of containers that carry streams: attach, logs, stats, export. */
import type { IncomingMessage } from 'node:http';
import { InvalidParameter } from '@flotilla/errors';
import type { Router } from 'express';
import { type Backends, read } from '../backends.ts';
import { olderThan } from '../http/apiVersion.ts';
import { boolean, text } from '../http/query.ts';
import { clientGone } from '../http/respond.ts';
import { parseTimestamp } from '../http/timestamps.ts';
import { sendStreamError } from '../middleware/errors.ts';
import { hijack, outputType } from '../streams/hijack.ts';
import { openAttach, openLogs, openStats } from '../streams/outlasting.ts';
import { mapMessages, sendLines } from '../streams/progress.ts';
import { redeem, sendRepeatable, sendStream } from '../streams/transfer.ts';
import { checkHandshake, isHandshake, joinWebSocket } from '../streams/websocket.ts';
import { name } from './parameters.ts';

export function containerStreamRoutes(router: Router, { containers }: Backends): void {
  router.post(/^\/containers\/(?<name>.*)\/attach$/, async (request, response) => {
    const signal = clientGone(response);
    try {
      const { stream, tty } = await openAttach(
        containers,
        {
          container: name(request),
          logs: boolean(request, 'logs'),
          stream: boolean(request, 'stream'),
          stdin: boolean(request, 'stdin'),
          stdout: boolean(request, 'stdout'),
          stderr: boolean(request, 'stderr'),
          detachKeys: text(request, 'detachKeys'),
        },
        signal,
      );
      await hijack(request, response, stream, tty);
    } catch (error) {
      sendStreamError(response, error);
    }
  });

  router.get(/^\/containers\/(?<name>.*)\/attach\/ws$/, async (request, response) => {
    // A container that is not there is told first, as dockerd does.
    if (!isHandshake(request)) await containers.inspect({ container: name(request), size: false }, read);
    checkHandshake(request);
    // Before 1.42 a websocket carried all three, whatever was asked for.
    const all = olderThan(request, '1.42');
    const signal = clientGone(response);
    const { stream, tty } = await openAttach(
      containers,
      {
        container: name(request),
        logs: boolean(request, 'logs'),
        stream: boolean(request, 'stream'),
        stdin: all || boolean(request, 'stdin'),
        stdout: all || boolean(request, 'stdout'),
        stderr: all || boolean(request, 'stderr'),
        detachKeys: text(request, 'detachKeys'),
      },
      signal,
    );
    await joinWebSocket(request, response, stream, tty);
  });

  router.get(/^\/containers\/(?<name>.*)\/logs$/, async (request, response) => {
    const options = logOptions(request);
    const signal = clientGone(response);
    const log = await openLogs(containers, { container: name(request), ...options }, signal);
    const headers = { 'Content-Type': outputType(request, log.tty) };
    if ('whole' in log) response.writeHead(200, headers).end(log.whole);
    else await sendStream(response, log.stream, headers);
  });

  router.get(/^\/containers\/(?<name>.*)\/stats$/, async (request, response) => {
    const stream = boolean(request, 'stream', true);
    const oneShot = !olderThan(request, '1.41') && boolean(request, 'one-shot');
    if (oneShot && stream) throw new InvalidParameter('cannot have stream=true and one-shot=true');
    const signal = clientGone(response);
    const samples = openStats(containers, { container: name(request), stream, oneShot }, signal);
    await sendLines(
      response,
      mapMessages(samples, (sample) => sample.statsJson),
      signal,
    );
  });

  router.get(/^\/containers\/(?<name>.*)\/export$/, async (request, response) => {
    const signal = clientGone(response);
    const asked = { container: name(request) };
    await sendRepeatable(response, async (deadlineMs) => {
      const { ticket } = await containers.export(asked, { ...read, deadlineMs, signal });
      return { stream: await redeem(ticket, signal), headers: { 'Content-Type': 'application/octet-stream' } };
    });
  });
}

/** Checked before the stream starts, while there still is a status to answer with. */
function logOptions(request: IncomingMessage): Omit<Parameters<typeof openLogs>[1], 'container'> {
  const stdout = boolean(request, 'stdout');
  const stderr = boolean(request, 'stderr');
  if (!stdout && !stderr) throw new InvalidParameter('Bad parameters: you must choose at least one stream');
  const tail = text(request, 'tail');
  return {
    stdout,
    stderr,
    follow: boolean(request, 'follow'),
    timestamps: boolean(request, 'timestamps'),
    details: boolean(request, 'details'),
    sinceNano: bound(text(request, 'since')),
    untilNano: bound(text(request, 'until')),
    // Anything that is not a number of lines means all of them.
    ...(/^[0-9]{1,18}$/.test(tail) ? { tail: BigInt(tail) } : {}),
  };
}

function bound(value: string): bigint {
  return parseTimestamp(value) ?? 0n;
}
