/**
 * One HTTP request to an upstream, by pooled connections and with time limits; no retries, no redirects, no credentials of its own.
 *
 * Plain `node:http`: its agents pool, and since Node 24 speak to the proxies that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name, so there is no
 * need for another client library.
 */
import type * as http from 'node:http';
import * as https from 'node:https';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls';
import { http as plainHttp } from '@flotilla/service-kit/http';
import type { Connection, TimeLimits, TlsIdentity } from './connection.ts';
import { isLocalAddress } from './endpoints.ts';
import { UpstreamTimeout } from './goErrors.ts';

export interface TransportSettings extends TimeLimits {
  /** Connections to one upstream host at a time; further requests wait. */
  readonly maxConnectionsPerHost: number;
  /** HTTP_PROXY and its like. */
  readonly environment: Readonly<Record<string, string | undefined>>;
}

export interface TransportRequest extends Connection {
  readonly method: string;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Buffer | Readable;
  readonly signal?: AbortSignal;
}

export type TransportResponse = http.IncomingMessage & { readonly statusCode: number };

/** Something that sends one request: the transport, or a stand-in. */
export interface Sender {
  send(request: TransportRequest): Promise<TransportResponse>;
}

export class Transport implements Sender {
  private readonly settings: TransportSettings;
  private readonly agents = new Map<string, http.Agent | https.Agent>();

  constructor(settings: TransportSettings) {
    this.settings = settings;
  }

  private agent(url: URL, { verifyTls, tls }: Connection): http.Agent | https.Agent {
    const local = isLocalAddress(url.hostname);
    const key = `${url.protocol} ${verifyTls} ${local} ${tls?.id ?? ''}`;
    let agent = this.agents.get(key);
    if (agent === undefined) {
      const options: https.AgentOptions = {
        keepAlive: true,
        keepAliveMsecs: 15_000,
        maxSockets: this.settings.maxConnectionsPerHost,
        maxFreeSockets: 16,
        scheduling: 'lifo',
        // Go never asks a proxy for this machine.
        ...(local ? {} : { proxyEnv: this.settings.environment }),
      };
      agent =
        url.protocol === 'https:'
          ? new https.Agent({ ...options, ...tlsAgentOptions({ verifyTls, ...(tls === undefined ? {} : { tls }) }) })
          : new plainHttp.Agent(options as http.AgentOptions);
      this.agents.set(key, agent);
    }
    return agent;
  }

  /** Connections made so far end with their requests; certificates may have changed. */
  retire(): void {
    for (const agent of this.agents.values()) retireAgent(agent);
    this.agents.clear();
  }

  /**
   * Sends a request; resolves with the answer's headers, its body still to be read.
   *
   * @throws Node's system errors and UpstreamTimeout, as they are.
   */
  send(request: TransportRequest): Promise<TransportResponse> {
    const { url, body } = request;
    return new Promise((resolve, reject) => {
      const outgoing = (url.protocol === 'https:' ? https : plainHttp).request(url, {
        method: request.method,
        headers: request.headers,
        agent: this.agent(url, request),
      });
      // Without an error: it would come up once more on a socket that nobody listens to any longer.
      const abort = (): void => void outgoing.destroy();
      if (request.signal?.aborted) abort();
      request.signal?.addEventListener('abort', abort, { once: true });
      outgoing.once('close', () => request.signal?.removeEventListener('abort', abort));
      const times = { ...this.settings, ...request.limits };
      keepLimits(outgoing, times);
      outgoing.on('error', (error) => reject(request.signal?.aborted ? request.signal.reason : error));
      outgoing.on('response', (response) => {
        // Whoever reads the body sees the error there; a body nobody reads any more must not end the process.
        response.on('error', () => undefined);
        resolve(response as TransportResponse);
      });
      if (body === undefined || Buffer.isBuffer(body)) outgoing.end(body);
      else sendBody(body, outgoing);
    });
  }

  close(): void {
    for (const agent of this.agents.values()) agent.destroy();
  }
}

