/**
 * Raw streams on a client's connection: attach and exec. Nothing else in the gateway touches the socket.
 *
 * Requests with an Upgrade header come through Express like any other (the server's `shouldUpgradeCallback` says no to Node's own upgrade), so
 * that bodies, by Content-Length or chunked, are read the ordinary way, errors are ordinary answers, and what is not ours is never swallowed.
 * Once the answer is known, the socket is taken from Node's HTTP parser.
 */
import { fstatSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { System } from '@flotilla/errors';
import { type GivenConnection, joinStreams, type Opened, watchDeparture } from '@flotilla/streams';
import { descriptorOf, readOn, stopReading } from '@flotilla/syscalls';
import { olderThan } from '../http/apiVersion.ts';
import { copyTo, endWithClient } from './transfer.ts';

export const rawStream = 'application/vnd.docker.raw-stream';
export const multiplexedStream = 'application/vnd.docker.multiplexed-stream';

/** How long a client may take to close its side after it has everything; dockerd closes at once. */
const lingerMs = 5_000;

/** The content type of a container's output: frames are named as such from API 1.42 on. */
export function outputType(request: IncomingMessage, tty: boolean): string {
  return tty || olderThan(request, '1.42') ? rawStream : multiplexedStream;
}

/** The part of Node's HTTP parser that hands a connection back. */
interface Parser {
  unconsume?(): void;
  remove?(): void;
}

/** Node's own listeners on a connection, by the names of their functions. */
const nodesOwn = /^(bound )?(socketOn|abortIncoming|onParserExecute)/;

/** Takes the connection from the HTTP server: from now on its bytes are ours, and the server's time-outs do not apply. */
export function takeSocket(request: IncomingMessage, response: ServerResponse): Socket {
  const socket = request.socket as Socket & { parser?: Parser | null };
  if (socket.destroyed) throw new System('error attaching to container, hijack connection missing');
  response.detachSocket(socket);
  for (const event of ['data', 'end', 'close', 'drain', 'error', 'timeout', 'readable'] as const) {
    for (const listener of socket.listeners(event)) {
      if (nodesOwn.test(listener.name)) socket.off(event, listener as (...args: unknown[]) => void);
    }
  }
  socket.parser?.unconsume?.();
  socket.parser?.remove?.();
  socket.parser = null;
  socket.setTimeout(0);
  socket.setNoDelay(true);
  socket.on('error', () => socket.destroy());
  // For whoever waits for the end of the exchange: it is the connection's.
  socket.once('close', () => response.emit('close'));
  return socket;
}

/** Whether the client asked for an upgrade; without it the answer is a plain 200 and raw bytes after it. */
function wantsUpgrade(request: IncomingMessage): boolean {
  return request.headers.upgrade !== undefined;
}

/**
 * Answers with a raw stream and joins it with a service's.
 *
 * The client's half-close is the end of standard input: output goes on. When the service has ended its side and all of it is with the client,
 * the connection is closed. A peer that leaves ends the other.
 */
export async function hijack(request: IncomingMessage, response: ServerResponse, service: Duplex, tty: boolean): Promise<void> {
  if (!wantsUpgrade(request) && !request.complete) {
    await joinExchange(request, response, service);
    return;
  }
  let client: Socket;
  try {
    client = takeSocket(request, response);
  } catch (error) {
    service.destroy();
    throw error;
  }
  const type = outputType(request, tty);
  response.statusCode = wantsUpgrade(request) ? 101 : 200;
  client.write(
    wantsUpgrade(request)
      ? `HTTP/1.1 101 UPGRADED\r\nContent-Type: ${type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n`
      : `HTTP/1.1 200 OK\r\nContent-Type: ${rawStream}\r\n\r\n`,
  );
  const done = new AbortController();
  if (!(client instanceof TLSSocket)) watchDeparture(client);
  client.once('finish', () => setTimeout(() => done.abort(), lingerMs).unref());
  // Node's server may have left the connection paused while the request was handled.
  client.resume();
  await joinStreams(client, service, done.signal);
}

/** Opens a service's stream for a client, and gives it the client's connection where that is a plain one. */
type Open = (given: GivenConnection | undefined, head: Buffer) => Promise<Opened>;

/**
 * Hands an upgrade over to the service that speaks its protocol, which answers it too: the service gets the client's connection itself, or is joined with it until
 * one leaves, where the connection is not a plain one or the service cannot take it.
 *
 * @throws what `open` does: the request is still to be answered then.
 */
export async function handOver(request: IncomingMessage, response: ServerResponse, open: Open): Promise<void> {
  // From here on what the client sends is not for us.
  const given = plainConnection(request.socket);
  if (given !== undefined) stopReading(request.socket);
  let opened: Opened;
  try {
    opened = await open(given, noBytes);
  } catch (error) {
    if (given !== undefined) readOn(request.socket);
    throw error;
  }
  let client: Socket;
  try {
    client = takeSocket(request, response);
  } catch (error) {
    opened.stream.destroy();
    throw error;
  }
  response.statusCode = 101;
  await letGo(client, opened);
}

/**
 * The same, with the answer given at once and the service not troubled before the client says something: one that only wanted to know leaves without.
 *
 * @throws what `open` does; the client has lost its connection then.
 */
export async function handOverWhenSpoken(request: IncomingMessage, response: ServerResponse, protocol: string, open: Open): Promise<void> {
  const client = takeSocket(request, response);
  response.statusCode = 101;
  client.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`);
  const given = plainConnection(client);
  const head = await firstBytes(client, given !== undefined);
  if (head === undefined) {
    client.destroy();
    return;
  }
  try {
    await letGo(client, await open(given, head));
  } catch (error) {
    client.destroy();
    throw error;
  }
}

const noBytes = Buffer.alloc(0);

/** A service that has the connection needs nothing of it here: this process's side is closed, which ends nothing. */
async function letGo(client: Socket, { stream, isTaken }: Opened): Promise<void> {
  if (isTaken) {
    client.destroy();
    return;
  }
  // HTTP/2 has no half-closed connections: a peer that has ended is gone.
  const done = new AbortController();
  client.once('end', () => setTimeout(() => done.abort(), lingerMs).unref());
  if (!(client instanceof TLSSocket)) readOn(client);
  client.resume();
  await joinStreams(client, stream, done.signal);
}

/** What a client sends first, with the reading stopped behind it if so wanted; undefined when it leaves without a word. */
function firstBytes(client: Socket, stops: boolean): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const settle = (head: Buffer | undefined): void => {
      client.off('readable', read);
      client.off('end', left);
      client.off('close', left);
      resolve(head);
    };
    const read = (): void => {
      const parts: Buffer[] = [];
      for (let chunk = client.read() as Buffer | null; chunk !== null; chunk = client.read() as Buffer | null) parts.push(chunk);
      if (parts.length === 0) return;
      if (stops) stopReading(client);
      settle(Buffer.concat(parts));
    };
    const left = (): void => settle(undefined);
    client.on('readable', read);
    client.on('end', left);
    client.on('close', left);
  });
}

/** Undefined for one that is encrypted: its bytes are nothing without what is here. */
function plainConnection(socket: Socket): GivenConnection | undefined {
  const fd = socket instanceof TLSSocket ? undefined : descriptorOf(socket);
  return fd === undefined ? undefined : { fd, inode: fstatSync(fd).ino };
}

/** For clients that send standard input as the request's body, in chunks, and end it with the last one (dockerode without `hijack`). */
async function joinExchange(request: IncomingMessage, response: ServerResponse, service: Duplex): Promise<void> {
  response.writeHead(200, { 'Content-Type': rawStream });
  response.flushHeaders();
  response.socket?.setNoDelay(true);
  endWithClient(response, service);
  request.on('error', () => service.destroy());
  request.pipe(service);
  try {
    await copyTo(response, service);
  } catch {
    response.destroy();
  } finally {
    request.unpipe(service);
    request.resume();
  }
}
