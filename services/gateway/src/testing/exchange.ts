/** HTTP by hand over a unix socket: what a client library would hide is seen. */
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';

export interface Answer {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: string;
}

export function ask(
  socketPath: string,
  method: string,
  path: string,
  options: { body?: string | Buffer; headers?: Record<string, string> } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers: Record<string, string> = { Host: 'docker', ...options.headers };
    if (options.body !== undefined) headers['Content-Length'] ??= String(Buffer.byteLength(options.body));
    const call = request({ socketPath, method, path, headers, agent: false }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.on('end', () =>
        resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body: Buffer.concat(chunks).toString('utf8') }),
      );
      answer.on('error', reject);
    });
    call.on('error', reject);
    call.end(options.body);
  });
}

export function askJson(socketPath: string, method: string, path: string, document: unknown): Promise<Answer> {
  return ask(socketPath, method, path, { body: JSON.stringify(document), headers: { 'Content-Type': 'application/json' } });
}

/** A connection on which bytes are written and read as they are. */
export class RawClient {
  readonly socket: Socket;
  private held = Buffer.alloc(0);
  ended = false;

  constructor(socketPath: string) {
    this.socket = connect({ path: socketPath, allowHalfOpen: true });
    this.socket.on('data', (chunk: Buffer) => {
      this.held = Buffer.concat([this.held, chunk]);
    });
    this.socket.on('end', () => {
      this.ended = true;
    });
    this.socket.on('error', () => undefined);
  }

  get received(): Buffer {
    return this.held;
  }

  get text(): string {
    return this.held.toString('latin1');
  }

  send(text: string): void {
    this.socket.write(text);
  }
}
