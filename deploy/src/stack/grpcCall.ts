/** Calls an instance at its socket, spoken by hand over node:http2: neither the supervisor nor `flotilla ps` need carry a gRPC library for it. */
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';

/** A message without fields: not compressed, length 0. */
const emptyMessage = Buffer.alloc(5);
const headerBytes = 5;

/** A connection to an instance, kept from call to call. */
export class GrpcSocket {
  private readonly path: string;
  private session: ClientHttp2Session | undefined;

  constructor(path: string) {
    this.path = path;
  }

  /**
   * Calls a method whose request has no fields.
   *
   * @param method - `/package.Service/Method`
   * @returns the answer's message. @throws Error when there is none in time, or another status than OK.
   */
  async call(method: string, timeoutMs: number): Promise<Buffer> {
    try {
      return await this.request(method, timeoutMs);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  private request(method: string, timeoutMs: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const session = this.open(reject);
      const stream = session.request({ ':method': 'POST', ':path': method, 'content-type': 'application/grpc', te: 'trailers' });
      const timer = setTimeout(() => {
        stream.close();
        reject(new Error(`no answer within ${timeoutMs} ms`));
      }, timeoutMs);
      const chunks: Buffer[] = [];
      let grpcStatus = '0';
      stream.on('response', (headers) => {
        grpcStatus = String(headers['grpc-status'] ?? grpcStatus);
      });
      stream.on('trailers', (trailers) => {
        grpcStatus = String(trailers['grpc-status'] ?? grpcStatus);
      });
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('error', reject);
      stream.on('close', () => {
        clearTimeout(timer);
        if (grpcStatus !== '0' || chunks.length === 0) reject(new Error(`the call failed with gRPC status ${grpcStatus}`));
        else resolve(Buffer.concat(chunks).subarray(headerBytes));
      });
      stream.end(emptyMessage);
    });
  }

  private open(onError: (error: Error) => void): ClientHttp2Session {
    if (this.session !== undefined && !this.session.closed && !this.session.destroyed) return this.session;
    const session = connectHttp2('http://localhost', { createConnection: () => connect(this.path) });
    session.on('error', onError);
    session.on('close', () => {
      if (this.session === session) this.session = undefined;
    });
    this.session = session;
    return session;
  }

  close(): void {
    this.session?.destroy();
    this.session = undefined;
  }
}
