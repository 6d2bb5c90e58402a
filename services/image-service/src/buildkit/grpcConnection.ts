/**
 * gRPC calls over a connection that the other side has opened. A BuildKit client is the server on its session; grpc-js dials its servers itself, so the
 * five bytes before each message are written here, on Node's own HTTP/2.
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants, type OutgoingHttpHeaders } from 'node:http2';
import type { Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { Cancelled, DeadlineExceeded, Forbidden, NotFound, NotImplemented, System, Unauthorized, Unavailable } from '@flotilla/errors';
import { readOn, stopReading } from '@flotilla/syscalls';
import { status } from '@grpc/grpc-js';

/** A method as ts-proto generates it. */
export interface GrpcMethod<Request, Response> {
  readonly path: string;
  readonly requestSerialize: (request: Request) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Response;
}

/** Metadata of a call; a key may come more than once. Values are ASCII. */
export type CallMetadata = readonly (readonly [key: string, value: string])[];

const windowBytes = 4 * 1024 * 1024;
/** Nothing that a client sends is larger: files come in chunks. */
const largestMessage = 16 * 1024 * 1024;
const prefixBytes = 5;
/** Of frames that nobody has taken yet; beyond that the client waits. */
const mostHeldBytes = 1024 * 1024;
/** Frames that are kept by themselves until their message is here. */
const mostParts = 1_000;
/** For one answer: a helper that keeps credentials may ask a person first. */
const defaultPatienceMs = 300_000;

/** One call whose messages go both ways. */
export class GrpcExchange<Request, Response> {
  private readonly stream: ClientHttp2Stream;
  private readonly method: GrpcMethod<Request, Response>;
  private trailers: Readonly<Record<string, unknown>> = {};
  private failure: Error | undefined;

  constructor(stream: ClientHttp2Stream, method: GrpcMethod<Request, Response>) {
    this.stream = stream;
    this.method = method;
    const note = (headers: Readonly<Record<string, unknown>>): void => {
      if (headers['grpc-status'] !== undefined) this.trailers = headers;
    };
    stream.on('response', note);
    stream.on('trailers', note);
    stream.on('error', (error) => {
      this.failure = error;
    });
  }

  /** Sends messages in one go; resolves when more may be sent. */
  async send(...requests: Request[]): Promise<void> {
    const frame = Buffer.concat(requests.flatMap((request) => this.frames(request)));
    if (this.stream.destroyed || this.stream.writableEnded) throw this.problem() ?? new Unavailable('the client has ended the call');
    if (this.stream.write(frame)) return;
    await new Promise<void>((resolve) => {
      const go = (): void => {
        this.stream.off('drain', go);
        this.stream.off('close', go);
        resolve();
      };
      this.stream.on('drain', go);
      this.stream.on('close', go);
    });
  }

  private frames(request: Request): [Buffer, Buffer] {
    const body = this.method.requestSerialize(request);
    const prefix = Buffer.alloc(prefixBytes);
    prefix.writeUInt32BE(body.length, 1);
    return [prefix, body];
  }

  /** Nothing more will be sent. */
  end(): void {
    this.stream.end();
  }

  cancel(): void {
    this.stream.close(constants.NGHTTP2_CANCEL);
  }

  /** The messages, as many at a time as have come. Throws what the call ended with, unless that is OK. */
  async *batches(): AsyncGenerator<Response[]> {
    for await (const messages of this.encodedBatches()) yield messages.map((message) => this.method.responseDeserialize(message));
  }

  /** The same, as they came. */
  async *encodedBatches(): AsyncGenerator<Buffer[]> {
    let parts: Buffer[] = [];
    let bytes = 0;
    let needed = prefixBytes;
    for await (const frames of arrivals(this.stream)) {
      parts.push(...frames);
      for (const { length } of frames) bytes += length;
      // A large message is put together once, when all of it is here.
      if (bytes < needed) {
        // A message in frames of a few bytes would be more in buffers than it is itself.
        if (parts.length > mostParts) parts = [Buffer.concat(parts)];
        continue;
      }
      let held = Buffer.concat(parts);
      const messages: Buffer[] = [];
      for (needed = prefixBytes; held.length >= prefixBytes; needed = prefixBytes) {
        const length = held.readUInt32BE(1);
        if (held[0] !== 0) throw new System('a message of the client is compressed, which nobody had agreed on');
        if (length > largestMessage) throw new System(`a message of the client is too large: ${length} bytes`);
        needed += length;
        if (held.length < needed) break;
        messages.push(held.subarray(prefixBytes, needed));
        held = held.subarray(needed);
      }
      parts = held.length === 0 ? [] : [held];
      bytes = held.length;
      if (messages.length > 0) yield messages;
    }
    const problem = this.problem();
    if (problem !== undefined) throw problem;
  }

  private problem(): Error | undefined {
    const code = this.trailers['grpc-status'];
    if (code === '0') return undefined;
    if (code === undefined) return new Unavailable('the client has left', { cause: this.failure });
    return statusError(Number(code), decode(String(this.trailers['grpc-message'] ?? '')));
  }
}

