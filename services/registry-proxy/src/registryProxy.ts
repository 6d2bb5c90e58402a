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
  readonly endpoints: Endpoints;
  readonly endpointSettings: EndpointSettings;
  readonly sender: Sender;
  readonly tokens: Tokens;
  private readonly book: AccessBook;
  private readonly transport: Transport;
  private readonly refreshing: NodeJS.Timeout;

  private constructor(parts: {
    distribution: Distribution;
    endpoints: Endpoints;
    endpointSettings: EndpointSettings;
    transport: Transport;
    tokens: Tokens;
    book: AccessBook;
    store: BlobStore;
    logger: Logger;
  }) {
    this.distribution = parts.distribution;
    this.endpoints = parts.endpoints;
    this.endpointSettings = parts.endpointSettings;
    this.sender = parts.transport;
    this.transport = parts.transport;
    this.tokens = parts.tokens;
    this.book = parts.book;
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
    const upstream = new Upstream({ sender: transport, endpoints, tokens });
    const access = new Access({ book, upstream, secret });
    const own = new OwnStore(root);
    const ownUploads = new OwnUploads({ store: own, maxBlobBytes: settings.FLOTILLA_REGISTRY_MAX_BLOB_BYTES });
    await ownUploads.removeAbandoned();
    const ownPrefixes = new Set(settings.FLOTILLA_REGISTRY_OWN_PREFIXES);
    const distribution = new Distribution({
      manifests: new Manifests({ store: new ManifestStore(root), upstream, access, logger }),
      blobs: new Blobs({
        store,
        upstream,
        access,
        slots: new Slots(settings.FLOTILLA_REGISTRY_FETCHES_PER_HOST),
        settings: { retryPausesMs: fillRetryPausesMs, maxBlobBytes: settings.FLOTILLA_REGISTRY_MAX_BLOB_BYTES },
        logger,
      }),
      uploads: new Uploads({ upstream, secret }),
      passThrough: new PassThrough(upstream),
      own: new OwnDistribution({ repositories: new OwnRepositories(own), uploads: ownUploads, prefixes: ownPrefixes }),
      ownPrefixes,
      tagMaxAgeMs: settings.FLOTILLA_REGISTRY_TAG_TTL_MS,
    });
    return new RegistryProxy({ distribution, endpoints, endpointSettings, transport, tokens, book, store, logger });
  }

  async close(): Promise<void> {
    clearInterval(this.refreshing);
    await this.book.save();
    this.transport.close();
  }
}
