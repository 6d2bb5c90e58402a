/** JSON bodies: size, content type and document, refused with dockerd's words. */
import type { IncomingMessage } from 'node:http';
import { DecodeError, decodeDocument, type Shape } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';

/** Far above any real document, far below what would hurt. */
const limitBytes = 4 * 1024 * 1024;

/** Whether a request brings a body at all. */
export function hasBody(request: IncomingMessage): boolean {
  const length = request.headers['content-length'];
  return request.headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0');
}

/** A request with a body must say that it is JSON; one without need say nothing. */
export function checkContentType(request: IncomingMessage): void {
  const contentType = request.headers['content-type'] ?? '';
  if (contentType === '' && !hasBody(request)) return;
  const mediaType = contentType.split(';', 1)[0]?.trim().toLowerCase() ?? '';
  if (mediaType === '') throw new InvalidParameter(`malformed Content-Type header (${contentType}): mime: no media type`);
  if (mediaType !== 'application/json') {
    throw new InvalidParameter(`unsupported Content-Type header (${contentType}): must be 'application/json'`);
  }
}

/**
 * Reads the whole body.
 *
 * @param complete - tells when enough has come, for clients that never end a body they have said all of.
 * @throws InvalidParameter when it is too large.
 */
export function readBody(request: IncomingMessage, complete?: (text: string) => boolean): Promise<string> {
  if (!hasBody(request)) return Promise.resolve('');
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const settle = (): void => {
      request.off('data', onData);
      request.off('end', onEnd);
      request.off('close', onClose);
      request.off('error', onError);
    };
    const finish = (text: string): void => {
      settle();
      resolve(text);
    };
    const onError = (error: Error): void => {
      settle();
      reject(new InvalidParameter('invalid JSON: unexpected EOF', { cause: error }));
    };
    const onClose = (): void => onError(new Error('the client left'));
    const onEnd = (): void => finish(Buffer.concat(chunks, size).toString('utf8'));
    const onData = (chunk: Buffer): void => {
      chunks.push(chunk);
      size += chunk.length;
      if (size > limitBytes) {
        settle();
        request.resume();
        reject(new InvalidParameter('http: request body too large'));
      } else if (complete !== undefined) {
        const text = Buffer.concat(chunks, size).toString('utf8');
        if (complete(text)) {
          // What follows belongs to whoever reads the stream next.
          request.pause();
          finish(text);
        }
      }
    };
    request.on('data', onData);
    request.on('end', onEnd);
    request.on('close', onClose);
    request.on('error', onError);
  });
}

/** Decodes a document that must be there. @throws InvalidParameter */
export function decodeBody<T>(shape: Shape<T>, text: string): T | undefined {
  if (text.trim() === '') throw new InvalidParameter('invalid JSON: got EOF while reading request body');
  try {
    return decodeDocument(shape, text);
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    const trailing = error.message === 'unexpected content after JSON';
    throw new InvalidParameter(trailing ? error.message : `invalid JSON: ${error.message}`, { cause: error });
  }
}

/** A JSON body; a request without one, or with `null`, gives an empty document. */
export async function optionalJson<T extends object>(request: IncomingMessage, shape: Shape<T>): Promise<Partial<T>> {
  checkContentType(request);
  if (request.headers['content-length'] === '0' || !hasBody(request)) return {};
  return decodeBody(shape, await readBody(request)) ?? {};
}

/** A JSON body that must be there; undefined for `null`. */
export async function requiredJson<T>(request: IncomingMessage, shape: Shape<T>): Promise<T | undefined> {
  checkContentType(request);
  return decodeBody(shape, await readBody(request));
}
