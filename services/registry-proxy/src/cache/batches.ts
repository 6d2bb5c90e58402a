/**
 * A stream's chunks in batches: what comes within a moment goes together, so a fast sender costs few large writes and a slow one is passed
 * on nearly at once, its first bytes without delay. Holds at most `limit` bytes; the sender waits then.
 */
import type { Readable } from 'node:stream';

/** A batch this large waits for nothing more. */
const goodBytes = 512 * 1024;
const gatherMs = 2;

export async function* batches(body: Readable, limit: number): AsyncGenerator<Buffer[]> {
  let chunks: Buffer[] = [];
  let size = 0;
  let ended = false;
  let failure: unknown;
  let gathering = false;
  let wake: () => void = () => undefined;
  const woken = (): Promise<void> =>
    new Promise((resolve) => {
      wake = resolve;
    });
  const onData = (chunk: Buffer): void => {
    chunks.push(chunk);
    size += chunk.length;
    if (size >= limit) body.pause();
    if (!gathering || size >= goodBytes) wake();
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
    for (let count = 0; ; ) {
      if (chunks.length > 0) {
        if (count++ > 0 && size < goodBytes && !ended && failure === undefined) {
          gathering = true;
          const timer = setTimeout(() => wake(), gatherMs);
          await woken();
          clearTimeout(timer);
          gathering = false;
        }
        const batch = chunks;
        chunks = [];
        size = 0;
        body.resume();
        yield batch;
      } else if (failure !== undefined) throw failure;
      else if (ended) return;
      else await woken();
    }
  } finally {
    body.off('data', onData).off('end', onEnd).off('error', onError).off('close', onClose);
    // A late error has no listener left, and is nobody's concern any more.
    body.on('error', () => undefined);
  }
}
