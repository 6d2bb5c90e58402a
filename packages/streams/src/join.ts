/** Moving bytes between two streams: back-pressure both ways, half-close in each direction, one end for both. */
import type { Duplex, Writable } from 'node:stream';

/** Writes a chunk and waits until the stream can take more. Rejects when the stream fails or closes first. */
export function writeAll(stream: Writable, chunk: Uint8Array | string): Promise<void> {
  if (stream.destroyed || stream.writableEnded) return Promise.reject(new Error('the stream is closed'));
  if (stream.write(chunk)) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      stream.off('drain', onDrain);
      stream.off('close', onClose);
      stream.off('error', onError);
    };
    const onDrain = (): void => {
      settle();
      resolve();
    };
    const onClose = (): void => {
      settle();
      reject(new Error('the stream closed'));
    };
    const onError = (error: Error): void => {
      settle();
      reject(error);
    };
    stream.on('drain', onDrain);
    stream.on('close', onClose);
    stream.on('error', onError);
  });
}

/**
 * Joins two duplex streams until both directions have ended, or either has closed or failed, or `signal` fires. An end on one side ends the other's
 * writing only: a client that has sent its last byte still gets its answer. Afterwards both are destroyed.
 */
export function joinStreams(a: Duplex, b: Duplex, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    let open = 2;
    let settled = false;
    const finish = (): void => {
      if (settled) return;
      settled = true;
      signal?.removeEventListener('abort', finish);
      a.destroy();
      b.destroy();
      resolve();
    };
    const halfDone = (): void => {
      open--;
      if (open === 0) finish();
    };
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      from.on('error', finish);
      // A side that closed without an end takes no more bytes; what the other has written to it is lost to nobody who reads.
      from.on('close', () => {
        if (!from.readableEnded) finish();
      });
      from.on('end', () => {
        if (to.writableEnded || to.destroyed) halfDone();
        else to.end(halfDone);
      });
      from.pipe(to, { end: false });
    }
    if (signal?.aborted) finish();
    else signal?.addEventListener('abort', finish, { once: true });
  });
}
