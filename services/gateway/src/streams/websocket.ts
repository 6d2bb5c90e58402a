/** Attach over a websocket: one message a chunk, standard output and error as they come, without frames. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type Duplex, Transform } from 'node:stream';
import { InvalidParameter } from '@flotilla/errors';
import { joinStreams, StdcopyDemultiplexer } from '@flotilla/streams';
import { createWebSocketStream, type WebSocket, WebSocketServer } from 'ws';
import { olderThan } from '../http/apiVersion.ts';
import { takeSocket } from './hijack.ts';

const server = new WebSocketServer({ noServer: true, maxPayload: 16 * 1024 * 1024, perMessageDeflate: false });

export function isHandshake(request: IncomingMessage): boolean {
  return request.headers.upgrade?.toLowerCase() === 'websocket' && request.headers['sec-websocket-key'] !== undefined;
}

/** @throws InvalidParameter for a request that is no websocket handshake. */
export function checkHandshake(request: IncomingMessage): void {
  if (!isHandshake(request)) {
    throw new InvalidParameter('bad handshake: this request must be a websocket upgrade');
  }
}

/** Completes the handshake and joins the websocket with a service's stream. */
export async function joinWebSocket(request: IncomingMessage, response: ServerResponse, service: Duplex, tty: boolean): Promise<void> {
  const client = takeSocket(request, response);
  const websocket = await new Promise<WebSocket | undefined>((resolve) => {
    client.once('close', () => resolve(undefined));
    server.handleUpgrade(request, client, Buffer.alloc(0), resolve);
  });
  if (websocket === undefined) {
    service.destroy();
    return;
  }
  // Clients older than 1.28 expect text messages.
  const messages = createWebSocketStream(websocket, olderThan(request, '1.28') ? { decodeStrings: false, encoding: 'utf8' } : {});
  const output = tty ? service : service.pipe(withoutFrames());
  const abort = new AbortController();
  output.on('end', () => websocket.close(1000));
  websocket.on('close', () => setImmediate(() => abort.abort()));
  messages.on('error', () => abort.abort());
  if (output === service) {
    await joinStreams(messages, service, abort.signal);
    return;
  }
  output.pipe(messages, { end: false });
  messages.pipe(service);
  await new Promise<void>((resolve) => {
    const finish = (): void => {
      messages.destroy();
      service.destroy();
      resolve();
    };
    service.on('close', () => {
      if (!service.readableEnded) finish();
    });
    abort.signal.addEventListener('abort', finish, { once: true });
  });
}

/** Takes the stdcopy frames apart and lets their payloads through. */
function withoutFrames(): Transform {
  const demultiplexer = new StdcopyDemultiplexer();
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      try {
        for (const { payload } of demultiplexer.push(chunk)) this.push(payload);
        done();
      } catch (error) {
        done(error instanceof Error ? error : new Error(String(error)));
      }
    },
  });
}
