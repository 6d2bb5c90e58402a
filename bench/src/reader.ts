/**
 * One kept connection that asks and throws away what it is answered. A client library would spend more on an answer than the engines that are measured do,
 * and the figure would be the client's.
 */
import { connect, type Socket } from 'node:net';

const headEnd = Buffer.from('\r\n\r\n');
const lastChunk = '\r\n0\r\n\r\n';

export class Reader {
  private readonly socket: Socket;
  private head: Buffer = Buffer.alloc(0);
  /** Bytes of the body that are still to come; undefined while the head is; Infinity when only its last chunk tells. */
  private missing: number | undefined;
  private tail = '';
  private waiting: { resolve: () => void; reject: (error: Error) => void } | undefined;

  constructor(socketPath: string) {
    this.socket = connect(socketPath);
    this.socket.on('data', (chunk: Buffer) => this.take(chunk));
    this.socket.on('error', (error) => this.waiting?.reject(error));
    this.socket.on('close', () => this.waiting?.reject(new Error('the engine closed the connection')));
  }

  /** Resolves when the answer is here whole; rejects for a status of 400 or more. */
  get(path: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
      this.socket.write(`GET ${path} HTTP/1.1\r\nHost: engine\r\n\r\n`);
    });
  }

  close(): void {
    this.waiting = undefined;
    this.socket.destroy();
  }

  private take(chunk: Buffer): void {
    let body = chunk;
    if (this.missing === undefined) {
      this.head = this.head.length === 0 ? chunk : Buffer.concat([this.head, chunk]);
      const end = this.head.indexOf(headEnd);
      if (end < 0) return;
      const head = this.head.toString('latin1', 0, end);
      body = this.head.subarray(end + headEnd.length);
      this.head = Buffer.alloc(0);
      if (Number(head.slice(9, 12)) >= 400) {
        this.waiting?.reject(new Error(`answered ${head.slice(0, head.indexOf('\r\n'))}`));
        return;
      }
      const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
      this.missing = length === undefined ? Number.POSITIVE_INFINITY : Number(length);
      this.tail = '\r\n';
    }
    this.missing -= body.length;
    this.tail = (this.tail + body.toString('latin1', Math.max(0, body.length - lastChunk.length))).slice(-lastChunk.length);
    if (this.missing > 0 && (Number.isFinite(this.missing) || this.tail !== lastChunk)) return;
    this.missing = undefined;
    this.waiting?.resolve();
  }
}

/** Asks `count` times, by so many connections at once; requests a second. */
export async function requestsASecond(socketPath: string, path: string, count: number, workers: number): Promise<number> {
  const readers = Array.from({ length: workers }, () => new Reader(socketPath));
  try {
    // Connections are made, and the path has been asked for once.
    await Promise.all(readers.map((reader) => reader.get(path)));
    let left = count;
    const start = performance.now();
    await Promise.all(
      readers.map(async (reader) => {
        while (left-- > 0) await reader.get(path);
      }),
    );
    return (1000 * count) / (performance.now() - start);
  } finally {
    for (const reader of readers) reader.close();
  }
}
