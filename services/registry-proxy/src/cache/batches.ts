/**
 * A stream's chunks in batches: while one batch is being written the next gathers, so a fast sender costs few large writes and a slow one
 * is passed on at once. Holds at most `limit` bytes; the sender waits then.
 */
import type { Readable } from 'node:stream';

export async function* batches(body: Readable, limit: number): AsyncGenerator<Buffer[]> {
  let chunks: Buffer[] = [];
  let size = 0;
  let ended = false;
  let failure: unknown;
  let wake: () => void = () => undefined;
  const onData = (chunk: Buffer): void => {
    chunks.push(chunk);
    size += chunk.length;
    if (size >= limit) body.pause();
    wake();
  };
  const onEnd = (): void => {
    ended = true;
    wake();
  };
  const onError = (error: unknown): void => {
    failure ??= error;
    wake();
  };
  const onClose = (): void => {
    if (!ended) failure ??= new Error('unexpected EOF');
    wake();
  };
  body.on('data', onData).on('end', onEnd).on('error', onError).on('close', onClose);
  try {
    for (;;) {
      if (chunks.length > 0) {
        const batch = chunks;
        chunks = [];
        size = 0;
        body.resume();
        yield batch;
      } else if (failure !== undefined) throw failure;
      else if (ended) return;
      else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } finally {
    body.off('data', onData).off('end', onEnd).off('error', onError).off('close', onClose);
    // A late error has no listener left, and is nobody's concern any more.
    body.on('error', () => undefined);
  }
}
