/** Answers. The content type is `application/json` to the letter: with a charset the CLI prints the raw document. */
import type { ServerResponse } from 'node:http';

/** Sends a document, or the bytes of one as a service wrote it. */
export function sendJson(response: ServerResponse, status: number, document: unknown): void {
  const body = document instanceof Uint8Array ? document : Buffer.from(JSON.stringify(document));
  response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': body.length });
  response.end(body);
}

export function sendNoContent(response: ServerResponse): void {
  response.writeHead(204);
  response.end();
}

/** An answer without a body and with a status of its own. */
export function sendEmpty(response: ServerResponse, status: number): void {
  response.writeHead(status, { 'Content-Length': 0 });
  response.end();
}

/** Fires when the client has left before it had its whole answer. */
export function clientGone(response: ServerResponse): AbortSignal {
  const abort = new AbortController();
  if (response.destroyed || response.socket?.destroyed) abort.abort();
  response.on('close', () => {
    if (!response.writableFinished) abort.abort();
  });
  return abort.signal;
}
