/**
 * Manifests: by digest from the cache for ever, by tag after the upstream has said that the tag still means the same; what the cache holds
 * stands in while the upstream is away.
 */
import { createHash } from 'node:crypto';
import { bareMediaType, type Digest, digestAlgorithm, digestHex, digestOf, isDigest, maxManifestBytes } from '@flotilla/oci';
import type { Logger } from '@flotilla/service-kit';
import { type Access, type Asker, acceptManifests } from './access.ts';
import type { ManifestStore, StoredManifest } from './cache/manifestStore.ts';
import { DistributionError, isMissing, isUpstreamAway, UpstreamAway } from './distributionError.ts';
import { type ManifestReference, referenceText, repositoryKey } from './route.ts';
import { SingleFlight } from './singleFlight.ts';
import { BodyTooLarge, discard, readBody, type TransportResponse } from './upstream/transport.ts';
import type { Upstream, UpstreamAnswer } from './upstream/upstream.ts';

export interface ServedManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly sizeBytes: number;
  /** undefined in an answer to HEAD that the upstream gave. */
  readonly bytes?: Buffer;
  /** Where its bytes came from; undefined when there are none. */
  readonly origin?: 'cache' | 'upstream';
  /** Why it may be out of date; the text of a Warning header. */
  readonly warning?: string;
}

/** @see RFC 7234 section 5.5 */
export const staleWarning = '110 registry-proxy "Response is Stale", 111 registry-proxy "Revalidation Failed"';

export interface ManifestRequest extends Asker {
  readonly reference: ManifestReference;
  /** Milliseconds for which a tag need not be asked for again. */
  readonly maxAgeMs: number;
}

export class Manifests {
  private readonly store: ManifestStore;
  private readonly upstream: Pick<Upstream, 'request'>;
  private readonly access: Access;
  private readonly logger: Logger;
  private readonly reads = new SingleFlight<ServedManifest>();

  constructor(parts: { store: ManifestStore; upstream: Pick<Upstream, 'request'>; access: Access; logger: Logger }) {
    this.store = parts.store;
    this.upstream = parts.upstream;
    this.access = parts.access;
    this.logger = parts.logger;
  }

  /** @throws UpstreamRefusal, UpstreamAway, DistributionError DIGEST_INVALID when the upstream lies. */
  get(request: ManifestRequest): Promise<ServedManifest> {
    const { reference } = request;
    const key = `get ${this.access.key(request)} ${referenceText(reference)} ${request.maxAgeMs > 0}`;
    return this.reads.do(key, () =>
      'digest' in reference ? this.byDigest(request, reference.digest) : this.byTag(request, reference.tag),
    );
  }

  /** The headers of a manifest; the upstream is asked by HEAD, which registries do not count as a pull. */
  async head(request: ManifestRequest): Promise<ServedManifest> {
    const { reference } = request;
    const known = await this.known(request);
    if (known !== undefined && 'tag' in reference && (await this.isRecent(request, reference.tag))) return served(known);
    if (known !== undefined && 'digest' in reference && this.isHeldFresh(request, known)) return served(known);
    try {
      return await this.askHead(request);
    } catch (error) {
      return this.standIn(request, known, error);
    }
  }

  /** Puts a manifest into the upstream; what it took is kept. */
  async push(asker: Asker, reference: ManifestReference, mediaType: string, bytes: Buffer): Promise<{ digest: Digest; subject?: string }> {
    const { response } = await this.upstream.request({
      ...asker,
      method: 'PUT',
      path: `manifests/${referenceText(reference)}`,
      headers: { 'content-type': mediaType },
      body: bytes,
      missing: 'NAME_UNKNOWN',
    });
    discard(response);
    const digest = 'digest' in reference ? reference.digest : digestOf(bytes);
    const repository = repositoryKey(asker.repository);
    await this.store.put({ digest, mediaType, bytes }, repository);
    if ('tag' in reference) await this.store.setTag(repository, reference.tag, digest);
    const subject = response.headers['oci-subject'];
    return { digest, ...(typeof subject === 'string' ? { subject } : {}) };
  }

  /** The upstream has deleted it. */
  async forget(asker: Asker, reference: ManifestReference): Promise<void> {
    const repository = repositoryKey(asker.repository);
    if ('tag' in reference) await this.store.removeTag(repository, reference.tag);
    else await this.store.removeSource(reference.digest, repository);
  }

  private async byDigest(request: ManifestRequest, digest: Digest): Promise<ServedManifest> {
    const known = await this.store.get(digest);
    if (known === undefined) return this.fetch(request);
    const source = repositoryKey(request.repository);
    const permission = await this.access.check(request, 'manifests', digest, known.sources.has(source));
    await this.store.put(known, source);
    return served(known, permission === 'stale' ? staleWarning : undefined);
  }

  private async byTag(request: ManifestRequest, tag: string): Promise<ServedManifest> {
    const known = await this.known(request);
    if (known !== undefined && (await this.isRecent(request, tag))) return served(known);
    try {
      if (known !== undefined) {
        const now = await this.askHead(request);
        if (now.digest === known.digest) {
          await this.store.setTag(repositoryKey(request.repository), tag, known.digest);
          return served(known, now.warning);
        }
        const other = await this.store.get(now.digest);
        if (other !== undefined) {
          // The upstream has just said, to this user, that this tag of this repository is that manifest.
          const stored = await this.store.put(other, repositoryKey(request.repository));
          await this.store.setTag(repositoryKey(request.repository), tag, stored.digest);
          return served(stored, now.warning);
        }
      }
      return await this.fetch(request);
    } catch (error) {
      return this.standIn(request, known, error);
    }
  }

