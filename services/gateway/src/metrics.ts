/** What Prometheus is told at `GET /metrics`: requests and how long they took, streams, containers by state and what they use. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Request, RequestHandler } from 'express';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Backends } from './backends.ts';
import { ContainerUsage } from './containerUsage.ts';
import { operationOf } from './rights/operations.ts';

export interface MetricsOptions {
  readonly backends: Pick<Backends, 'containers'>;
  readonly eventFollowers: () => number;
}

/** Operations that last as long as their client stays or what they tell of goes on. */
const streams: ReadonlySet<string> = new Set([
  'ContainerAttach',
  'ContainerAttachWebsocket',
  'ContainerLogs',
  'ContainerStats',
  'ContainerWait',
  'ExecStart',
  'Session',
  'SystemEvents',
]);

/** Answers within a scrape's patience, whatever the services do. */
const countsWithin = { deadlineMs: 2_000 } as const;

export class Metrics {
  private readonly registry = new Registry();
  private readonly requests = new Counter({
    name: 'flotilla_gateway_requests_total',
    help: 'Requests answered, by operation and status.',
    labelNames: ['method', 'path', 'status'],
    registers: [this.registry],
  });
  private readonly seconds = new Histogram({
    name: 'flotilla_gateway_request_seconds',
    help: 'Time until a request was answered whole; for streams, how long they lasted.',
    labelNames: ['method', 'path'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60],
    registers: [this.registry],
  });
  private readonly underWay = new Gauge({
    name: 'flotilla_gateway_requests_under_way',
    help: 'Requests that have no whole answer yet, streams among them.',
    registers: [this.registry],
  });

  private readonly streaming = new Gauge({
    name: 'flotilla_gateway_streams',
    help: 'Streams under way, by operation.',
    labelNames: ['operation'],
    registers: [this.registry],
  });
  private readonly usage: ContainerUsage;

  /** By path: finding a series by its labels costs more than counting. */
  private readonly answeredAtOnce = new Map<string, { requests: Counter.Internal; seconds: Histogram.Internal<string> }>();

  constructor(options: MetricsOptions) {
    this.usage = new ContainerUsage(options.backends.containers);
    new Gauge({
      name: 'flotilla_gateway_event_followers',
      help: 'Clients that follow events.',
      registers: [this.registry],
      collect() {
        this.set(options.eventFollowers());
      },
    });
    new Gauge({
      name: 'flotilla_containers',
      help: 'Containers by state.',
      labelNames: ['state'],
      registers: [this.registry],
      async collect() {
        this.reset();
        try {
          const { running, paused, stopped } = await options.backends.containers.counts({}, countsWithin);
          for (const [state, count] of Object.entries({ running, paused, stopped })) this.set({ state }, count);
        } catch {
          // Absent says it better than a number that is not known.
        }
      },
    });
  }

  /** Counts every request that has a route. */
  readonly observe: RequestHandler = (request, response, next) => {
    const began = performance.now();
    this.underWay.inc();
    const asked = operationOf(request.method, request.path)?.id ?? '';
    const isStream = streams.has(asked);
    if (isStream) this.streaming.inc({ operation: asked });
    // A hijacked connection has no `finish`: its answer is over when the handler's socket is.
    response.once('close', () => {
      this.underWay.dec();
      if (isStream) this.streaming.dec({ operation: asked });
      const path = operation(request);
      this.requests.inc({ method: request.method, path, status: response.statusCode });
      this.seconds.observe({ method: request.method, path }, (performance.now() - began) / 1000);
    });
    next();
  };

  /** Counts a GET that was answered with 200 at once, without a route. */
  answered(path: string, ms: number): void {
    let series = this.answeredAtOnce.get(path);
    if (series === undefined) {
      series = { requests: this.requests.labels('GET', path, '200'), seconds: this.seconds.labels('GET', path) };
      this.answeredAtOnce.set(path, series);
    }
    series.requests.inc();
    series.seconds.observe(ms / 1000);
  }

  /** The handler of `GET /metrics`. */
  async answer(_request: IncomingMessage, response: ServerResponse): Promise<void> {
    const text = (await Promise.all([this.registry.metrics(), this.usage.text()])).join('');
    response.writeHead(200, { 'Content-Type': this.registry.contentType, 'Content-Length': Buffer.byteLength(text) });
    response.end(text);
  }
}

const operations = new WeakMap<RegExp, string>();

/** `/containers/{name}/json` from the route's expression: one label an operation, whatever clients put into paths. */
export function operation(request: Request): string {
  const path: unknown = request.route?.path;
  if (!(path instanceof RegExp)) return 'none';
  let label = operations.get(path);
  if (label === undefined) {
    label = path.source.replace(/\(\?<(\w+)>[^)]*\)/g, '{$1}').replace(/^\^|\\|\/\?\$$|\$$/g, '');
    operations.set(path, label);
  }
  return label;
}
