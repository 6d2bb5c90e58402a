/**
 * Tickets: how bulk and interactive bytes travel between services. A gRPC call answers with an address and a one-time token; the holder
 * dials, sends `<token>\n`, reads `+\n` (or `-<reason>\n`), and from then on both sides speak raw bytes with back-pressure and half-close.
 *
 * A holder that only passes a client's bytes on can give the client's connection away instead: `<token> <descriptor> <inode>\n`. A server that could take it
 * answers `=\n`, and serves it when the holder has ended the stream; one that could not answers `+\n`.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { connect, createServer, type NetConnectOpts, type Server, Socket, type SocketConstructorOpts } from 'node:net';
import { dirname } from 'node:path';
import type { Duplex } from 'node:stream';
import { isUnavailable, Unavailable } from '@flotilla/errors';
import { watchDeparture } from './departure.ts';
import { PieceStream } from './pieceStream.ts';
import { writeEnd } from './pieces.ts';

export interface Ticket {
  readonly address: string;
  readonly token: string;
  /** what the server sends comes in pieces (pieces.ts) */
  readonly inPieces?: boolean | undefined;
  /** a connection may be given with it */
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
  /** What is served may be a connection that the holder gives; for a server that can take them. */
  readonly takesConnection?: boolean;
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

const accepted = '+';
const taken = '=';
const tokenBytes = 24;
const defaultTtlMs = 30_000;
const helloTimeoutMs = 10_000;
/** One read from a local socket; larger than Node's 64 KiB, so that bulk streams cost fewer turns. */
const highWaterMark = 256 * 1024;

/** Gets at the descriptor of a connection that a peer gives; a copy, of this process. Throws when it cannot. */
export type TakeConnection = (peer: Socket, given: GivenConnection) => number;

const givenForm = /^([0-9a-f]+) (\d{1,9}) (\d{1,15})$/;
const longestHello = tokenBytes * 2 + 26;

/** What a logger must do here. */
interface Log {
  warn(fields: object, message: string): void;
}

export class TicketServer {
  private readonly server: Server;
  private readonly pending = new Map<string, Pending>();
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
    const takesConnection = options.takesConnection === true && this.take !== undefined;
    return { address: this.address, token, inPieces: options.inPieces ?? false, takesConnection };
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
        clearTimeout(timer);
        const [, givenToken, fd, inode] = givenForm.exec(hello) ?? [];
        const token = givenToken ?? hello;
        const pending = this.pending.get(token);
        if (pending === undefined) return refuse('this ticket is unknown, used or too old');
        this.pending.delete(token);
        clearTimeout(pending.timer);
        const isGiven = fd !== undefined && pending.options.takesConnection === true;
        const own = isGiven ? this.tryTake(socket, { fd: Number(fd), inode: Number(inode) }) : undefined;
        if (own !== undefined) void this.serveTaken(socket, own, pending);
        else {
          socket.write(`${accepted}\n`);
          void this.serve(socket, pending);
        }
      },
      () => {
        clearTimeout(timer);
        refuse('a token was expected');
      },
    );
  }

  /** Undefined where it cannot be taken, as between containers: the bytes then come through the peer. */
  private tryTake(peer: Socket, given: GivenConnection): number | undefined {
    try {
      return this.take?.(peer, given);
    } catch {
      return undefined;
    }
  }

  /** The peer ends its stream when it has done with the connection; one that leaves in another way may have said nothing to the client yet. */
  private async serveTaken(peer: Socket, fd: number, pending: Pending): Promise<void> {
    this.running++;
    const isLetGo = new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), helloTimeoutMs);
      peer.once('end', () => resolve(true));
      peer.once('close', () => {
        clearTimeout(timer);
        resolve(false);
      });
    });
    peer.resume();
    peer.write(`${taken}\n`);
    const options: SocketConstructorOpts & { highWaterMark: number } = { fd, allowHalfOpen: true, noDelay: true, highWaterMark };
    const mayServe = await isLetGo;
    // It reads from here on: whoever serves it must be there for what comes, also for an end.
    const connection = new Socket(options);
    this.track(connection);
    if (mayServe) void this.serve(connection, pending);
    else connection.destroy();
    peer.destroy();
    this.running--;
  }

  private async serve(socket: Socket, { serve, options }: Pending): Promise<void> {
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

/** What came of a connection that was given with a ticket. */
export interface Giving {
  /** Taken: to be ended when nothing reads or writes the connection here any more, which the server then serves. Otherwise the ticket's stream. */
  readonly stream: Duplex;
  readonly isTaken: boolean;
}

/** Redeems a ticket and gives a connection with it, which stays open here. @throws as `dialTicket` does. */
export async function giveConnection(
  ticket: Ticket,
  { fd, inode }: GivenConnection,
  options: Pick<DialOptions, 'signal'>,
): Promise<Giving> {
  const { socket, answer } = await greet(ticket, `${ticket.token} ${fd} ${inode}`, options);
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
  const { socket } = await greet(ticket, ticket.token, options);
  return socket;
}

/** Dials, and says what is to be said first. */
function greet(ticket: Ticket, hello: string, options: DialOptions): Promise<{ socket: Socket; answer: string }> {
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
      reject(cause instanceof Unavailable ? cause : new Unavailable('the stream is not there', { cause }));
    }
    options.signal?.addEventListener('abort', abort, { once: true });
    socket.once('error', fail);
    socket.write(`${hello}\n`);
    readLine(socket, 200).then((answer) => {
      if (answer !== accepted && answer !== taken) return fail(new Unavailable(answer.slice(1) || 'the stream was refused'));
      settle();
      resolve({ socket, answer });
    }, fail);
  });
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
        resolve(held.subarray(0, newline).toString('latin1'));
        return;
      }
    };
    socket.on('readable', onReadable);
    socket.on('end', onEnd);
    socket.on('close', onEnd);
  });
}
