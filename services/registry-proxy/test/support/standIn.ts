/**
 * An upstream registry that behaves as the specifications say and, on demand, as registries do on bad days: token server, Basic, redirects,
 * rate limits, errors, cut and slow bodies, lies. It keeps a log of what it was asked.
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type ServerOptions } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TLSSocket } from 'node:tls';

export interface LoggedRequest {
  readonly method: string;
  readonly path: string;
  readonly authorization: string | undefined;
  readonly range: string | undefined;
  readonly registryAuth: string | undefined;
  /** Name in the client's certificate, when it showed one. */
  readonly clientName: string | undefined;
}

/** What happens to a request instead of the ordinary answer; true when it was answered. */
export type Mishap = (request: IncomingMessage, response: ServerResponse, path: string) => boolean | Promise<boolean>;

export const sha256 = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

export class StandIn {
  readonly requests: LoggedRequest[] = [];
  /** Asked first; undefined: behave. */
  mishap: Mishap | undefined;
  /** Which header Authorization may read a path; undefined: everybody. A string is the challenge of the 401. */
  guard: ((authorization: string | undefined, path: string) => true | { challenge?: string; status: number; body: unknown }) | undefined;
  private readonly server: Server;
  private readonly blobs = new Map<string, Buffer>();
  private readonly manifests = new Map<string, { bytes: Buffer; mediaType: string; digest: string }>();

  private constructor(tls: ServerOptions | undefined) {
    const answer = (request: IncomingMessage, response: ServerResponse): void => void this.answer(request, response);
    this.server = tls === undefined ? createServer(answer) : createTlsServer(tls, answer);
  }

  static async start(port = 0, tls?: ServerOptions): Promise<StandIn> {
    const standIn = new StandIn(tls);
    await new Promise<void>((resolve) => standIn.server.listen(port, '127.0.0.1', resolve));
    return standIn;
  }

  get port(): number {
    const address = this.server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  get host(): string {
    return `127.0.0.1:${this.port}`;
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }

  addBlob(repository: string, bytes: Buffer, digest = sha256(bytes)): string {
    this.blobs.set(`${repository}/${digest}`, bytes);
    return digest;
  }

  addManifest(repository: string, tag: string, document: unknown, options: { bytes?: Buffer; digest?: string } = {}): string {
    const bytes = options.bytes ?? Buffer.from(JSON.stringify(document));
    const digest = options.digest ?? sha256(bytes);
    const manifest = { bytes, digest, mediaType: 'application/vnd.oci.image.manifest.v1+json' };
    this.manifests.set(`${repository}:${tag}`, manifest);
    this.manifests.set(`${repository}:${digest}`, manifest);
    return digest;
  }

  count(method: string, path: string): number {
    return this.requests.filter((each) => each.method === method && each.path === path).length;
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? '';
    const { authorization, range } = request.headers;
    const registryAuth = request.headers['x-registry-auth'];
    this.requests.push({
      method: request.method ?? '',
      path,
      authorization,
      range,
      registryAuth: registryAuth?.toString(),
      clientName: clientName(request),
    });
    request.resume();
    response.on('error', () => undefined);
    if (await this.mishap?.(request, response, path)) return;
    const verdict = this.guard?.(authorization, path) ?? true;
    if (verdict !== true) {
      const headers: Record<string, string> = verdict.challenge === undefined ? {} : { 'www-authenticate': verdict.challenge };
      return sendDocument(response, verdict.status, verdict.body, headers);
    }
    const found = /^\/v2\/(?<name>.+)\/(?<kind>manifests|blobs)\/(?<reference>[^/?]+)$/.exec(path)?.groups;
    if (found === undefined) return sendDocument(response, path === '/v2/' ? 200 : 404, {});
    if (found.kind === 'manifests') this.sendManifest(response, `${found.name}:${found.reference}`);
    else await this.sendBlob(request, response, `${found.name}/${found.reference}`);
  }

  private sendManifest(response: ServerResponse, key: string): void {
    const manifest = this.manifests.get(key);
    if (manifest === undefined) {
      sendDocument(response, 404, { errors: [{ code: 'MANIFEST_UNKNOWN', message: 'manifest unknown' }] });
      return;
    }
    response.writeHead(200, {
      'content-type': manifest.mediaType,
      'content-length': manifest.bytes.length,
      'docker-content-digest': manifest.digest,
    });
    response.end(manifest.bytes);
  }

  /** The ordinary answer to a blob, for mishaps that only change how it is sent. */
  async sendBlob(
    request: IncomingMessage,
    response: ServerResponse,
    key: string,
    how: { chunkBytes?: number; pauseMs?: number; cutAfter?: number; ignoreRange?: boolean; unsized?: boolean } = {},
  ): Promise<void> {
    const bytes = this.blobs.get(key);
    if (bytes === undefined)
      return sendDocument(response, 404, { errors: [{ code: 'BLOB_UNKNOWN', message: 'blob unknown to registry' }] });
    const from = how.ignoreRange ? 0 : Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    if (from >= bytes.length && from > 0) {
      response.writeHead(416, { 'content-range': `bytes */${bytes.length}` }).end();
      return;
    }
    const ranged = request.headers.range !== undefined && !how.ignoreRange;
    response.writeHead(ranged ? 206 : 200, {
      ...(how.unsized ? {} : { 'content-length': bytes.length - from }),
      ...(ranged ? { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {}),
    });
    if (request.method === 'HEAD') return void response.end();
    const step = how.chunkBytes ?? 64 * 1024;
    for (let at = from; at < bytes.length; at += step) {
      if (how.cutAfter !== undefined && at - from >= how.cutAfter) return void response.destroy();
      if (response.destroyed) return;
      if (!response.write(bytes.subarray(at, at + step))) await Promise.race([onceDrained(response), sleep(2000)]);
      if (how.pauseMs !== undefined) await sleep(how.pauseMs);
    }
    response.end();
  }
}

function clientName(request: IncomingMessage): string | undefined {
  if (!('getPeerCertificate' in request.socket)) return undefined;
  const name = (request.socket as TLSSocket).getPeerCertificate().subject?.CN;
  return Array.isArray(name) ? name[0] : name;
}

function onceDrained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off('drain', done).off('close', done);
      resolve();
    };
    response.once('drain', done).once('close', done);
  });
}

export function sendDocument(response: ServerResponse, status: number, document: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(document));
}

export const unauthorized = { errors: [{ code: 'UNAUTHORIZED', message: 'authentication required' }] };
export const denied = { errors: [{ code: 'DENIED', message: 'requested access to the resource is denied' }] };
