/** How failures become answers: `{"message"}` with the status of the error's class. */
import type { ServerResponse } from 'node:http';
import { errorKind, InvalidParameter, NotFound, toHttp } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
import type { ErrorRequestHandler, RequestHandler } from 'express';
import { sendEmpty, sendJson } from '../http/respond.ts';
import { rawStream } from '../streams/hijack.ts';

export function sendError(response: ServerResponse, error: unknown): void {
  const { status, body } = toHttp(error);
  if (response.headersSent) {
    response.destroy();
    return;
  }
  for (const name of ['Content-Type', 'Content-Length', 'Transfer-Encoding']) response.removeHeader(name);
  // A client that is still sending a body reads its answer only when it has sent all of it.
  response.req?.resume();
  if (body === undefined) sendEmpty(response, status);
  else sendJson(response, status, body);
}

/** Attach answers its errors as the stream that was asked for: the message and a line's end, no document. Clients read it to the end of the connection. */
export function sendStreamError(response: ServerResponse, error: unknown): void {
  const { status, body } = toHttp(error);
  if (response.headersSent) {
    response.destroy();
    return;
  }
  response.req?.resume();
  const bytes = Buffer.from(`${body?.message ?? ''}\r\n`);
  // Old clients show what follows the header as it is: the sizes of chunks would be among it.
  response.writeHead(status, { 'Content-Type': rawStream, 'Content-Length': bytes.length, Connection: 'close' });
  response.end(bytes);
}

/** Express fails with an error of its own for a path whose percent escapes are broken. */
function classified(error: unknown): unknown {
  return error instanceof URIError ? new InvalidParameter('invalid URL escape in the request path', { cause: error }) : error;
}

export function errorHandler(logger: Logger): ErrorRequestHandler {
  return (thrown, request, response, _next) => {
    const error = classified(thrown);
    const kind = errorKind(error);
    const fields = { method: request.method, path: request.path, kind };
    if (kind === 'System' || kind === 'Unknown' || kind === 'DataLoss') logger.error({ ...fields, error }, 'request failed');
    else logger.debug({ ...fields, reason: error instanceof Error ? error.message : undefined }, 'request refused');
    sendError(response, error);
  };
}

/** What is answered where no operation is. dockerd answers a known path with an unknown method in the same way. */
export const notFound = (): NotFound => new NotFound('page not found');

export const pageNotFound: RequestHandler = (_request, response) => {
  sendError(response, notFound());
};

/** Answers that end only when something else does: asking for their headers alone would wait for ever. */
const endless = /\/(?:events|logs|stats|attach\/ws)$/;

/** HEAD is GET without the body, except for streams. */
export const refuseHeadOfStreams: RequestHandler = (request, response, next) => {
  if (request.method === 'HEAD' && endless.test(request.path)) pageNotFound(request, response, next);
  else next();
};
