/**
 * Tickets: how bulk and interactive bytes travel between services. A gRPC call answers with an address and a one-time token; the holder
 * dials, sends `<token>\n`, reads `+\n` (or `-<reason>\n`), and from then on both sides speak raw bytes with back-pressure and half-close.
 *
 * A standing ticket opens many streams until it runs out, each of which says first what it is for: `<token> <bytes>\n<word of so many bytes>`. A holder that only
 * passes a client's bytes on gives the client's connection away with it: `<token> <bytes> <descriptor> <inode>\n<word>`. A server that could take it answers `=\n`
 * and has it from then on; one that could not answers `+\n`. What the word asks for is refused by `-<class of error> <reason>\n`.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { connect, createServer, type NetConnectOpts, type Server, Socket, type SocketConstructorOpts } from 'node:net';
import { dirname } from 'node:path';
import type { Duplex } from 'node:stream';
import {
  errorKind,
  errorMessage,
  InvalidParameter,
  isErrorKind,
  isFlotillaError,
  isUnavailable,
  makeError,
  Unavailable,
} from '@flotilla/errors';
import { watchDeparture } from './departure.ts';
import { PieceStream } from './pieceStream.ts';
import { writeEnd } from './pieces.ts';

export interface Ticket {
  readonly address: string;
  readonly token: string;
  /** what the server sends comes in pieces (pieces.ts) */
  readonly inPieces?: boolean | undefined;
  /** a connection may be given with it: it is a standing one, of a server that can take them */
  readonly takesConnection?: boolean | undefined;
}

/** A connection to be given away: the number it has in this process, and what the kernel knows it by. */
export interface GivenConnection {
  readonly fd: number;
  readonly inode: number;
}

/**
 * Serves one stream; what it resolves or throws ends it. `signal` fires when the peer is gone: for an output-only stream as soon as the peer
 * closes or half-closes, for any other when reading or writing shows it (an end of input alone is a half-close, not a departure).
 */
export type ServeStream = (stream: Socket, signal: AbortSignal) => Promise<void>;

export interface IssueOptions {
  readonly ttlMs?: number;
  /** Whatever the peer sends is thrown away, and its end means that it has gone. */
  readonly outputOnly?: boolean;
  /** `serve` writes pieces; the last one, that says that it was all, is written when it resolves. */
  readonly inPieces?: boolean;
  /** The holder can have it go on at another instance: when this one stops, the stream is cut at once. */
  readonly resumable?: boolean;
  /** Runs when nobody came in time, or before the server closed. */
  readonly onExpired?: () => void;
}

interface Pending {
  readonly serve: ServeStream;
  readonly options: IssueOptions;
  readonly timer: NodeJS.Timeout;
}

/** What serves the stream that a word asks for. Refuses by throwing. */
export type Admit = (word: Buffer) => ServeStream;

const unknownTicket = 'this ticket is unknown, used or too old';
const accepted = '+';
const taken = '=';
const tokenBytes = 24;
const defaultTtlMs = 30_000;
const helloTimeoutMs = 10_000;
/** One read from a local socket; larger than Node's 64 KiB, so that bulk streams cost fewer turns. */
const highWaterMark = 256 * 1024;

/** Gets at the descriptor of a connection that a peer gives; a copy, of this process. Throws when it cannot. */
export type TakeConnection = (peer: Socket, given: GivenConnection) => number;

const standingForm = /^([0-9a-f]+) (\d{1,7})(?: (\d{1,9}) (\d{1,15}))?$/;
const longestHello = tokenBytes * 2 + 34;
/** A word has in it what a client sent: its headers, and what it said behind them. */
const longestWord = 4 * 1024 * 1024;
const longestAnswer = 4096;

/** What a logger must do here. */
interface Log {
  warn(fields: object, message: string): void;
}

export class TicketServer {
  private readonly server: Server;
  private readonly pending = new Map<string, Pending>();
  private readonly standing = new Map<string, Admit>();
  private readonly open = new Set<Socket>();
  private readonly resumable = new Set<Socket>();
  private readonly logger: Log;
  private readonly take: TakeConnection | undefined;
  private address: string;
  private running = 0;

  constructor(options: { address: string; logger: Log; take?: TakeConnection }) {
    this.address = options.address;
    this.logger = options.logger;
    this.take = options.take;
    this.server = createServer({ allowHalfOpen: true, noDelay: true, highWaterMark }, (socket) => this.accept(socket));
  }

