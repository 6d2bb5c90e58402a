/** Noticing that the peer of a half-open connection has left for good. */
import type { Socket } from 'node:net';

const probeEveryMs = 5_000;
const nothing = Buffer.alloc(0);

/**
 * A peer that leaves and one that only ends its input look the same until something is written: with nothing to say, a connection whose peer is long gone
 * would be kept. On a unix socket the kernel tells at a write of nothing (EPIPE, so the socket fails); on TCP its own probes do.
 */
export function watchDeparture(socket: Socket, everyMs: number = probeEveryMs): void {
  if (socket.remoteAddress !== undefined) {
    socket.setKeepAlive(true, 30_000);
    return;
  }
  socket.once('end', () => {
    const timer = setInterval(() => {
      if (socket.writable && socket.writableLength === 0) socket.write(nothing);
    }, everyMs).unref();
    socket.once('close', () => clearInterval(timer));
  });
}
