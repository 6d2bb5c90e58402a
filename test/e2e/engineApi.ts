/** Raw requests to the Engine API over its unix socket, for what no CLI would send. */
import { type IncomingHttpHeaders, request } from 'node:http';
import type { TestHost } from '@flotilla/testkit';

export interface ApiAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** The body as JSON; undefined when it is none. */
  readonly json: unknown;
  /** `message` of an error body; '' when there is none. */
  readonly message: string;
}

export interface ApiRequest {
  /** Sent as it is when a string or Buffer, else as JSON. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
}

/** One request; the version prefix is part of the path. */
export function engineApi(host: TestHost, method: string, path: string, options: ApiRequest = {}): Promise<ApiAnswer> {
  const { body } = options;
  const raw = body === undefined ? undefined : typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        socketPath: host.socketPath,
        method,
        path,
        headers: {
          ...(raw !== undefined && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(raw) }),
          ...options.headers,
        },
        timeout: options.timeoutMs ?? 30_000,
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          const json = parse(text);
          const message = json !== null && typeof json === 'object' && 'message' in json ? String(json.message) : '';
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text, json, message });
        });
      },
    );
    sent.on('timeout', () => sent.destroy(new Error(`${method} ${path}: no answer in time`)));
    sent.on('error', reject);
    sent.end(raw);
  });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
