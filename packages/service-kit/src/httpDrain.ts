/** An HTTP server that leaves its clients to other instances: no connection is taken from under a request. */
import type { Server } from 'node:http';
import { Server as NetServer } from 'node:net';
import type { Drainable } from './lifecycle.ts';

export function drainHttp(name: string, server: Server): Drainable {
  let connections = 0;
  let isLeaving = false;
  server.on('connection', (socket) => {
    connections++;
    socket.once('close', () => connections--);
  });
  server.prependListener('request', (_request, response) => {
    // The client asks on another connection next time, which is another instance's.
    if (isLeaving) response.shouldKeepAlive = false;
  });
  return {
    name,
    begin: () => {
      isLeaving = true;
      // HTTP's own `close` ends idle connections at once, and clients that are just sending a request on one would lose it.
      NetServer.prototype.close.call(server);
    },
    move: () => server.closeIdleConnections(),
    isBusy: () => connections > 0,
  };
}