  /** Listens on `unix:/path` (0660, the folder's group) or `host:port` (port 0: any). */
  async listen(): Promise<void> {
    const path = this.address.startsWith('unix:') ? this.address.slice('unix:'.length) : undefined;
    if (path !== undefined) {
      mkdirSync(dirname(path), { recursive: true });
      rmSync(path, { force: true });
    }
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(dialOptions(this.address), () => {
        this.server.off('error', reject);
        resolve();
      });
    });
    if (path !== undefined) chmodSync(path, 0o660);
    const bound = this.server.address();
    if (path === undefined && bound !== null && typeof bound === 'object') {
      this.address = `${this.address.slice(0, this.address.lastIndexOf(':'))}:${bound.port}`;
    }
  }

  /** Promises one stream to whoever brings the token within `ttlMs`. It is served for the request that it was promised to: by its id and its rights. */
  issue(serve: ServeStream, options: IssueOptions = {}): Ticket {
    const token = randomBytes(tokenBytes).toString('hex');
    const timer = setTimeout(() => {
      this.pending.delete(token);
      options.onExpired?.();
    }, options.ttlMs ?? defaultTtlMs).unref();
    this.pending.set(token, { serve: AsyncLocalStorage.bind(serve), options, timer });
    return { address: this.address, token, inPieces: options.inPieces ?? false };
  }

  /** Promises as many streams as are asked for within `ttlMs`. */
  issueStanding(admit: Admit, ttlMs: number): Ticket {
    const token = randomBytes(tokenBytes).toString('hex');
    this.standing.set(token, admit);
    setTimeout(() => this.standing.delete(token), ttlMs).unref();
    return { address: this.address, token, takesConnection: this.take !== undefined };
  }

  /** Streams being served. */
  get active(): number {
    return this.running;
  }

  /** Whether streams are served, or promised: what a drain waits for. */
  get isBusy(): boolean {
    return this.running > 0 || this.pending.size > 0;
  }

  /** Cuts those that can go on elsewhere. */
  move(): void {
    for (const socket of this.resumable) socket.destroy();
  }

  private track(socket: Socket): void {
    this.open.add(socket);
    socket.on('close', () => this.open.delete(socket));
    socket.on('error', () => socket.destroy());
  }

  private accept(socket: Socket): void {
    this.track(socket);
    const refuse = (reason: string): void => {
      socket.end(`-${reason}\n`);
      socket.destroySoon();
    };
    const timer = setTimeout(() => refuse('no token came'), helloTimeoutMs).unref();
    readLine(socket, longestHello).then(
      (hello) => {
        const asked = standingForm.exec(hello);
        if (asked !== null) {
          void this.acceptStanding(socket, asked).then(
            () => clearTimeout(timer),
            (error: unknown) => {
              clearTimeout(timer);
              refuse(`${errorKind(error)} ${errorMessage(error).replaceAll('\n', ' ')}`.slice(0, longestAnswer / 4));
            },
          );
          return;
        }
        clearTimeout(timer);
        const pending = this.pending.get(hello);
        if (pending === undefined) return refuse(unknownTicket);
        this.pending.delete(hello);
        clearTimeout(pending.timer);
        socket.write(`${accepted}\n`);
        void this.serve(socket, pending);
      },
      () => {
        clearTimeout(timer);
        refuse('a token was expected');
      },
    );
  }

  /** @throws what its word is refused with; Unavailable for a ticket that is not there. */
  private async acceptStanding(peer: Socket, [, token = '', bytes = '', fd, inode]: RegExpExecArray): Promise<void> {
    const admit = this.standing.get(token);
    if (admit === undefined) throw new Unavailable(unknownTicket);
    if (Number(bytes) > longestWord) throw new InvalidParameter('what the stream is for takes too many words');
    const serve = admit(await readBytes(peer, Number(bytes)));
    const own = fd === undefined ? undefined : this.tryTake(peer, { fd: Number(fd), inode: Number(inode) });
    if (own === undefined) {
      peer.write(`${accepted}\n`);
      void this.serve(peer, { serve, options: {} });
      return;
    }
    const options: SocketConstructorOpts & { highWaterMark: number } = { fd: own, allowHalfOpen: true, noDelay: true, highWaterMark };
    // It reads from here on: whoever serves it must be there for what comes, also for an end.
    const connection = new Socket(options);
    this.track(connection);
    void this.serve(connection, { serve, options: {} });
    peer.end(`${taken}\n`);
    peer.resume();
  }

  /** Undefined where it cannot be taken, as between containers: the bytes then come through the peer. */
  private tryTake(peer: Socket, given: GivenConnection): number | undefined {
    try {
      return this.take?.(peer, given);
    } catch {
      return undefined;
    }
  }

  private async serve(socket: Socket, { serve, options }: Omit<Pending, 'timer'>): Promise<void> {
    const abort = new AbortController();
    socket.on('close', () => abort.abort());
    if (options.resumable) this.resumable.add(socket);
    if (options.outputOnly) socket.on('end', () => abort.abort()).resume();
    else watchDeparture(socket);
    this.running++;
    try {
      await serve(socket, abort.signal);
      if (options.inPieces) writeEnd(socket);
      socket.end();
      // The peer may still be sending what nobody reads; without this its bytes would hold the socket open.
      socket.resume();
    } catch (error) {
      if (!abort.signal.aborted) this.logger.warn({ error }, 'stream failed');
      socket.destroy();
    } finally {
      this.resumable.delete(socket);
      this.running--;
    }
  }

  /** Refuses new streams, cuts those that can go on elsewhere, waits for the others until the deadline, then cuts them too. */
  async close(deadlineMs: number): Promise<void> {
    const pending = [...this.pending.values()];
    this.pending.clear();
    this.standing.clear();
    for (const { timer, options } of pending) {
      clearTimeout(timer);
      options.onExpired?.();
    }
    this.move();
    const closed = Promise.all([
      new Promise<void>((resolve) => this.server.close(() => resolve())),
      ...[...this.open].map((socket) => new Promise<void>((resolve) => socket.once('close', () => resolve()))),
    ]);
    const timer = setTimeout(() => {
      for (const socket of this.open) socket.destroy();
    }, deadlineMs);
    await closed;
    clearTimeout(timer);
    if (this.address.startsWith('unix:')) rmSync(this.address.slice('unix:'.length), { force: true });
  }
}

