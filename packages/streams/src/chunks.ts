/** Reading bulk bytes as they come. */
import { on } from 'node:events';
import type { Readable } from 'node:stream';

const mostWaiting = 8;
const fewWaiting = 4;

/**
 * A stream's chunks, each as it came in: a stream's own iterator first copies what has gathered into one buffer. Leaving it early leaves the stream open,
 * for whoever still has to answer.
 *
 * @throws Error when the stream fails, or closes before its end.
 */
export async function* chunksOf(stream: Readable): AsyncGenerator<Buffer> {
  if (!stream.destroyed && !stream.readableEnded) {
    const arrivals = on(stream, 'data', { close: ['end', 'close'], highWaterMark: mostWaiting, lowWaterMark: fewWaiting });
    for await (const [chunk] of arrivals) yield chunk as Buffer;
  }
  if (!stream.readableEnded) throw new Error('the stream closed before its end');
}
