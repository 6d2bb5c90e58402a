/** The proxy itself, without servers: stores, upstreams, and the domain between them. */
import { System } from '@flotilla/errors';
import type { Digest } from '@flotilla/oci';
import { type Logger, version } from '@flotilla/service-kit';
import { Access } from './access.ts';
import { Blobs } from './blobs.ts';
import { AccessBook } from './cache/accessBook.ts';
import { BlobStore } from './cache/blobStore.ts';
import { ManifestStore } from './cache/manifestStore.ts';
import { openSecret } from './cache/secret.ts';
import { type RegistryProxySettings, transportSettings } from './config.ts';
import { Distribution } from './http/distribution.ts';
import { OwnDistribution } from './http/ownDistribution.ts';
import { OwnElsewhere } from './http/ownElsewhere.ts';
import { Login } from './login.ts';
import { Manifests } from './manifests.ts';
import { Metrics } from './metrics.ts';
import type { Operations } from './operations.ts';
import { type Collected, Collector } from './own/collector.ts';
import { OwnRepositories } from './own/ownRepositories.ts';
import { OwnStore } from './own/ownStore.ts';
import { OwnUploads } from './own/ownUploads.ts';
import { PassThrough } from './passThrough.ts';
import { Pins } from './pins.ts';
import { Prefetch } from './prefetch.ts';
import { registryInfo } from './registryInfo.ts';
import type { Fleet } from './replicas/fleet.ts';
import { openReplicas, type ReplicaOptions, type Replicas } from './replicas/open.ts';
import { Search } from './search.ts';
import { Slots } from './slots.ts';
import { Uploads, uploadKeyOf } from './uploads.ts';
import { CertificateFolder } from './upstream/certificateFolder.ts';
import { Endpoints } from './upstream/endpoints.ts';
import { LiveUpstreams } from './upstream/liveUpstreams.ts';
import { Standings } from './upstream/standings.ts';
import { Tokens } from './upstream/tokens.ts';
import { readBody, type Sender, Transport } from './upstream/transport.ts';
import { Upstream } from './upstream/upstream.ts';
import type { Upstreams } from './upstream/upstreamsFile.ts';

/** How long a cut blob is tried again without a byte of progress: about 25 s in all. */
const fillRetryPausesMs = [200, 500, 1000, 2000, 4000, 8000, 8000];

/** How often what replicas did in the shared folder is looked at. */
const refreshMs = 60_000;
/** How often what nobody needs any longer leaves the own repositories. */
const collectMs = 6 * 3_600_000;
const maxAnswerBytes = 64 * 1024;

export interface RegistryProxyOptions {
  /** Stacks that share the proxy ask for `lab/app` as docker.io's: those are stored here as well. */
  readonly sharedByStacks?: boolean;
  /** Replicas on other data roots. */
  readonly replicas?: ReplicaOptions;
}

export class RegistryProxy {
  readonly distribution: Distribution;
  readonly metrics: Metrics;
  readonly operations: Operations;
  /** None: this proxy is alone, or shares its data root with all the others. */
  readonly replicas: Replicas | undefined;
  private readonly book: AccessBook;
  private readonly transport: Transport;
  private readonly upstreams: LiveUpstreams | undefined;
  private readonly blobs: Blobs;
  private readonly refreshing: NodeJS.Timeout;
  private readonly collecting: NodeJS.Timeout;

  private constructor(parts: {
    distribution: Distribution;
    metrics: Metrics;
    operations: Operations;
    transport: Transport;
    upstreams: LiveUpstreams | undefined;
    replicas: Replicas | undefined;
    book: AccessBook;
    store: BlobStore;
    blobs: Blobs;
    collector: Collector;
    logger: Logger;
  }) {
    this.distribution = parts.distribution;
    this.metrics = parts.metrics;
    this.operations = parts.operations;
    this.transport = parts.transport;
    this.upstreams = parts.upstreams;
    this.replicas = parts.replicas;
    this.book = parts.book;
    this.blobs = parts.blobs;
    this.refreshing = setInterval(() => {
      refresh(parts).catch((error: unknown) => parts.logger.error({ error }, 'cannot read the cache'));
    }, refreshMs).unref();
    this.collecting = setInterval(() => {
      parts.collector.collect().catch((error: unknown) => parts.logger.error({ error }, 'cannot collect garbage'));
    }, collectMs).unref();
  }

