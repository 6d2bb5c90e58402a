/**
 * The holder's side of a stream in pieces: a duplex of plain bytes that knows whether its end is the end. One that is cut goes on at another instance, if its
 * owner can have it opened again: behind the last byte of output it has given out, and with the input that had not reached its goal.
 */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { DataLoss, isDeadlineExceeded, isUnavailable, Unavailable } from '@flotilla/errors';
import { PieceParser, pieceKind } from './pieces.ts';

export interface PieceStreamOptions {
  /** Opens the stream again behind a cursor; absent: it cannot go on when it is cut. @throws Unavailable to be asked again a little later. */
  readonly reopen?: (cursor: string) => Promise<Socket>;
  /** Opens the stream anew that was cut before it said where it stands: all input is sent again. @throws as `reopen`. */
  readonly restart?: () => Promise<Socket>;
  /** What the reader is to be given before the end when the stream is lost: it must not look whole. Absent: the stream fails. */
  readonly lastWords?: () => Promise<Buffer>;
}

/** Input that may be under way; what is written beyond that waits. */
const mostUntakenBytes = 1024 * 1024;
const patienceMs = 60_000;
const retryMs = 100;
/** Cuts in a row without a byte in between: then it is not the instance's death but the stream that cannot be served. */
const mostFruitlessCuts = 5;
/** Between the end that says that we leave and the close. */
const goodbyeMs = 100;

export class PieceStream extends Duplex {
  private readonly options: PieceStreamOptions;
  private socket: Socket;
  private parser = new PieceParser();
  private cursor = '';
  private hasBegun = false;
  private hasEnded = false;
  private fruitless = 0;
  private inputEnded = false;
  private untaken: Buffer[] = [];
  private untakenBytes = 0;
  private taken: (() => void) | undefined;

  constructor(socket: Socket, options: PieceStreamOptions = {}) {
    super({ readableHighWaterMark: 1024 * 1024, writableHighWaterMark: 256 * 1024 });
    this.options = options;
    this.socket = socket;
    this.follow(socket);
  }

  private follow(socket: Socket): void {
    this.socket = socket;
    this.parser = new PieceParser();
    let over = false;
    const end = (): void => {
      if (over) return;
      over = true;
      if (!this.hasEnded && !this.destroyed) void this.goOn();
    };
    socket.on('error', () => socket.destroy());
    socket.on('end', end);
    socket.on('close', end);
    socket.on('data', (chunk: Buffer) => {
      if (!over && !this.destroyed) this.receive(socket, chunk);
    });
  }

  private receive(socket: Socket, chunk: Buffer): void {
    try {
      for (const { kind, cursor, length, payload } of this.parser.push(chunk)) {
        this.fruitless = 0;
        if (kind === pieceKind.taken) this.forget(length);
        else if (kind === pieceKind.end) this.finish();
        else {
          this.cursor = cursor;
          for (const part of payload) if (!this.push(part)) socket.pause();
          if (!this.hasBegun) this.begin();
        }
      }
    } catch (error) {
      this.destroy(new DataLoss('the stream to the service is not what it should be', { cause: error }));
    }
  }

  private begin(): void {
    this.hasBegun = true;
    this.emit('begin');
  }

  /** Resolves with the first piece, from which on the stream can go on elsewhere, or when it is over without one. */
  async whenBegun(): Promise<void> {
    if (!this.hasBegun) await once(this, 'begin');
  }

  private finish(): void {
    this.hasEnded = true;
    if (!this.hasBegun) this.begin();
    this.push(null);
    this.forget(this.untakenBytes);
  }

  private async goOn(): Promise<void> {
    this.socket.destroy();
    try {
      const open = this.cursor === '' ? this.options.restart : this.options.reopen;
      if (open === undefined || ++this.fruitless > mostFruitlessCuts) throw new Unavailable('the stream to the service broke');
      const socket = await this.reopen(open);
      if (this.destroyed) {
        socket.destroy();
        return;
      }
      this.follow(socket);
      for (const chunk of this.untaken) socket.write(chunk);
      if (this.inputEnded) socket.end();
    } catch (error) {
      await this.lose(error);
    }
  }

  private async reopen(open: (cursor: string) => Promise<Socket>): Promise<Socket> {
    const until = Date.now() + patienceMs;
    for (;;) {
      try {
        return await open(this.cursor);
      } catch (error) {
        if (this.destroyed || Date.now() > until || !(isUnavailable(error) || isDeadlineExceeded(error))) throw error;
      }
      await pause(retryMs);
    }
  }

  private async lose(error: unknown): Promise<void> {
    if (this.destroyed) return;
    if (this.options.lastWords === undefined) {
      this.destroy(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    const words = await this.options.lastWords().catch(() => Buffer.alloc(0));
    if (this.destroyed) return;
    if (words.length > 0) this.push(words);
    this.finish();
  }

  /** Input that has reached its goal need not be kept. */
  private forget(bytes: number): void {
    this.untakenBytes -= bytes;
    let left = bytes;
    while (left > 0) {
      const first = this.untaken[0];
      if (first === undefined) break;
      if (first.length > left) this.untaken[0] = first.subarray(left);
      else this.untaken.shift();
      left -= first.length;
    }
    if (this.untakenBytes > mostUntakenBytes) return;
    const taken = this.taken;
    this.taken = undefined;
    taken?.();
  }

  override _read(): void {
    this.socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    if (this.hasEnded) {
      done();
      return;
    }
    this.untaken.push(chunk);
    this.untakenBytes += chunk.length;
    if (this.socket.writable) this.socket.write(chunk);
    if (this.untakenBytes <= mostUntakenBytes) done();
    else this.taken = done;
  }

  override _final(done: (error?: Error | null) => void): void {
    this.inputEnded = true;
    if (this.socket.writable) this.socket.end();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.sayGoodbye();
    const taken = this.taken;
    this.taken = undefined;
    taken?.();
    done(error);
  }

  /** Who leaves ends its side before it closes: the server takes what only closes for cut, and keeps it for a while. */
  private sayGoodbye(): void {
    const { socket } = this;
    if (this.hasEnded || !socket.writable) {
      socket.destroy();
      return;
    }
    socket.pause();
    socket.end();
    setTimeout(() => socket.destroy(), goodbyeMs).unref();
  }
}
