/**
 * The Distribution API as image-service speaks it: to registry-proxy, at `/v2/<registry-host>/<repository>/…`. Errors come back as the registry's
 * own codes and words.
 */
import type { IncomingMessage, RequestOptions } from 'node:http';
import type { Readable } from 'node:stream';
import { outgoingHeaders } from '@flotilla/service-kit';
import { http } from '@flotilla/service-kit/http';

/** Where an HTTP server listens: `unix:/path`, `host:port` or `http://host:port`. */
export type HttpAddress = string;

/** Runs a request against the Distribution API; when nobody is there, again against whoever is there next. */
export type WithRegistry = <T>(work: (address: HttpAddress) => Promise<T>, signal: AbortSignal) => Promise<T>;

export interface BlobSource {
  readonly address: HttpAddress;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** What a registry answered instead of content. */
export class RegistryError extends Error {
  override readonly name = 'RegistryError';
  /** `MANIFEST_UNKNOWN`…; empty when it said none. */
  readonly code: string;
  readonly status: number;
  /** Worth another attempt. */
  readonly passing: boolean;

  constructor(message: string, options: { code?: string; status?: number; passing?: boolean; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.code = options.code ?? '';
    this.status = options.status ?? 0;
    this.passing = options.passing ?? false;
  }
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: IncomingMessage;
}

const agent = new http.Agent({ keepAlive: true, maxSockets: 32, timeout: 30_000 });
/** Nobody waits longer for the first byte of an answer, or between two. */
const idleTimeoutMs = 120_000;
const maxErrorBytes = 64 * 1024;

function connection(address: HttpAddress): RequestOptions {
  if (address.startsWith('unix:')) return { socketPath: address.slice('unix:'.length), host: 'registry-proxy' };
  const url = new URL(address.includes('://') ? address : `http://${address}`);
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port === '' ? 80 : Number(url.port) };
}

/** Sends one request. `body` is written whole or piped. @throws RegistryError when nobody answers. */
export function send(
  address: HttpAddress,
  options: {
    method: string;
    path: string;
    headers?: Readonly<Record<string, string>>;
    body?: Uint8Array | Readable;
    signal?: AbortSignal;
  },
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.request({
      ...connection(address),
      agent,
      method: options.method,
      path: options.path,
      headers: { 'User-Agent': 'flotilla', ...outgoingHeaders(), ...options.headers },
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    request.setTimeout(idleTimeoutMs, () => request.destroy(new RegistryError('the registry does not answer', { passing: true })));
    request.on('response', (body) => resolve({ status: body.statusCode ?? 0, headers: body.headers, body }));
    request.on('error', (error) => reject(asRegistryError(error, options)));
    if (options.body === undefined) request.end();
    else if (options.body instanceof Uint8Array) request.end(options.body);
    else {
      const { body } = options;
      body.on('error', (error) => request.destroy(error));
      request.on('close', () => body.destroy());
      body.pipe(request);
    }
  });
}

/** The code of a request that found nobody at the address: registry-proxy has gone, and may be back somewhere else. */
export const proxyGone = 'PROXY_GONE';

/** What a request is that failed before its answer began. */
function asRegistryError(error: unknown, { method, signal }: { method: string; signal?: AbortSignal }): unknown {
  if (signal?.aborted || error instanceof RegistryError) return error;
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ECONNREFUSED' || code === 'ENOENT') {
    return new RegistryError('registry-proxy is not available', { code: proxyGone, cause: error });
  }
  const cause = error instanceof Error ? error.message : String(error);
  // A connection that an instance closed as it left, or died with: what only reads is asked again elsewhere.
  if ((code === 'EPIPE' || code === 'ECONNRESET') && (method === 'GET' || method === 'HEAD')) {
    return new RegistryError(`registry-proxy is not available: ${cause}`, { code: proxyGone, passing: true, cause: error });
  }
  return new RegistryError(`registry-proxy is not available: ${cause}`, { passing: true, cause: error });
}

/** Reads a small answer whole. @throws RegistryError when it passes `maxBytes`. */
export async function readBody(answer: Answer, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of answer.body as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBytes) {
      answer.body.destroy();
      throw new RegistryError(`answer of the registry is larger than ${maxBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Makes an error of an answer: the first of the registry's own errors, else its status. */
export async function refusal(answer: Answer): Promise<RegistryError> {
  const { status } = answer;
  const passing = status === 502 || status === 503 || status === 504 || status === 429;
  let text = '';
  try {
    text = (await readBody(answer, maxErrorBytes)).toString('utf8');
    const document = JSON.parse(text) as { errors?: { code?: unknown; message?: unknown }[] };
    const first = document.errors?.[0];
    if (first !== undefined && typeof first.code === 'string') {
      return new RegistryError(typeof first.message === 'string' ? first.message : '', { code: first.code, status, passing });
    }
  } catch {
    // No JSON: the status says what there is to say.
  }
  return new RegistryError(`received unexpected HTTP status: ${status} ${answer.body.statusMessage ?? ''}`.trim(), { status, passing });
}

/** Opens a blob's bytes from `offset` on; a registry that knows no ranges begins at 0 again. @throws RegistryError */
export async function openBlob(source: BlobSource, offset: number, signal: AbortSignal): Promise<{ body: Readable; offset: number }> {
  const answer = await send(source.address, {
    method: 'GET',
    path: source.path,
    headers: { ...source.headers, ...(offset > 0 ? { Range: `bytes=${offset}-` } : {}) },
    signal,
  });
  if (answer.status === 200) return { body: answer.body, offset: 0 };
  if (answer.status === 206) {
    const start = Number(/^bytes (\d+)-/.exec(answer.headers['content-range'] ?? '')?.[1]);
    if (Number.isInteger(start) && start <= offset) return { body: answer.body, offset: start };
  }
  throw await refusal(answer);
}
