/** One repository at the registry-proxy, as a pull reads it: manifests, small blobs and tags verified, layers by whoever wants them. */
import {
  acceptedManifestTypes,
  bareMediaType,
  type Digest,
  DigestVerifier,
  digestOf,
  InvalidContent,
  maxManifestBytes,
  parseDigest,
  type Reference,
  repositoryName,
} from '@flotilla/oci';
import { outgoingHeaders } from '@flotilla/service-kit';
import { LayerContentError } from '../contentError.ts';
import { type BlobSource, RegistryError, readBody, refusal, send, type WithRegistry } from './distribution.ts';
import { pullError } from './errors.ts';

/** A manifest or an index as it came. */
export interface Served {
  readonly bytes: Buffer;
  readonly mediaType: string;
  readonly digest: Digest;
}

export class RemoteRepository {
  private readonly registry: WithRegistry;
  private readonly reference: Reference;
  private readonly headers: Readonly<Record<string, string>>;
  private readonly signal: AbortSignal;

  constructor(registry: WithRegistry, reference: Reference, registryAuth: string, signal: AbortSignal) {
    this.registry = registry;
    this.reference = reference;
    this.signal = signal;
    this.headers = registryAuth === '' ? {} : { 'X-Registry-Auth': registryAuth };
  }

  private path(rest: string): string {
    return `/v2/${repositoryName(this.reference)}/${rest}`;
  }

  /** Reads a blob by `work`, which may be told of another address when the first has gone. */
  withBlob<T>(digest: Digest, work: (source: BlobSource) => Promise<T>): Promise<T> {
    // The layer's own signal ends the work; this one only the search for an address.
    return this.registry(
      (address) => work({ address, path: this.path(`blobs/${digest}`), headers: { ...outgoingHeaders(), ...this.headers } }),
      this.signal,
    );
  }

  async manifest(tagOrDigest: string): Promise<Served> {
    const bytes = await this.get(`manifests/${tagOrDigest}`, maxManifestBytes, { Accept: acceptedManifestTypes.join(', ') });
    const digest = digestOf(bytes.body);
    // What was asked by digest must be it; what was asked by tag is what it hashes to, whatever a header says.
    if (tagOrDigest.includes(':') && !isContentOf(bytes.body, parseDigest(tagOrDigest))) {
      throw new LayerContentError(`manifest verification failed for digest ${tagOrDigest}`);
    }
    const served = bareMediaType(bytes.contentType);
    return { bytes: bytes.body, mediaType: ownMediaType(bytes.body) ?? served, digest };
  }

  async blob(digest: Digest, maxBytes: number): Promise<Buffer> {
    return (await this.get(`blobs/${digest}`, maxBytes)).body;
  }

  async tags(): Promise<string[]> {
    const { body } = await this.get('tags/list', maxManifestBytes);
    const { tags } = JSON.parse(body.toString('utf8')) as { tags?: unknown };
    return Array.isArray(tags) ? tags.filter((tag): tag is string => typeof tag === 'string') : [];
  }

  private async get(
    rest: string,
    maxBytes: number,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<{ body: Buffer; contentType: string }> {
    try {
      return await this.registry(async (address) => {
        const answer = await send(address, {
          method: 'GET',
          path: this.path(rest),
          headers: { ...this.headers, ...headers },
          signal: this.signal,
        });
        if (answer.status !== 200) throw await refusal(answer);
        return { body: await readBody(answer, maxBytes), contentType: answer.headers['content-type'] ?? '' };
      }, this.signal);
    } catch (error) {
      throw error instanceof RegistryError ? pullError(error, this.reference) : error;
    }
  }
}

function isContentOf(bytes: Buffer, digest: Digest): boolean {
  const verifier = new DigestVerifier(digest);
  verifier.update(bytes);
  return verifier.verified();
}

/** The media type a document gives itself, which its digest vouches for. */
function ownMediaType(bytes: Buffer): string | undefined {
  try {
    const { mediaType } = JSON.parse(bytes.toString('utf8')) as { mediaType?: unknown };
    return typeof mediaType === 'string' && mediaType !== '' ? mediaType : undefined;
  } catch (cause) {
    throw new InvalidContent('manifest is not JSON', { cause });
  }
}
