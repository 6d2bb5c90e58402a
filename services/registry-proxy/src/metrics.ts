/** What the proxy counts, for Prometheus (`/metrics`): what was asked of it, what it asked of others, and what it holds. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { rateLimitOf } from './upstream/standings.ts';
import type { TransportResponse } from './upstream/transport.ts';
import type { UpstreamObserver } from './upstream/upstream.ts';

/** How a blob came to a client: from the disk, by a fetch it began, by one under way. */
export type BlobOrigin = 'cache' | 'fill' | 'join';

/** Clients name the hosts, so their number is bounded here. */
const maxHosts = 100;

export class Metrics implements UpstreamObserver {
  readonly registry = new Registry();
  private readonly hosts = new Set<string>();
  private readonly requests = this.counter('requests_total', 'Requests answered.', ['method', 'status']);
  private readonly blobs = this.counter('blobs_total', 'Blobs given to clients, by where they came from.', ['origin']);
  private readonly manifests = this.counter('manifests_total', 'Manifests given to clients, by where their bytes came from.', ['origin']);
  private readonly inFlight = new Gauge({
    name: 'flotilla_registry_requests_in_flight',
    help: 'Requests being answered.',
    registers: [this.registry],
  });
  private readonly receivedBytes = this.counter('received_bytes_total', 'Bytes that clients pushed, with their headers.', []);
  private readonly fetchedBytes = this.counter('fetched_bytes_total', 'Bytes of blobs that came from upstreams.', []);
  private readonly sentBytes = this.counter('sent_bytes_total', 'Bytes of blobs sent to clients.', []);
  private readonly stale = this.counter('stale_total', 'Answers from the cache while the upstream was away.', []);
  private readonly lies = this.counter('lies_total', 'Times an upstream sent something else than was asked for.', ['host']);
  private readonly upstreamRequests = this.counter('upstream_requests_total', 'Requests to upstreams.', ['host', 'method', 'status']);
  private readonly upstreamSeconds = new Histogram({
    name: 'flotilla_registry_upstream_seconds',
    help: 'Seconds until an upstream began its answer.',
    labelNames: ['host'],
    buckets: [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15],
    registers: [this.registry],
  });
  private readonly rateLimit = new Gauge({
    name: 'flotilla_registry_upstream_rate_limit',
    help: 'Pulls an upstream allows in its window (RateLimit-Limit).',
    labelNames: ['host'],
    registers: [this.registry],
  });
  private readonly rateRemaining = new Gauge({
    name: 'flotilla_registry_upstream_rate_remaining',
    help: 'Pulls an upstream still allows in its window (RateLimit-Remaining).',
    labelNames: ['host'],
    registers: [this.registry],
  });

  private counter<L extends string>(name: string, help: string, labelNames: L[]): Counter<L> {
    return new Counter({ name: `flotilla_registry_${name}`, help, labelNames, registers: [this.registry] });
  }

  /** A sum that is kept elsewhere, and read when somebody asks for it. */
  total(name: string, help: string, read: () => number): void {
    new Counter({
      name: `flotilla_registry_${name}`,
      help,
      registers: [this.registry],
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  }

  /** A figure that is read when somebody asks for it. */
  gauge(name: string, help: string, read: () => number): void {
    new Gauge({
      name: `flotilla_registry_${name}`,
      help,
      registers: [this.registry],
      collect() {
        this.set(read());
      },
    });
  }

  /** A request has come. @returns what notes its end. */
  onRequest(method: string): (status: number, receivedBytes: number) => void {
    this.inFlight.inc();
    return (status, receivedBytes) => {
      this.inFlight.dec();
      this.requests.inc({ method, status: String(status) });
      if (method !== 'GET' && method !== 'HEAD') this.receivedBytes.inc(receivedBytes);
    };
  }

  onManifest(origin: 'cache' | 'upstream'): void {
    this.manifests.inc({ origin });
  }

  /** Bytes of a blob have come from an upstream. */
  onFetched(bytes: number): void {
    this.fetchedBytes.inc(bytes);
  }

  onBlob(origin: BlobOrigin): void {
    this.blobs.inc({ origin });
  }

  onSent(bytes: number): void {
    this.sentBytes.inc(bytes);
  }

  onStale(): void {
    this.stale.inc();
  }

  onAnswer(host: string, method: string, status: number, durationMs: number, response: TransportResponse): void {
    const label = this.hostLabel(host);
    this.upstreamRequests.inc({ host: label, method, status: String(status) });
    this.upstreamSeconds.observe({ host: label }, durationMs / 1000);
    const rate = rateLimitOf(response.headers);
    if (rate === undefined) return;
    this.rateRemaining.set({ host: label }, rate.remaining);
    if (rate.limit !== undefined) this.rateLimit.set({ host: label }, rate.limit);
  }

  onLie(host: string): void {
    this.lies.inc({ host: this.hostLabel(host) });
  }

  onFailure(host: string, method: string): void {
    this.upstreamRequests.inc({ host: this.hostLabel(host), method, status: 'none' });
  }

  private hostLabel(host: string): string {
    if (this.hosts.has(host)) return host;
    if (this.hosts.size >= maxHosts) return 'other';
    this.hosts.add(host);
    return host;
  }
}