/**
 * What comes on a stream, to its end or its loss: all frames that one turn of the event loop brings at once. A client's list of files is a frame a file,
 * and a stream that is read as an iterable takes several turns of promises for each.
 */
async function* arrivals(stream: ClientHttp2Stream): AsyncGenerator<Buffer[]> {
  let frames: Buffer[] = [];
  let bytes = 0;
  let isOver = stream.readableEnded || stream.destroyed;
  let wake: (() => void) | undefined;
  const tell = (): void => {
    wake?.();
    wake = undefined;
  };
  const take = (frame: Buffer): void => {
    if (frames.length === 0) setImmediate(tell);
    frames.push(frame);
    bytes += frame.length;
    if (bytes > mostHeldBytes) stream.pause();
  };
  const end = (): void => {
    isOver = true;
    tell();
  };
  stream.on('end', end);
  stream.on('close', end);
  stream.on('data', take);
  try {
    while (frames.length > 0 || !isOver) {
      if (frames.length === 0) {
        await new Promise<void>((resolve) => (wake = resolve));
        continue;
      }
      const taken = frames;
      frames = [];
      bytes = 0;
      stream.resume();
      yield taken;
    }
  } finally {
    stream.off('data', take);
    stream.off('end', end);
    stream.off('close', end);
    if (!isOver) stream.destroy();
  }
}

export class GrpcConnection {
  private readonly session: ClientHttp2Session;
  private readonly socket: Socket;
  private readonly gone = new AbortController();

  constructor(socket: Socket) {
    this.socket = socket;
    this.session = connect('http://localhost', { createConnection: () => socket, settings: { initialWindowSize: windowBytes } });
    this.session.on('error', () => undefined);
    // It comes a turn later, also for a session that has gone by then.
    this.session.once('connect', () => {
      if (!this.session.destroyed) this.session.setLocalWindowSize(windowBytes);
    });
    this.session.once('close', () => this.gone.abort(new Unavailable('the client has left')));
  }

  /** Fires when the other side has gone. */
  get closed(): AbortSignal {
    return this.gone.signal;
  }

  /** @param signal - ends the call when it fires. */
  open<Request, Response>(
    method: GrpcMethod<Request, Response>,
    metadata: CallMetadata,
    signal: AbortSignal,
  ): GrpcExchange<Request, Response> {
    signal.throwIfAborted();
    this.closed.throwIfAborted();
    const headers: OutgoingHttpHeaders = {
      ':method': 'POST',
      ':path': method.path,
      'content-type': 'application/grpc',
      te: 'trailers',
    };
    for (const [key, value] of metadata) headers[key] = [...((headers[key] as string[] | undefined) ?? []), value];
    const stream = this.session.request(headers, { endStream: false });
    const cancel = (): void => stream.close(constants.NGHTTP2_CANCEL);
    signal.addEventListener('abort', cancel, { once: true });
    stream.once('close', () => signal.removeEventListener('abort', cancel));
    return new GrpcExchange(stream, method);
  }

  /** @throws the error class of the status that the client answers; DeadlineExceeded when it does not. */
  async call<Request, Response>(
    method: GrpcMethod<Request, Response>,
    request: Request,
    signal: AbortSignal,
    patienceMs = defaultPatienceMs,
  ): Promise<Response> {
    const late = AbortSignal.timeout(patienceMs);
    const exchange = this.open(method, [], AbortSignal.any([signal, late]));
    try {
      await exchange.send(request);
      exchange.end();
      const answers: Response[] = [];
      for await (const messages of exchange.batches()) {
        answers.push(...messages);
        if (answers.length > 1) throw new System(`the client answers ${method.path} more than once`);
      }
      const [answer] = answers;
      if (answer === undefined) throw new System('the client answered nothing');
      return answer;
    } catch (error) {
      exchange.cancel();
      signal.throwIfAborted();
      if (late.aborted) throw new DeadlineExceeded(`the client did not answer ${method.path} within ${patienceMs / 1000} seconds`);
      throw error;
    }
  }

  /**
   * Reads nothing for so long, so that what comes meanwhile is read at once. A client that sends many small frames writes each by itself, and a turn of the event
   * loop for each takes as much of the processor as the client does.
   */
  async rest(ms: number): Promise<void> {
    stopReading(this.socket);
    await pause(ms);
    readOn(this.socket);
  }

  close(): void {
    this.session.destroy();
  }
}

function statusError(code: number, message: string): Error {
  switch (code) {
    case status.NOT_FOUND:
      return new NotFound(message);
    case status.UNIMPLEMENTED:
      return new NotImplemented(message);
    case status.UNAUTHENTICATED:
      return new Unauthorized(message);
    case status.PERMISSION_DENIED:
      return new Forbidden(message);
    case status.CANCELLED:
      return new Cancelled(message);
    case status.UNAVAILABLE:
      return new Unavailable(message);
    default:
      return new System(message);
  }
}

function decode(message: string): string {
  try {
    return decodeURIComponent(message);
  } catch {
    return message;
  }
}
