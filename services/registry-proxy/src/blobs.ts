/** Blobs: from the cache when the upstream lets the asker have them, else by one fill that everybody follows. */
import type { Digest } from '@flotilla/oci';
import type { Logger } from '@flotilla/service-kit';
import type { Access, Asker } from './access.ts';
import { BlobFill, type BlobSource, type FetchedBody, type FillSettings } from './cache/blobFill.ts';
import type { BlobStore, StoredBlob } from './cache/blobStore.ts';
import type { FollowedBlob } from './cache/frontier.ts';
import { isUpstreamAway } from './distributionError.ts';
import { staleWarning } from './manifests.ts';
import { repositoryKey } from './route.ts';
import type { Slots } from './slots.ts';
import { discard, type TransportResponse } from './upstream/transport.ts';
import type { Upstream } from './upstream/upstream.ts';

export interface BlobRequest extends Asker {
  readonly digest: Digest;
}

/** A blob that can be read, complete or still growing. Whoever opens it closes it. */
export type BlobReader = StoredBlob | FollowedBlob;

export interface OpenedBlob {
  readonly reader: BlobReader;
  readonly origin: 'cache' | 'fill' | 'join';
  readonly warning?: string;
}

export class Blobs {
  private readonly store: BlobStore;
  private readonly upstream: Pick<Upstream, 'request'>;
  private readonly access: Access;
  private readonly slots: Slots;
  private readonly settings: FillSettings;
  private readonly logger: Logger;
  private readonly fills = new Map<Digest, BlobFill>();

  constructor(parts: {
    store: BlobStore;
    upstream: Pick<Upstream, 'request'>;
    access: Access;
    slots: Slots;
    settings: FillSettings;
    logger: Logger;
  }) {
    this.store = parts.store;
    this.upstream = parts.upstream;
    this.access = parts.access;
    this.slots = parts.slots;
    this.settings = parts.settings;
    this.logger = parts.logger;
  }

  get fillsInFlight(): number {
    return this.fills.size;
  }

  /** Waits for what has arrived whole to be in the store: the end of a service should not cost a blob. */
  async settle(): Promise<void> {
    const arrived = [...this.fills.values()].filter((fill) => fill.isVerified);
    await Promise.allSettled(arrived.map((fill) => fill.finished));
  }

  /** @throws UpstreamRefusal, UpstreamAway. */
  async open(request: BlobRequest): Promise<OpenedBlob> {
    for (;;) {
      const stored = await this.openStored(request);
      if (stored !== undefined) return stored;
      const fill = this.fills.get(request.digest);
      if (fill === undefined) return this.startFill(request);
      const joined = await this.join(fill, request);
      if (joined !== undefined) return joined;
    }
  }

  /** Bytes of a blob. The upstream is asked, since a client that is about to push needs to know what is there now. */
  async size(request: BlobRequest): Promise<{ sizeBytes: number | undefined; warning?: string }> {
    const cached = await this.store.find(request.digest);
    try {
      const { response } = await this.upstream.request({
        ...request,
        method: 'HEAD',
        path: `blobs/${request.digest}`,
        missing: 'BLOB_UNKNOWN',
      });
      discard(response);
      this.access.granted(request);
      if (cached !== undefined) await this.store.addSource(request.digest, repositoryKey(request.repository));
      const length = response.headers['content-length'];
      return { sizeBytes: length === undefined ? cached : Number(length) };
    } catch (error) {
      this.access.failed(request, error);
      const held = this.store.hasSource(request.digest, repositoryKey(request.repository));
      if (!isUpstreamAway(error) || !held || !this.access.isKnown(request)) throw error;
      return { sizeBytes: cached, warning: staleWarning };
    }
  }

  private async openStored(request: BlobRequest): Promise<OpenedBlob | undefined> {
    const { digest } = request;
    if ((await this.store.find(digest)) === undefined) return undefined;
    const repository = repositoryKey(request.repository);
    const permission = await this.access.check(request, 'blobs', digest, this.store.hasSource(digest, repository));
    await this.store.addSource(digest, repository);
    const reader = await this.store.openBlob(digest);
    if (reader === undefined) return undefined;
    return { reader, origin: 'cache', ...(permission === 'stale' ? { warning: staleWarning } : {}) };
  }

  private startFill(request: BlobRequest): Promise<OpenedBlob> {
    const { digest } = request;
    const fill = new BlobFill(digest, this.source(request), { store: this.store, settings: this.settings, logger: this.logger });
    this.fills.set(digest, fill);
    fill.finished
      .catch((error: unknown) =>
        this.logger.info({ digest, repository: repositoryKey(request.repository), reason: String(error) }, 'fill failed'),
      )
      .finally(() => this.drop(fill));
    return this.follow(fill, 'fill');
  }

  private drop(fill: BlobFill): void {
    if (this.fills.get(fill.digest) === fill) this.fills.delete(fill.digest);
  }

  /** Joins a fill under way, once this user is known to be let in. Undefined when it failed for reasons that are another's. */
  private async join(fill: BlobFill, request: BlobRequest): Promise<OpenedBlob | undefined> {
    if (fill.isFedBy(this.access.key(request))) return this.follow(fill, 'join');
    await this.access.check(request, 'blobs', request.digest, false);
    fill.addSource(this.source(request));
    try {
      return await this.follow(fill, 'join');
    } catch (error) {
      // The one who began it was refused; this user was not.
      this.logger.debug({ digest: request.digest, reason: String(error) }, 'the fill was refused, beginning another');
      this.drop(fill);
      return undefined;
    }
  }

  private async follow(fill: BlobFill, origin: 'fill' | 'join'): Promise<OpenedBlob> {
    const reader = fill.follow();
    try {
      await fill.opened;
      return { reader, origin };
    } catch (error) {
      await reader.close();
      throw error;
    }
  }

  private source(request: BlobRequest): BlobSource {
    return {
      key: this.access.key(request),
      repository: repositoryKey(request.repository),
      fetch: (from) => this.fetch(request, from),
      check: async () => (await this.size(request)).sizeBytes,
    };
  }

  private async fetch(request: BlobRequest, from: number): Promise<FetchedBody> {
    const give = await this.slots.take(request.repository.registry);
    try {
      const { response, endpoint, disown } = await this.upstream.request({
        repository: request.repository,
        credentials: request.credentials,
        method: 'GET',
        path: `blobs/${request.digest}`,
        headers: { 'accept-encoding': 'identity', ...(from > 0 ? { range: `bytes=${from}-` } : {}) },
        missing: 'BLOB_UNKNOWN',
      });
      if (response.headers.warning !== staleWarning) this.access.granted(request);
      response.once('close', give);
      return { ...extentOf(response), origin: endpoint.base, disown };
    } catch (error) {
      give();
      this.access.failed(request, error);
      throw error;
    }
  }
}

/** What part of the blob an answer holds. */
function extentOf(response: TransportResponse): Pick<FetchedBody, 'body' | 'from' | 'sizeBytes'> {
  const length = response.headers['content-length'];
  if (response.statusCode !== 206) return { body: response, from: 0, sizeBytes: length === undefined ? undefined : Number(length) };
  const range = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/.exec(response.headers['content-range'] ?? '');
  const total = range?.[3] === '*' ? Number(range[2]) + 1 : Number(range?.[3]);
  return { body: response, from: Number(range?.[1] ?? Number.NaN), sizeBytes: Number.isNaN(total) ? undefined : total };
}
