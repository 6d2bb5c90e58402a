/**
 * A blob, or a part of it, to one client: two buffers, one being filled from the file while the other is on its way out. A client that
 * stops reading holds those two and nothing else.
 */
import type { ServerResponse } from 'node:http';
import type { BlobReader } from '../blobs.ts';

/** Large enough that the per-chunk cost does not count, small enough for hundreds of slow clients. */
const chunkBytes = 256 * 1024;

/**
 * Writes bytes from `start` on.
 *
 * @param end - exclusive; undefined: to the blob's end, whose size nobody knows yet.
 * @returns bytes sent.
 * @throws what the reader throws: the answer must then be cut, not ended.
 */
export async function sendBlob(
  reader: BlobReader,
  response: ServerResponse,
  start: number,
  end: number | undefined,
  signal: AbortSignal,
): Promise<number> {
  const size = Math.min(chunkBytes, Math.max(1, (end ?? Number.MAX_SAFE_INTEGER) - start));
  const buffers = [Buffer.allocUnsafeSlow(size), Buffer.allocUnsafeSlow(size)] as const;
  let position = start;
  let sending: Promise<void> = Promise.resolve();
  for (let turn = 0; end === undefined || position < end; turn ^= 1) {
    const limit = Math.min(await reader.available(position, signal), end ?? Number.MAX_SAFE_INTEGER);
    if (limit <= position) break;
    const buffer = buffers[turn === 0 ? 0 : 1];
    const length = await reader.read(buffer, Math.min(buffer.length, limit - position), position);
    if (length === 0) throw new Error('the blob is shorter than it should be');
    position += length;
    await sending;
    sending = write(response, buffer.subarray(0, length), signal);
    // Awaited in the next turn; a client that leaves meanwhile is no unhandled rejection.
    sending.catch(() => undefined);
  }
  await sending;
  return position - start;
}

/** Resolves when the chunk has left: its buffer may be used again. */
function write(response: ServerResponse, chunk: Buffer, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const leave = (): void => reject(signal.reason);
    if (signal.aborted) return leave();
    signal.addEventListener('abort', leave, { once: true });
    response.write(chunk, (error) => {
      signal.removeEventListener('abort', leave);
      if (error) reject(error);
      else resolve();
    });
  });
}