export interface DialOptions {
  readonly signal?: AbortSignal;
  /** How a stream in pieces that was cut goes on: another ticket for what comes behind the cursor. */
  readonly resume?: (cursor: string) => Promise<Ticket>;
  /** How a stream is begun anew that is not there, or was cut before it said where it stands. */
  readonly restart?: () => Promise<Ticket>;
  /** What the reader of a stream in pieces is given before its end when it was cut and cannot go on. Absent: the stream fails. */
  readonly lastWords?: () => Promise<Buffer>;
}

/**
 * Redeems a ticket.
 *
 * @returns the stream, half-open allowed, once the server has accepted the token; of one that can be resumed, once it says where it stands.
 * @throws Unavailable when nobody listens there or the ticket is not taken.
 */
export async function dialTicket(ticket: Ticket, options: DialOptions = {}): Promise<Duplex> {
  const socket = await dialOrRestart(ticket, options);
  if (!ticket.inPieces) return socket;
  const { resume, restart, lastWords } = options;
  const stream = new PieceStream(socket, {
    ...(resume && { reopen: async (cursor: string) => dial(await resume(cursor), options) }),
    ...(restart && { restart: async () => dial(await restart(), options) }),
    ...(lastWords && { lastWords }),
  });
  if (resume !== undefined) await stream.whenBegun();
  return stream;
}

/** What came of a standing ticket. */
export interface Opened {
  readonly stream: Duplex;
  /** Whether the server has the connection that was given: nothing may read or write it here any more. Otherwise the stream is the ticket's. */
  readonly isTaken: boolean;
}

/**
 * Opens a stream with a standing ticket.
 *
 * @param word - what it is for.
 * @param given - a connection of this process to be served in its place; it stays open here.
 * @throws what the server refuses it with; Unavailable as `dialTicket` does, and when the ticket has run out.
 */
export async function openStanding(
  ticket: Ticket,
  word: Uint8Array,
  { given, ...options }: Pick<DialOptions, 'signal'> & { readonly given?: GivenConnection | undefined },
): Promise<Opened> {
  const gift = given === undefined || ticket.takesConnection !== true ? '' : ` ${given.fd} ${given.inode}`;
  const hello = Buffer.concat([Buffer.from(`${ticket.token} ${word.length}${gift}\n`), word]);
  const { socket, answer } = await greet(ticket, hello, options);
  if (answer === taken) socket.destroy();
  return { stream: socket, isTaken: answer === taken };
}

