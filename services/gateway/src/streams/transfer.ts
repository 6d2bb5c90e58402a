/** Bulk bytes between a client's HTTP exchange and a service's ticket stream, with back-pressure and nothing held whole. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex, Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { InvalidParameter, isErrorKind, isFlotillaError, isUnavailable, makeError, System, Unavailable } from '@flotilla/errors';
import { type DialOptions, dialTicket, lastWord, type Ticket } from '@flotilla/streams';

/** Dials a ticket that a service promised. */
export function redeem(
  ticket: Ticket | undefined,
  signal?: AbortSignal,
  whenCut: Pick<DialOptions, 'resume' | 'restart' | 'lastWords'> = {},
): Promise<Duplex> {
  return dialTicket(promised(ticket), signal === undefined ? whenCut : { ...whenCut, signal });
}

/** @throws System when a service breaks its promise. */
export function promised(ticket: Ticket | undefined): Ticket {
  if (ticket === undefined) throw new System('the service answered without a stream');
  return ticket;
}

/** How much of an answer is here before it begins: what is shorter comes whole, or not at all. */
const firstPartBytes = 1024 * 1024;
/** As long as any other read may take that finds nobody. */
const openingMs = 30_000;
const reopenMs = 250;

/** What a service sends, and what it says of it beforehand. */
export interface OpenedStream {
  readonly stream: Duplex;
  readonly headers: Record<string, string>;
}

/**
 * Answers with a stream that may be opened again: when its instance dies before the first part is here another one is asked, and the client sees nothing of it.
 *
 * @param open - asks for it, and has so many milliseconds left for that. @throws Unavailable to be called again.
 * @param withinMs - for all openings together.
 */
export async function sendRepeatable(
  response: ServerResponse,
  open: (deadlineMs: number) => Promise<OpenedStream>,
  withinMs: number = openingMs,
): Promise<void> {
  const until = performance.now() + withinMs;
  for (;;) {
    try {
      const { stream, headers } = await open(Math.max(1, Math.ceil(until - performance.now())));
      endWithClient(response, stream);
      const first = await firstPart(stream);
      await sendStream(response, stream, headers, first);
      return;
    } catch (error) {
      const isOver = performance.now() + reopenMs >= until;
      if (!isUnavailable(error) || isOver || response.headersSent || response.destroyed) throw error;
    }
    await pause(reopenMs);
  }
}

/** Ends a service's stream when its client leaves, or has left already: the service learns at once that nobody reads. */
export function endWithClient(response: ServerResponse, service: Duplex): void {
  const end = (): void => {
    service.destroy();
  };
  if (response.destroyed) end();
  response.on('close', end);
  service.on('close', () => response.off('close', end));
}

/** @throws what the stream fails with. */
async function firstPart(stream: Duplex): Promise<Buffer[]> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  let failure: Error | undefined;
  stream.on('error', (error) => {
    failure = error;
  });
  for (;;) {
    for (let chunk: Buffer | null = stream.read(); chunk !== null; chunk = stream.read()) {
      chunks.push(chunk);
      bytes += chunk.length;
    }
    if (failure !== undefined) throw failure;
    if (stream.readableEnded || bytes >= firstPartBytes) return chunks;
    if (stream.destroyed) throw new Unavailable('the stream to the service broke');
    await moved(stream);
  }
}

/** Resolves when there is more, or no more. */
function moved(stream: Duplex): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const events = ['readable', 'end', 'close'] as const;
  for (const event of events) stream.on(event, resolve);
  return promise.finally(() => {
    for (const event of events) stream.off(event, resolve);
  });
}

/**
 * Sends a service's stream as the answer's body. Headers go out at once: a follower may wait long for the first byte.
 * When the stream breaks, so does the answer, so that its client knows it is not whole.
 *
 * @param first - what was read of it already.
 */
export async function sendStream(
  response: ServerResponse,
  service: Duplex,
  headers: Record<string, string>,
  first: readonly Buffer[] = [],
): Promise<void> {
  endWithClient(response, service);
  if (response.destroyed) return;
  response.writeHead(200, headers);
  response.flushHeaders();
  response.socket?.setNoDelay(true);
  for (const chunk of first) response.write(chunk);
  if (service.readableEnded) {
    response.end();
    return;
  }
  try {
    await copyTo(response, service);
  } catch {
    response.destroy();
    service.destroy();
  }
}

/** Copies a stream to its end; rejects when either side breaks. Plain `pipe`: `pipeline` halves the speed. */
export function copyTo(response: ServerResponse, service: Duplex): Promise<void> {
  return new Promise((resolve, reject) => {
    service.on('error', reject);
    service.on('close', () => {
      if (!service.readableEnded) reject(new System('the stream to the service broke'));
    });
    response.on('error', reject);
    response.on('finish', resolve);
    response.on('close', () => reject(new System('the client left')));
    service.pipe(response);
  });
}

