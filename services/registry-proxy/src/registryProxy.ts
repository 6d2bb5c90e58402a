/** The proxy itself, without servers: stores, upstreams, and the domain between them. */
import type { Logger } from '@flotilla/service-kit';
import { Access } from './access.ts';
import { Blobs } from './blobs.ts';
import { AccessBook } from './cache/accessBook.ts';
import { BlobStore } from './cache/blobStore.ts';
import { ManifestStore } from './cache/manifestStore.ts';
import { openSecret } from './cache/secret.ts';
import type { RegistryProxySettings } from './config.ts';
import { Distribution } from './http/distribution.ts';
import { OwnDistribution } from './http/ownDistribution.ts';
import { Manifests } from './manifests.ts';
import { Metrics } from './metrics.ts';
import { OwnRepositories } from './own/ownRepositories.ts';
import { OwnStore } from './own/ownStore.ts';
import { OwnUploads } from './own/ownUploads.ts';
import { PassThrough } from './passThrough.ts';
import { Slots } from './slots.ts';
import { Uploads } from './uploads.ts';
import { type EndpointSettings, Endpoints } from './upstream/endpoints.ts';
import { Tokens } from './upstream/tokens.ts';
import { type Sender, Transport } from './upstream/transport.ts';
import { Upstream } from './upstream/upstream.ts';

/** How long a cut blob is tried again without a byte of progress: about 25 s in all. */
const fillRetryPausesMs = [200, 500, 1000, 2000, 4000, 8000, 8000];

/** How often what replicas did in the shared folder is looked at. */
const refreshMs = 60_000;

export class RegistryProxy {
  readonly distribution: Distribution;
  readonly metrics: Metrics;
  readonly endpoints: Endpoints;
  readonly endpointSettings: EndpointSettings;
  readonly sender: Sender;
  readonly tokens: Tokens;
  private readonly book: AccessBook;
  private readonly transport: Transport;
  private readonly blobs: Blobs;
  private readonly refreshing: NodeJS.Timeout;

  private constructor(parts: {
    distribution: Distribution;
    metrics: Metrics;
    endpoints: Endpoints;
    endpointSettings: EndpointSettings;
    transport: Transport;
    tokens: Tokens;
    book: AccessBook;
    store: BlobStore;
    blobs: Blobs;
    logger: Logger;
  }) {
    this.distribution = parts.distribution;
    this.metrics = parts.metrics;
    this.endpoints = parts.endpoints;
    this.endpointSettings = parts.endpointSettings;
    this.sender = parts.transport;
    this.transport = parts.transport;
    this.tokens = parts.tokens;
    this.book = parts.book;
    this.blobs = parts.blobs;
    this.refreshing = setInterval(() => {
      parts.store.refresh().catch((error: unknown) => parts.logger.error({ error }, 'cannot read the cache'));
    }, refreshMs).unref();
  }

  /** Opens the stores below `root`, which exists. */
  static async open(root: string, settings: RegistryProxySettings, env: NodeJS.ProcessEnv, logger: Logger): Promise<RegistryProxy> {
    const secret = await openSecret(root);
    const store = await BlobStore.open(root, { maxBytes: settings.FLOTILLA_REGISTRY_CACHE_BYTES }, logger);
    const book = await AccessBook.open(root, {
      freshMs: settings.FLOTILLA_REGISTRY_ACCESS_TTL_MS,
      graceMs: settings.FLOTILLA_REGISTRY_ACCESS_GRACE_MS,
    });
    const { registryMirrors, insecureRegistries } = settings.FLOTILLA_ENGINE_OPTIONS;
    const endpointSettings = { registryMirrors, insecureRegistries };
    const endpoints = new Endpoints(endpointSettings);
    const transport = new Transport({
      connectTimeoutMs: settings.FLOTILLA_REGISTRY_CONNECT_TIMEOUT_MS,
      headersTimeoutMs: settings.FLOTILLA_REGISTRY_HEADERS_TIMEOUT_MS,
      bodyIdleTimeoutMs: settings.FLOTILLA_REGISTRY_BODY_TIMEOUT_MS,
      maxConnectionsPerHost: settings.FLOTILLA_REGISTRY_CONNECTIONS_PER_HOST,
      environment: env,
    });
    const tokens = new Tokens(transport, secret);
    const metrics = new Metrics();
    const upstream = new Upstream({ sender: transport, endpoints, tokens, observer: metrics });
    const access = new Access({ book, upstream, secret });
    const own = new OwnStore(root);
    const ownUploads = new OwnUploads({ store: own, maxBlobBytes: settings.FLOTILLA_REGISTRY_MAX_BLOB_BYTES });
    await ownUploads.removeAbandoned();
    const ownPrefixes = new Set(settings.FLOTILLA_REGISTRY_OWN_PREFIXES);
    const blobs = new Blobs({
      store,
      upstream,
      access,
      slots: new Slots(settings.FLOTILLA_REGISTRY_FETCHES_PER_HOST),
      settings: { retryPausesMs: fillRetryPausesMs, maxBlobBytes: settings.FLOTILLA_REGISTRY_MAX_BLOB_BYTES },
      logger,
    });
    const distribution = new Distribution({
      metrics,
      manifests: new Manifests({ store: new ManifestStore(root), upstream, access, logger }),
      blobs,
      uploads: new Uploads({ upstream, secret }),
      passThrough: new PassThrough(upstream),
      own: new OwnDistribution({ repositories: new OwnRepositories(own), uploads: ownUploads, prefixes: ownPrefixes }),
      ownPrefixes,
      tagMaxAgeMs: settings.FLOTILLA_REGISTRY_TAG_TTL_MS,
    });
    metrics.gauge('cache_bytes', 'Bytes of complete blobs in the cache.', () => store.usage.bytes);
    metrics.gauge('cache_blobs', 'Complete blobs in the cache.', () => store.usage.blobs);
    metrics.gauge('cache_evictions', 'Blobs removed to keep the bound, since the start.', () => store.usage.evictions);
    metrics.gauge('fills', 'Blobs being fetched.', () => blobs.fillsInFlight);
    return new RegistryProxy({ metrics, distribution, endpoints, endpointSettings, transport, tokens, book, store, blobs, logger });
  }

  async close(): Promise<void> {
    clearInterval(this.refreshing);
    await this.blobs.settle();
    await this.book.save();
    this.transport.close();
  }
}