async function dialOrRestart(ticket: Ticket, options: DialOptions): Promise<Socket> {
  try {
    return await dial(ticket, options);
  } catch (error) {
    // Its instance died when it had given the ticket.
    if (options.restart === undefined || !isUnavailable(error)) throw error;
    return dial(await options.restart(), options);
  }
}

async function dial(ticket: Ticket, options: DialOptions): Promise<Socket> {
  const { socket } = await greet(ticket, Buffer.from(`${ticket.token}\n`), options);
  return socket;
}

/** Dials, and says what is to be said first. */
function greet(ticket: Ticket, hello: Buffer, options: DialOptions): Promise<{ socket: Socket; answer: string }> {
  options.signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const dialing: NetConnectOpts & { highWaterMark: number } = {
      ...dialOptions(ticket.address),
      allowHalfOpen: true,
      noDelay: true,
      highWaterMark,
    };
    const socket = connect(dialing);
    const abort = (): void => fail(new Unavailable('the stream was given up'));
    const timer = setTimeout(() => fail(new Unavailable('the stream did not answer')), helloTimeoutMs);
    const settle = (): void => {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', abort);
      socket.off('error', fail);
    };
    function fail(cause: Error): void {
      settle();
      socket.on('error', () => undefined);
      socket.destroy();
      reject(isFlotillaError(cause) ? cause : new Unavailable('the stream is not there', { cause }));
    }
    options.signal?.addEventListener('abort', abort, { once: true });
    socket.once('error', fail);
    socket.write(hello);
    readLine(socket, longestAnswer).then((answer) => {
      if (answer !== accepted && answer !== taken) return fail(refusal(answer));
      settle();
      resolve({ socket, answer });
    }, fail);
  });
}

function refusal(answer: string): Error {
  const [, kind = '', reason = ''] = /^-(\w+) (.*)$/.exec(answer) ?? [];
  return isErrorKind(kind) ? makeError(kind, reason) : new Unavailable(answer.slice(1) || 'the stream was refused');
}

function dialOptions(address: string): { path: string } | { host: string; port: number } {
  if (address.startsWith('unix:')) return { path: address.slice('unix:'.length) };
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(address.slice(colon + 1)) };
}

/** Reads one line of at most `limit` bytes and gives back what follows it; the socket is paused afterwards. */
function readLine(socket: Socket, limit: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let held = Buffer.alloc(0);
    const settle = (): void => {
      socket.off('readable', onReadable);
      socket.off('end', onEnd);
      socket.off('close', onEnd);
    };
    const onEnd = (): void => {
      settle();
      reject(new Error('the stream ended before its first line'));
    };
    const onReadable = (): void => {
      for (let chunk = socket.read() as Buffer | null; chunk !== null; chunk = socket.read() as Buffer | null) {
        held = Buffer.concat([held, chunk]);
        const newline = held.indexOf(10);
        if (newline < 0 && held.length <= limit) continue;
        settle();
        if (newline < 0 || newline > limit) {
          reject(new Error('the first line is too long'));
          return;
        }
        const rest = held.subarray(newline + 1);
        if (rest.length > 0) socket.unshift(rest);
        resolve(held.subarray(0, newline).toString('utf8'));
        return;
      }
    };
    socket.on('readable', onReadable);
    socket.on('end', onEnd);
    socket.on('close', onEnd);
  });
}

/** Reads so many bytes and gives back what follows them; the socket is paused afterwards. */
async function readBytes(socket: Socket, count: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  while (bytes < count) {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) {
      if (socket.readableEnded || socket.destroyed) throw new InvalidParameter('the stream ended before it had said what it is for');
      await readableAgain(socket);
      continue;
    }
    parts.push(chunk);
    bytes += chunk.length;
  }
  const held = Buffer.concat(parts);
  if (bytes > count) socket.unshift(held.subarray(count));
  return held.subarray(0, count);
}

function readableAgain(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const settle = (): void => {
      for (const event of ['readable', 'end', 'close'] as const) socket.off(event, settle);
      resolve();
    };
    for (const event of ['readable', 'end', 'close'] as const) socket.on(event, settle);
  });
}