  /** What the cache holds for a request, wherever it came from. */
  private async known(request: ManifestRequest): Promise<StoredManifest | undefined> {
    const { reference } = request;
    const digest =
      'digest' in reference ? reference.digest : (await this.store.tag(repositoryKey(request.repository), reference.tag))?.digest;
    return digest === undefined ? undefined : this.store.get(digest);
  }

  private isHeldFresh(request: ManifestRequest, manifest: StoredManifest): boolean {
    return manifest.sources.has(repositoryKey(request.repository)) && this.access.isFresh(request);
  }

  private async isRecent(request: ManifestRequest, tag: string): Promise<boolean> {
    const record = await this.store.tag(repositoryKey(request.repository), tag);
    return record !== undefined && Date.now() - record.checkedAt < request.maxAgeMs && this.access.isFresh(request);
  }

  /** The upstream is away: what was true before will do, for those who were let in before. */
  private standIn(request: ManifestRequest, known: StoredManifest | undefined, error: unknown): ServedManifest {
    const held = known?.sources.has(repositoryKey(request.repository)) === true;
    if (known === undefined || !held || !isUpstreamAway(error) || !this.access.isKnown(request)) throw error;
    this.logger.info({ repository: repositoryKey(request.repository), digest: known.digest }, 'upstream is away, serving what is cached');
    return served(known, staleWarning);
  }

  private async ask(request: ManifestRequest, method: 'GET' | 'HEAD'): Promise<UpstreamAnswer> {
    try {
      const answer = await this.upstream.request({
        repository: request.repository,
        credentials: request.credentials,
        method,
        path: `manifests/${referenceText(request.reference)}`,
        // Another replica, or a mirror, is not to answer from what it holds either.
        headers: { accept: acceptManifests, ...(request.maxAgeMs === 0 ? { 'cache-control': 'no-cache' } : {}) },
        missing: 'MANIFEST_UNKNOWN',
      });
      if (warningOf(answer.response) === undefined) this.access.granted(request);
      return answer;
    } catch (error) {
      this.access.failed(request, error);
      if (isMissing(error) && 'tag' in request.reference) {
        await this.store.removeTag(repositoryKey(request.repository), request.reference.tag);
      }
      throw error;
    }
  }

  private async askHead(request: ManifestRequest): Promise<ServedManifest> {
    const { response } = await this.ask(request, 'HEAD');
    discard(response);
    const digest = headerDigest(response) ?? ('digest' in request.reference ? request.reference.digest : undefined);
    const sizeBytes = Number(response.headers['content-length'] ?? Number.NaN);
    // Some registries answer HEAD without a digest; only the content itself tells then.
    if (digest === undefined || !Number.isSafeInteger(sizeBytes)) return this.fetch(request);
    const mediaType = response.headers['content-type'] ?? 'application/octet-stream';
    const warning = warningOf(response);
    return { digest, sizeBytes, mediaType, ...(warning === undefined ? {} : { warning }) };
  }

  /** GET from upstream, verified and kept. */
  private async fetch(request: ManifestRequest): Promise<ServedManifest> {
    const { response, disown } = await this.ask(request, 'GET');
    const bytes = await readManifest(response);
    const claimed = 'digest' in request.reference ? request.reference.digest : headerDigest(response);
    const digest = claimed ?? digestOf(bytes);
    if (createHash(digestAlgorithm(digest)).update(bytes).digest('hex') !== digestHex(digest)) {
      this.logger.warn({ repository: repositoryKey(request.repository), digest }, 'upstream lied about a manifest, nothing kept');
      if (disown(`what it sent does not match its digest ${digest}`)) return this.fetch(request);
      throw new DistributionError('DIGEST_INVALID', `the content does not match its digest: ${digest}`, { status: 502 });
    }
    const repository = repositoryKey(request.repository);
    const stored = await this.store.put({ digest, mediaType: mediaTypeOf(response, bytes), bytes }, repository);
    if ('tag' in request.reference) await this.store.setTag(repository, request.reference.tag, digest);
    return { ...served(stored, warningOf(response)), origin: 'upstream' };
  }
}

/** What another replica says of what it had to serve from its cache. */
function warningOf(response: TransportResponse): string | undefined {
  return response.headers.warning === staleWarning ? staleWarning : undefined;
}

function served(manifest: StoredManifest, warning?: string): ServedManifest {
  const { digest, mediaType, bytes } = manifest;
  return { digest, mediaType, bytes, sizeBytes: bytes.length, origin: 'cache', ...(warning === undefined ? {} : { warning }) };
}

function headerDigest(response: TransportResponse): Digest | undefined {
  const value = response.headers['docker-content-digest'];
  return typeof value === 'string' && isDigest(value) ? value : undefined;
}

async function readManifest(response: TransportResponse): Promise<Buffer> {
  try {
    return await readBody(response, maxManifestBytes);
  } catch (cause) {
    response.destroy();
    if (cause instanceof BodyTooLarge)
      throw new DistributionError('MANIFEST_INVALID', 'manifest invalid: too large', { status: 502, cause });
    throw new UpstreamAway('unexpected EOF', { status: 502, cause });
  }
}

/** What the upstream calls it, or what it calls itself. */
function mediaTypeOf(response: TransportResponse, bytes: Buffer): string {
  const header = response.headers['content-type'];
  if (
    header !== undefined &&
    header.length < 256 &&
    !['', 'application/json', 'text/plain', 'application/octet-stream'].includes(bareMediaType(header))
  ) {
    return header;
  }
  try {
    const { mediaType } = JSON.parse(bytes.toString('utf8')) as { mediaType?: unknown };
    if (typeof mediaType === 'string' && /^[\w.+/-]{1,255}$/.test(mediaType)) return mediaType;
  } catch {
    // Not JSON: its reader will say so.
  }
  return header ?? 'application/octet-stream';
}
