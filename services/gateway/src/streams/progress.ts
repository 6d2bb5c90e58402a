/** Streams of JSON lines: progress of pull and push, samples of stats. */
import type { ServerResponse } from 'node:http';
import { errorMessage } from '@flotilla/errors';
import { encodeLine } from '@flotilla/streams';
import { drained } from './transfer.ts';

const lineEnd = Buffer.from('\r\n');

/**
 * Sends documents, one a line, each at once. An error before the first is thrown (and becomes the status); one after it is a last line with
 * `errorDetail`.
 */
export async function sendLines(response: ServerResponse, documents: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
  try {
    for await (const document of documents) {
      if (!response.headersSent) response.writeHead(200, { 'Content-Type': 'application/json' });
      response.socket?.setNoDelay(true);
      const whole = document[document.length - 1] === 10 ? document : Buffer.concat([document, lineEnd]);
      if (!response.write(whole)) await drained(response);
      if (signal.aborted) return;
    }
  } catch (error) {
    if (!response.headersSent || signal.aborted) throw error;
    response.write(errorLine(error));
  }
  if (!response.headersSent) response.writeHead(200, { 'Content-Type': 'application/json' });
  response.end();
}

/** The last line of a progress stream that failed. */
export function errorLine(error: unknown): Buffer {
  const message = errorMessage(error);
  return encodeLine({ errorDetail: { message }, error: message });
}

/** Picks the bytes out of a service's messages. */
export async function* mapMessages<T>(messages: AsyncIterable<T>, bytes: (message: T) => Uint8Array): AsyncIterable<Uint8Array> {
  for await (const message of messages) yield bytes(message);
}
