/** An upstream's error answer, read into the Distribution API's errors. What it wrote itself is kept, word for word. */
import type { IncomingHttpHeaders } from 'node:http';
import { codeForStatus, type DistributionCode, type ErrorItem, UpstreamRefusal } from '../distributionError.ts';
import { readBody, type TransportResponse } from './transport.ts';

const maxErrorBytes = 64 * 1024;
const passedHeaders = ['retry-after', 'ratelimit-limit', 'ratelimit-remaining', 'docker-ratelimit-source'];

const words: Partial<Record<DistributionCode, string>> = {
  BLOB_UNKNOWN: 'blob unknown to registry',
  BLOB_UPLOAD_UNKNOWN: 'blob upload unknown to registry',
  DENIED: 'requested access to the resource is denied',
  MANIFEST_UNKNOWN: 'manifest unknown',
  NAME_UNKNOWN: 'repository name not known to registry',
  TOOMANYREQUESTS: 'too many requests',
  UNAUTHORIZED: 'authentication required',
  UNSUPPORTED: 'The operation is unsupported.',
};

/**
 * Reads the answer's body to its end.
 *
 * @param missing - the code of a 404 that says nothing more, as the answer to HEAD.
 */
export async function refusalOf(response: TransportResponse, missing: DistributionCode): Promise<UpstreamRefusal> {
  let text = '';
  try {
    text = (await readBody(response, maxErrorBytes)).toString('utf8');
  } catch {
    // The status alone says enough.
    response.destroy();
  }
  const status = response.statusCode < 400 ? 502 : response.statusCode;
  return new UpstreamRefusal(status, errorItems(response.statusCode, text, missing), refusalHeaders(response.headers));
}

function refusalHeaders(headers: IncomingHttpHeaders): Record<string, string> {
  const passed: Record<string, string> = {};
  for (const name of passedHeaders) {
    const value = headers[name];
    if (typeof value === 'string') passed[name] = value;
  }
  return passed;
}

/** @see distribution's registry/client/errors.go, whose reading of irregular bodies dockerd shows to its users. */
export function errorItems(status: number, text: string, missing: DistributionCode): [ErrorItem, ...ErrorItem[]] {
  const code = status === 404 ? missing : codeForStatus(status);
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    return [{ code, message: words[code] ?? unexpectedStatus(status, text) }];
  }
  if (typeof document === 'object' && document !== null) {
    const { details, errors } = document as { details?: unknown; errors?: unknown };
    // Docker Hub's token server: {"details":"incorrect username or password"}
    if (typeof details === 'string' && details !== '') return [{ code, message: details }];
    if (Array.isArray(errors)) {
      const [first, ...more] = errors.slice(0, 20).flatMap(errorItem);
      if (first !== undefined) return [first, ...more];
    }
  }
  return [{ code, message: words[code] ?? unexpectedStatus(status, text) }];
}

function errorItem(each: unknown): ErrorItem[] {
  if (typeof each !== 'object' || each === null) return [];
  const { code, message, detail } = each as Record<string, unknown>;
  if (typeof code !== 'string') return [];
  return [
    {
      code: code.slice(0, 100),
      message: typeof message === 'string' && message !== '' ? message.slice(0, 4000) : code.toLowerCase().replaceAll('_', ' '),
      ...(detail === undefined || detail === null ? {} : { detail }),
    },
  ];
}

function unexpectedStatus(status: number, text: string): string {
  return `received unexpected HTTP status: ${status}${text.trim() === '' ? '' : `: ${text.trim().slice(0, 200)}`}`;
}
