/** The HTTP server: the Distribution API under /v2/, health and readiness, request ids and the access log, errors in the API's JSON. */
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Socket } from 'node:net';
import { dirname } from 'node:path';
import { errorMessage } from '@flotilla/errors';
import {
  type Drainable,
  drainHttp,
  type Health,
  isTraceparent,
  type Logger,
  newRequestId,
  runWithRequest,
  type Tracer,
  type Workload,
} from '@flotilla/service-kit';
import { http } from '@flotilla/service-kit/http';
import express, { type ErrorRequestHandler, type Express, type Request, type Response } from 'express';
import { DistributionError, isDistributionError } from '../distributionError.ts';
import type { Gate } from '../downstream/gate.ts';
import type { ListenerTls } from '../downstream/listenerTls.ts';
import type { Metrics } from '../metrics.ts';
import type { Operations } from '../operations.ts';
import type { Fleet } from '../replicas/fleet.ts';
import { sendJson } from './exchange.ts';
import { operationsRouter } from './operations.ts';

const headersTimeoutMs = 60_000;
/** Above the idle time of usual load balancers and of Go's clients, so that it is they who close. */
const keepAliveTimeoutMs = 95_000;
const maxDrainedBytes = 16 * 1024 * 1024;

/** Answers below `/v2`: the proxy's own distribution, or a relay to a lab's. */
interface V2Handler {
  /** @returns false when the path is none of its own. @throws DistributionError */
  handle(request: IncomingMessage, response: ServerResponse, signal: AbortSignal): Promise<boolean>;
}

interface HttpServerParts {
  readonly distribution: V2Handler;
  /** None when another proxy has them. */
  readonly operations?: Operations;
  /** None: anybody who reaches it. */
  readonly gate?: Gate;
  /** None: no replicas on other data roots. */
  readonly fleet?: Pick<Fleet, 'isReplica' | 'serve'>;
  /** None: plain HTTP. */
  readonly tls?: ListenerTls;
  readonly metrics: Metrics;
  readonly health: Health;
  readonly logger: Logger;
  readonly tracer?: Tracer | undefined;
}

export class HttpServer {
  private readonly server: Server;
  readonly drainable: Drainable;
  private readonly logger: Logger;
  private readonly tracer: Tracer | undefined;
  private draining = false;
  /** Bytes of each connection that are counted already, with requests before. */
  private readonly counted = new WeakMap<Socket, number>();
  private socketPath: string | undefined;

  constructor(parts: HttpServerParts) {
    this.logger = parts.logger;
    this.tracer = parts.tracer;
    // Uploads of many gigabytes take their time: no limit on a whole request, but on its headers.
    const limits = { requestTimeout: 0, headersTimeout: headersTimeoutMs, keepAliveTimeout: keepAliveTimeoutMs };
    const app = this.app(parts);
    if (parts.tls === undefined) this.server = http.createServer(limits, app);
    else {
      const server = createTlsServer({ ...limits, ...parts.tls.options }, app);
      parts.tls.serve(server);
      this.server = server;
    }
    this.drainable = drainHttp('http server', this.server);
    this.server.on('clientError', (_error, socket) => {
      if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
      else socket.destroy();
    });
  }

  private app(parts: HttpServerParts): Express {
    const app = express();
    app.disable('x-powered-by');
    app.disable('etag');
    app.use((request, response, next) => {
      const ended = parts.metrics.onRequest(request.method);
      const { socket } = request;
      response.on('close', () => {
        ended(response.statusCode, socket.bytesRead - (this.counted.get(socket) ?? 0));
        this.counted.set(socket, socket.bytesRead);
      });
      this.logged(request, response, next);
    });
    app.get('/healthz', (_request, response) => sendJson(response, 200, { status: 'ok' }));
    app.get('/readyz', async (_request, response) => {
      const { ready, reason } = this.draining ? { ready: false, reason: 'draining' } : await parts.health.check();
      sendJson(response, ready ? 200 : 503, ready ? { status: 'ready' } : { status: 'not ready', reason });
    });
    app.use(async (request, response, next) => {
      response.setHeader('docker-distribution-api-version', 'registry/2.0');
      if (parts.fleet?.isReplica(request)) {
        response.locals.client = 'replica';
        parts.fleet.serve(next);
        return;
      }
      response.locals.client = await parts.gate?.admit(request);
      next();
    });
    app.get('/metrics', async (_request, response) => {
      response.setHeader('content-type', parts.metrics.registry.contentType);
      response.end(await parts.metrics.registry.metrics());
    });
    if (parts.operations !== undefined) app.use('/flotilla/v1', operationsRouter(parts.operations));
    app.use(async (request, response, next) => {
      const left = new AbortController();
      response.on('close', () => {
        if (!response.writableFinished) left.abort();
      });
      if (!(await parts.distribution.handle(request, response, left.signal))) next();
    });
    app.use((_request, response) => sendJson(response, 404, { errors: [{ code: 'UNSUPPORTED', message: 'page not found' }] }));
    app.use(this.onError());
    return app;
  }

