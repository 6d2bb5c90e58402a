/** Noticing that the peer of a half-open connection has left for good. */
import type { Socket } from 'node:net';

const probeEveryMs = 5_000;
const nothing = Buffer.alloc(0);
/** How long the kernel's word is waited for behind output that the peer does not read. */
const answerMs = 250;

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

/**
 * Whether the peer of a connection that has ended is gone for good, as one whose link broke is, and has not only ended its input. A unix socket tells; on TCP an
 * end looks the same in both cases, and only a reset is a departure.
 */
export function hasLeft(socket: Socket): Promise<boolean> {
  if (socket.destroyed || !socket.readableEnded || !socket.writable) return Promise.resolve(socket.destroyed);
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(socket.destroyed), answerMs);
    socket.write(nothing, (error) => {
      clearTimeout(timer);
      resolve(error !== null && error !== undefined);
    });
  });
}