  /** Opens the stores below `root`, which exists. */
  static async open(
    root: string,
    settings: RegistryProxySettings,
    env: NodeJS.ProcessEnv,
    logger: Logger,
    options: RegistryProxyOptions = {},
  ): Promise<RegistryProxy> {
    const secret = await openSecret(root);
    const pins = await Pins.open(root);
    const bounds = { maxBytes: settings.FLOTILLA_REGISTRY_CACHE_BYTES, isPinned: (digest: Digest) => pins.has(digest) };
    const store = await BlobStore.open(root, bounds, logger);
    const offline = settings.FLOTILLA_REGISTRY_OFFLINE;
    const book = await AccessBook.open(root, {
      freshMs: settings.FLOTILLA_REGISTRY_ACCESS_TTL_MS,
      // Who was let in once stays so while there is nobody to ask.
      graceMs: offline ? Number.MAX_SAFE_INTEGER : settings.FLOTILLA_REGISTRY_ACCESS_GRACE_MS,
    });
    const { registryMirrors, insecureRegistries, upstreamsFile } = settings.FLOTILLA_ENGINE_OPTIONS;
    const flagged = settings.FLOTILLA_REGISTRY_UPSTREAMS;
    const endpoints = new Endpoints(
      { registryMirrors, insecureRegistries, upstreams: flagged },
      new CertificateFolder(settings.FLOTILLA_REGISTRY_CERTIFICATES),
    );
    const limits = transportSettings(settings, env);
    const transport = new Transport(limits);
    const ownPrefixes = new Set<string>();
    const usePrefixes = (prefixes: readonly string[]): void => {
      ownPrefixes.clear();
      for (const prefix of prefixes) ownPrefixes.add(prefix);
      if (options.sharedByStacks) for (const prefix of prefixes) ownPrefixes.add(`docker.io/${prefix}`);
    };
    usePrefixes(settings.FLOTILLA_REGISTRY_OWN_PREFIXES);
    const use = ({ named, ownPrefixes: prefixes }: Upstreams): void => {
      endpoints.use(named);
      transport.retire();
      usePrefixes(prefixes ?? settings.FLOTILLA_REGISTRY_OWN_PREFIXES);
    };
    const upstreams =
      upstreamsFile === undefined
        ? undefined
        : await LiveUpstreams.open({ file: upstreamsFile, flagged: Object.keys(flagged), use, logger });
    const sender: Sender = offline ? offlineSender : transport;
    const tokens = new Tokens(sender, secret);
    const metrics = new Metrics();
    const standings = new Standings({ quarantineMs: settings.FLOTILLA_REGISTRY_QUARANTINE_MS }, secret);
    const upstream = new Upstream({ sender, endpoints, tokens, observer: metrics, standings });
    const own = new OwnStore(root);
    const uploadKey = uploadKeyOf(secret);
    const hasRepositories = async (): Promise<boolean> => (await own.allRepositories()).length > 0;
    const replicas =
      options.replicas === undefined
        ? undefined
        : await openReplicas(options.replicas, { root, secret, uploadKey, hasRepositories, upstream, transport: limits, logger });
    const reads = replicas?.fleet ?? upstream;
    const access = new Access({ book, upstream: reads, secret });
    const ownUploads = new OwnUploads({ store: own, maxBlobBytes: settings.FLOTILLA_REGISTRY_MAX_BLOB_BYTES });
    await ownUploads.removeAbandoned();
    const blobs = new Blobs({
      store,
      upstream: reads,
      access,
      slots: new Slots((registry) => upstreams?.concurrency(registry) ?? settings.FLOTILLA_REGISTRY_FETCHES_PER_HOST),
      settings: {
        retryPausesMs: fillRetryPausesMs,
        maxBlobBytes: settings.FLOTILLA_REGISTRY_MAX_BLOB_BYTES,
        onFetched: (bytes) => metrics.onFetched(bytes),
      },
      logger,
    });
    const manifests = new Manifests({ store: new ManifestStore(root), upstream: reads, access, logger });
    const collector = new Collector({ store: own, logger });
    const operations: Operations = {
      login: new Login({ sender, endpoints, tokens }),
      search: new Search({ sender, endpoints }),
      info: async () =>
        registryInfo(
          insecureRegistries,
          endpoints.mirrorsOfHub.map(({ base }) => base),
        ),
      status: () => ({
        version,
        upstreams: standings.report(),
        cache: { ...store.usage, maxBytes: settings.FLOTILLA_REGISTRY_CACHE_BYTES },
        fills: blobs.fillsInFlight,
        replicas: replicas?.roll.size ?? 1,
        offline,
      }),
      prefetch: new Prefetch({ manifests, blobs, pins }),
      pins,
      collector: replicas === undefined ? collector : collectedByKeeper(collector, replicas.fleet),
    };
    const distribution = new Distribution({
      metrics,
      manifests,
      blobs,
      uploads: new Uploads({ upstream, key: uploadKey, othersKeys: () => replicas?.roll.uploadKeys ?? [] }),
      passThrough: new PassThrough(upstream),
      own: new OwnDistribution({ repositories: new OwnRepositories(own), uploads: ownUploads, prefixes: ownPrefixes }),
      ...(replicas === undefined ? {} : { ownElsewhere: new OwnElsewhere(replicas.fleet) }),
      ownPrefixes,
      tagMaxAgeMs: settings.FLOTILLA_REGISTRY_TAG_TTL_MS,
    });
    metrics.gauge('cache_bytes', 'Bytes of complete blobs in the cache.', () => store.usage.bytes);
    metrics.gauge('cache_blobs', 'Complete blobs in the cache.', () => store.usage.blobs);
    metrics.total('cache_evictions_total', 'Blobs removed to keep the bound, since the start.', () => store.usage.evictions);
    metrics.gauge(
      'quarantined',
      'Mirrors, and repositories of upstreams, that are left out because they lied.',
      () => standings.quarantined,
    );
    if (replicas !== undefined) metrics.gauge('replicas', 'Replicas that are alive, this one among them.', () => replicas.roll.size);
    metrics.gauge('fills', 'Blobs being fetched.', () => blobs.fillsInFlight);
    return new RegistryProxy({ metrics, distribution, operations, transport, upstreams, replicas, book, store, blobs, collector, logger });
  }