  /** Every request gets an id and one line in the log. */
  private logged(request: Request, response: Response, next: () => void): void {
    const given = request.headers['x-request-id'];
    const requestId = typeof given === 'string' && /^[\w.-]{1,64}$/.test(given) ? given : newRequestId();
    response.setHeader('x-request-id', requestId);
    const startedAt = performance.now();
    const parent = request.headers.traceparent;
    const trace = typeof parent === 'string' && isTraceparent(parent) ? parent : undefined;
    const span =
      trace === undefined
        ? undefined
        : this.tracer?.begin(`registry ${request.method}`, trace, { 'url.path': request.path, 'flotilla.request_id': requestId });
    const traceparent = span?.traceparent ?? trace;
    runWithRequest({ requestId, ...(traceparent === undefined ? {} : { traceparent }) }, () => {
      response.on('close', () => {
        const { method, url } = request;
        const { client } = response.locals as { client?: string };
        const durationMs = Math.round(performance.now() - startedAt);
        // Without the query: an upload's may be long, and a client may put there what is nobody's business.
        const path = url?.split('?', 1)[0]?.slice(0, 500);
        const status = response.statusCode;
        span?.end({ 'http.response.status_code': status }, status >= 500 ? `status ${status}` : undefined);
        this.logger.info({ method, path, status, durationMs, whole: response.writableFinished, client }, 'request');
      });
      next();
    });
  }

  private onError(): ErrorRequestHandler {
    return (error: unknown, request, response, _next) => {
      if (response.headersSent || response.destroyed) {
        // Half an answer is cut, so that nobody takes it for a whole one.
        if (!response.writableFinished && !response.destroyed) {
          this.logger.info({ path: request.path, reason: errorMessage(error) }, 'answer cut');
          response.destroy();
        }
        return;
      }
      const answer = isDistributionError(error) ? error : this.fault(error);
      // What is left of a small body is read and thrown away, so that the client sees the answer; for a large one we hang up.
      if (!request.complete && !(Number(request.headers['content-length']) <= maxDrainedBytes)) response.setHeader('connection', 'close');
      if (answer.status === 401) response.setHeader('www-authenticate', 'Basic realm="registry-proxy"');
      sendJson(response, answer.status, answer.body(), answer.headers);
    };
  }

  private fault(error: unknown): DistributionError {
    this.logger.error({ error }, 'request failed');
    return new DistributionError('UNKNOWN', 'internal error', { cause: error });
  }

  /** Listens on `unix:/path` (0660, the folder's group) or `host:port`. @returns the port, for a TCP address. */
  async listen(address: string): Promise<number | undefined> {
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject);
      if (address.startsWith('unix:')) {
        this.socketPath = address.slice('unix:'.length);
        mkdirSync(dirname(this.socketPath), { recursive: true });
        rmSync(this.socketPath, { force: true });
        this.server.listen(this.socketPath, resolve);
      } else {
        const colon = address.lastIndexOf(':');
        this.server.listen({ host: address.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(address.slice(colon + 1)) }, resolve);
      }
    });
    if (this.socketPath !== undefined) chmodSync(this.socketPath, 0o660);
    const bound = this.server.address();
    return typeof bound === 'object' && bound !== null ? bound.port : undefined;
  }

  /** Has its requests counted. */
  countIn(workload: Workload): void {
    workload.countRequests(this.server);
  }

  /** Takes no new connections, lets running requests end until the deadline, then cuts them. */
  async close(deadlineMs: number): Promise<void> {
    this.draining = true;
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    this.server.closeIdleConnections();
    const timer = setTimeout(() => this.server.closeAllConnections(), deadlineMs);
    await closed;
    clearTimeout(timer);
  }
}
