/** Asks an engine one case, and writes its answer in a form in which two engines can be compared. */
import { request } from 'node:http';
import type { AnswerCase } from './answerCase.ts';

export interface Answer {
  readonly status: number;
  /** The `message` of an error; '' for none. */
  readonly message: string;
  /** The content type, without parameters. */
  readonly type: string;
  /** What kind of body: empty, null, [], {}, lines of JSON, or bytes. */
  readonly body: string;
}

/** Ids, times and addresses are each engine's own. */
function normalised(message: string): string {
  return message
    .replace(/[0-9a-f]{64}/g, 'ID')
    .replace(/\b[0-9a-f]{12}\b/g, 'ID')
    .replace(/\/tmp\/flotilla-test-[^/\s"]+/g, 'ROOT')
    .replace(/\d+\.\d+ [GMK]i?B/g, 'SIZE')
    .replace(/repository name \([^)]*\) must/, 'repository name must')
    .trim();
}

function kindOf(body: Buffer): string {
  const text = body.toString('utf8');
  if (text.trim() === '') return 'empty';
  try {
    const document: unknown = JSON.parse(text);
    return document === null ? 'null' : Array.isArray(document) ? '[]' : typeof document === 'object' ? '{}' : 'text';
  } catch {
    return /^\{.*\}\s*\{/s.test(text) ? 'lines' : 'bytes';
  }
}

/** The message of an answer, or of the last line of a stream that ended with an error. */
function messageOf(body: Buffer): string {
  try {
    const last = body.toString('utf8').trim().split('\n').at(-1) ?? '';
    const document = JSON.parse(last) as { message?: unknown; error?: unknown } | null;
    const message = document?.message ?? document?.error;
    return typeof message === 'string' ? normalised(message) : '';
  } catch {
    return '';
  }
}

/** One request, its whole answer. @throws Error when there is none in time. */
export function answerOf(socketPath: string, asked: AnswerCase): Promise<Answer> {
  const space = asked.request.indexOf(' ');
  const [method, path] = [asked.request.slice(0, space), asked.request.slice(space + 1)];
  const body = asked.body === undefined ? undefined : typeof asked.body === 'string' ? asked.body : JSON.stringify(asked.body);
  const version = asked.version ?? 'v1.41';
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        socketPath,
        method,
        path: (version === '' ? '' : `/${version}`) + path,
        timeout: 30_000,
        headers: {
          host: 'engine',
          ...(body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
          ...asked.headers,
        },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const whole = Buffer.concat(chunks);
          resolve({
            status: response.statusCode ?? 0,
            message: messageOf(whole),
            type: (response.headers['content-type'] ?? '').split(';', 1)[0] ?? '',
            body: kindOf(whole),
          });
        });
      },
    );
    sent.on('timeout', () => sent.destroy(new Error(`${asked.request}: no answer in time`)));
    sent.on('error', reject);
    sent.end(body);
  });
}