/** Sends a body to a service and half-closes; resolves when all is sent, rejects when its sender leaves before that. */
async function upload(request: Readable, service: Duplex): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const left = (): void => {
      if (!request.readableEnded) reject(new InvalidParameter('the client left before its upload was complete'));
    };
    if (request.destroyed) left();
    request.on('error', reject);
    request.on('close', left);
    request.on('end', () => service.end(() => resolve()));
    // A service that has heard enough stops reading: what it answers counts, not this failure.
    service.on('close', () => resolve());
    request.pipe(service, { end: false });
  });
}

const gone = 'the service went away in the middle';
const goneLine = `${JSON.stringify({ errorDetail: { message: gone }, error: gone })}\r\n`;

/**
 * Uploads a body and sends what the service says, as it comes: load, import, build. Without the last word the service has died.
 *
 * @param options - `verdict`: the service's first line is not for the client. `{}` lets the rest through, `{"error": "<class>", "message": "…"}` is the
 *   request's own failure.
 */
export async function exchange(
  request: Readable,
  response: ServerResponse,
  service: Duplex,
  type: string,
  options: { verdict?: boolean } = {},
): Promise<void> {
  service.on('error', () => service.destroy());
  endWithClient(response, service);
  const uploaded = upload(request, service).catch((error: unknown) => {
    service.destroy();
    return error;
  });
  let began = false;
  let isWhole = false;
  let verdict: Buffer | undefined = options.verdict === true ? Buffer.alloc(0) : undefined;
  try {
    for await (let chunk of service as AsyncIterable<Buffer>) {
      if (verdict !== undefined) {
        verdict = Buffer.concat([verdict, chunk]);
        const end = verdict.indexOf(10);
        if (end < 0) continue;
        checkVerdict(verdict.subarray(0, end).toString('utf8'));
        chunk = verdict.subarray(end + 1);
        verdict = undefined;
      }
      if (chunk.at(-1) === lastWord[0]) {
        isWhole = true;
        chunk = chunk.subarray(0, -1);
      }
      if (!began) {
        began = true;
        response.writeHead(200, { 'Content-Type': type });
      }
      if (chunk.length > 0 && !response.write(chunk)) await drained(response);
      if (response.destroyed) return;
    }
  } catch (error) {
    if (!began && isFlotillaError(error)) {
      request.unpipe(service);
      request.resume();
      throw error;
    }
    if (!began) throw new System('the stream to the service broke', { cause: error });
    response.destroy();
    return;
  }
  const failure = await Promise.race([uploaded, Promise.resolve(undefined)]);
  // The service has said its last word; what the client still sends is not wanted.
  request.unpipe(service);
  request.resume();
  if (!began && failure instanceof Error) throw failure;
  if (!isWhole) {
    if (!began) throw new System('the service went away before it answered');
    response.write(goneLine);
  }
  if (!began) response.writeHead(200, { 'Content-Type': type });
  response.end();
}

/** Uploads the body and reads the one line the service answers: `{}` or `{"error": "<class>", "message": "…"}`. */
export async function uploadForAnswer(request: IncomingMessage, service: Duplex): Promise<void> {
  service.on('error', () => service.destroy());
  const uploaded = upload(request, service).catch((error: unknown) => {
    service.destroy();
    return error;
  });
  const answer = await firstLine(service);
  service.destroy();
  if (answer === undefined) {
    const failure = await uploaded;
    throw failure instanceof Error ? failure : new System('the stream to the service broke');
  }
  request.unpipe(service);
  request.resume();
  throwAnswer(answer);
}

interface Answer {
  readonly error?: string;
  readonly message?: string;
}

function throwAnswer({ error, message }: Answer): void {
  if (error === undefined) return;
  throw makeError(isErrorKind(error) ? error : 'System', message ?? 'the upload failed');
}

function checkVerdict(line: string): void {
  throwAnswer(parseAnswer(line) ?? { error: 'System', message: 'the service answered what nobody understands' });
}

async function firstLine(service: Duplex): Promise<Answer | undefined> {
  let text = '';
  try {
    for await (const chunk of service) {
      text += String(chunk);
      if (text.includes('\n')) break;
    }
    return parseAnswer(text.split('\n', 1)[0] ?? '');
  } catch {
    return undefined;
  }
}

function parseAnswer(line: string): Answer | undefined {
  try {
    const document: unknown = JSON.parse(line);
    if (typeof document !== 'object' || document === null) return undefined;
    const { error, message } = document as { error?: unknown; message?: unknown };
    return { ...(typeof error === 'string' ? { error } : {}), ...(typeof message === 'string' ? { message } : {}) };
  } catch {
    return undefined;
  }
}

export function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const settle = (): void => {
      response.off('drain', settle);
      response.off('close', settle);
      resolve();
    };
    response.on('drain', settle);
    response.on('close', settle);
  });
}
