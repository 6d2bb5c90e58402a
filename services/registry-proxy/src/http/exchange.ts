/** One request of the Distribution API and how its answers look, whoever gives them. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Digest } from '@flotilla/oci';
import type { BlobReader } from '../blobs.ts';
import type { Credentials } from '../credentials.ts';
import { DistributionError } from '../distributionError.ts';
import type { ServedManifest } from '../manifests.ts';
import { BodyTooLarge, readBody } from '../upstream/transport.ts';
import { parseRange } from './range.ts';
import { sendBlob } from './sendBlob.ts';

/** One request, with all that its handlers need. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly query: URLSearchParams;
  readonly credentials: Credentials;
  /** Fires when the client has left. */
  readonly signal: AbortSignal;
}

const smallBlobBytes = 256 * 1024;
const foreverSeconds = 31_536_000;

export function allow<M extends string>(request: IncomingMessage, methods: readonly M[]): M {
  const found = methods.find((method) => method === request.method);
  if (found === undefined) {
    throw new DistributionError('UNSUPPORTED', 'The operation is unsupported.', { headers: { allow: methods.join(', ') } });
  }
  return found;
}

export function pick(headers: IncomingMessage['headers'], names: readonly string[]): Record<string, string> {
  const picked: Record<string, string> = {};
  for (const name of names) {
    const value = headers[name];
    if (typeof value === 'string') picked[name] = value;
  }
  return picked;
}

export function blobHeaders(digest: Digest, warning?: string): { etag: string } & Record<string, string> {
  return {
    'docker-content-digest': digest,
    'content-type': 'application/octet-stream',
    'accept-ranges': 'bytes',
    etag: `"${digest}"`,
    'cache-control': `max-age=${foreverSeconds}`,
    ...(warning === undefined ? {} : { warning }),
  };
}

/** Sends a blob, or the part that was asked for, and closes it. @returns bytes sent. */
export async function serveBlob(reader: BlobReader, digest: Digest, warning: string | undefined, exchange: Exchange): Promise<number> {
  const { request, response, signal } = exchange;
  try {
    const { sizeBytes } = reader;
    const headers = blobHeaders(digest, warning);
    if (request.headers['if-none-match'] === headers.etag) {
      response.writeHead(304, { etag: headers.etag }).end();
      return 0;
    }
    const range = sizeBytes === undefined ? undefined : parseRange(request.headers.range, sizeBytes);
    const start = range?.start ?? 0;
    const end = range?.end ?? sizeBytes;
    // As long as nothing is sent an error can still be said: a small blob is waited for to its verified end.
    await reader.available(sizeBytes !== undefined && sizeBytes <= smallBlobBytes ? Math.max(0, sizeBytes - 1) : start, signal);
    response.writeHead(range === undefined ? 200 : 206, {
      ...headers,
      ...(end === undefined ? {} : { 'content-length': end - start }),
      ...(range === undefined ? {} : { 'content-range': `bytes ${start}-${range.end - 1}/${sizeBytes}` }),
    });
    const sent = await sendBlob(reader, response, start, end, signal);
    response.end();
    return sent;
  } finally {
    await reader.close();
  }
}

export function sendManifest(manifest: ServedManifest, { request, response }: Exchange): void {
  const headers = {
    'docker-content-digest': manifest.digest,
    'content-type': manifest.mediaType,
    etag: `"${manifest.digest}"`,
    ...(manifest.warning === undefined ? {} : { warning: manifest.warning }),
  };
  if (request.headers['if-none-match'] === headers.etag) {
    response.writeHead(304, headers).end();
    return;
  }
  response.writeHead(200, { ...headers, 'content-length': manifest.sizeBytes });
  response.end(request.method === 'HEAD' ? undefined : manifest.bytes);
}

/** A request's body, whole. */
export async function readRequest(request: IncomingMessage, limit: number): Promise<Buffer> {
  try {
    return await readBody(request, limit);
  } catch (cause) {
    if (cause instanceof BodyTooLarge)
      throw new DistributionError('MANIFEST_INVALID', 'manifest invalid: too large', { status: 413, cause });
    throw cause;
  }
}

export function sendJson(
  response: ServerResponse,
  status: number,
  document: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  const body = Buffer.from(typeof document === 'string' ? document : JSON.stringify(document));
  response.writeHead(status, { 'content-type': 'application/json', ...headers, 'content-length': body.length });
  response.end(response.req.method === 'HEAD' ? undefined : body);
}