/** Its connections end with their requests. */
export function retireAgent(agent: http.Agent): void {
  agent.maxFreeSockets = 0;
  for (const socket of Object.values(agent.freeSockets).flatMap((each) => each ?? [])) socket.destroy();
}

/** How far the other end is trusted, and who we say we are. */
export function tlsAgentOptions({ verifyTls, tls }: Connection): https.AgentOptions {
  return {
    rejectUnauthorized: verifyTls,
    ...(tls === undefined ? {} : { secureContext: secureContextOf(tls) }),
    ...(tls?.pinned === undefined ? {} : { checkServerIdentity: () => undefined }),
  };
}

/** Made once for many connections: reading some hundred authorities takes its time. */
function secureContextOf({ ca, certificate, key, pinned }: TlsIdentity): SecureContext {
  return createSecureContext({
    ...(pinned === undefined ? {} : { ca: pinned, allowPartialTrustChain: true }),
    ...(ca === undefined ? {} : { ca: [...getCACertificates('default'), ca] }),
    ...(certificate === undefined ? {} : { cert: certificate, key }),
  });
}

/** Passes a client's body on; a client that leaves half-way cuts the request, so the upstream never takes half a body for a whole. */
function sendBody(body: Readable, outgoing: http.ClientRequest): void {
  body.on('error', (error) => outgoing.destroy(error));
  body.on('close', () => {
    if (!body.readableEnded) outgoing.destroy(new Error('the client left'));
  });
  body.pipe(outgoing);
}

/** Ends a request, or its answer, that takes longer than it may. */
export function keepLimits(outgoing: http.ClientRequest, settings: TimeLimits): void {
  const limits = new Limits(outgoing, settings);
  outgoing.on('finish', () => limits.requestSent());
  outgoing.on('error', () => limits.clear());
  outgoing.on('response', (response) => {
    limits.clear();
    response.setTimeout(settings.bodyIdleTimeoutMs, () => response.destroy(new UpstreamTimeout('body')));
  });
}

/** The time limits of a request that has no answer yet. */
class Limits {
  private timer: NodeJS.Timeout | undefined;
  private readonly outgoing: http.ClientRequest;
  private readonly settings: TimeLimits;
  private connected = false;
  private sent = false;

  constructor(outgoing: http.ClientRequest, settings: TimeLimits) {
    this.outgoing = outgoing;
    this.settings = settings;
    if (outgoing.socket === null) outgoing.on('socket', (socket) => this.onSocket(socket));
    else this.onSocket(outgoing.socket);
  }

  private onSocket(socket: Socket): void {
    if (!socket.connecting) {
      this.onConnected();
      return;
    }
    this.start('connect', this.settings.connectTimeoutMs);
    // A TLS socket says `connect` before its handshake; `secureConnect` comes after it.
    socket.once('encrypted' in socket ? 'secureConnect' : 'connect', () => this.onConnected());
  }

  private onConnected(): void {
    this.connected = true;
    this.clear();
    if (this.sent) this.start('headers', this.settings.headersTimeoutMs);
  }

  requestSent(): void {
    this.sent = true;
    if (this.connected) this.start('headers', this.settings.headersTimeoutMs);
  }

  private start(phase: 'connect' | 'headers', timeoutMs: number): void {
    this.clear();
    this.timer = setTimeout(() => this.outgoing.destroy(new UpstreamTimeout(phase)), timeoutMs);
  }

  clear(): void {
    clearTimeout(this.timer);
  }
}

/** Reads a body whole, up to `limit` bytes. @throws BodyTooLarge when it is longer; the rest is left unread. */
export async function readBody(body: Readable, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > limit) throw new BodyTooLarge(limit);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}

/** A body is longer than anything sensible. */
export class BodyTooLarge extends Error {
  override readonly name = 'BodyTooLarge';

  constructor(limit: number) {
    super(`body is larger than ${limit} bytes`);
  }
}

/** Lets a connection go back to its pool. */
export function discard(response: Readable): void {
  response.on('error', () => undefined);
  response.resume();
}