  /** Reads the operator's files again. */
  async reload(): Promise<void> {
    await this.upstreams?.reload();
  }

  async close(): Promise<void> {
    this.upstreams?.close();
    clearInterval(this.refreshing);
    clearInterval(this.collecting);
    await this.replicas?.close();
    await this.blobs.settle();
    await this.book.close();
    this.transport.close();
  }
}

async function refresh(parts: { store: BlobStore; operations: Operations; book: AccessBook }): Promise<void> {
  await parts.book.refresh();
  await parts.operations.pins.refresh();
  await parts.store.refresh();
}

/** Collection of the own repositories, by whoever keeps them. */
function collectedByKeeper(collector: Collector, fleet: Fleet): Pick<Collector, 'collect'> {
  return {
    collect: async () => {
      if (fleet.keepsOwn) return collector.collect();
      const answer = await fleet.askKeeper({ method: 'POST', path: '/flotilla/v1/collect', headers: { 'content-length': '0' } });
      const document = JSON.parse((await readBody(answer, maxAnswerBytes)).toString('utf8')) as Collected & { message?: string };
      if (answer.statusCode !== 200) throw new System(String(document.message));
      return document;
    },
  };
}

/** Told to stay off the network: every upstream is away, so what is held is served, and the rest is refused at once. */
const offlineSender: Sender = {
  send: async () => {
    throw new Error('the proxy is offline');
  },
};
