/**
 * May this user have content that is in the cache already? Only if the upstream lets them: either it did so for the same repository a
 * moment ago, or it is asked now, by HEAD, with their own credentials. A digest alone is no right: the repository they name must be known to
 * hold the content, or a blob of one private repository could be read through another, public one.
 */
import type { Digest } from '@flotilla/oci';
import type { AccessBook } from './cache/accessBook.ts';
import { type Credentials, credentialsKey } from './credentials.ts';
import { isRefused, isUpstreamAway } from './distributionError.ts';
import { ownRegistry, type Repository, repositoryKey } from './route.ts';
import { SingleFlight } from './singleFlight.ts';
import { discard } from './upstream/transport.ts';
import type { Upstream } from './upstream/upstream.ts';

/** One user's wish for something of one repository. */
export interface Asker {
  readonly repository: Repository;
  readonly credentials: Credentials;
}

/** How a permission was come by; `stale` is from before the upstream went away. */
export type Permission = 'fresh' | 'stale';

export class Access {
  private readonly book: AccessBook;
  private readonly upstream: Pick<Upstream, 'request'>;
  private readonly secret: Buffer;
  private readonly checks = new SingleFlight<void>();

  constructor(parts: { book: AccessBook; upstream: Pick<Upstream, 'request'>; secret: Buffer }) {
    this.book = parts.book;
    this.upstream = parts.upstream;
    this.secret = parts.secret;
  }

  /** Repository and credentials as one key. */
  key(asker: Asker): string {
    return `${repositoryKey(asker.repository)} ${credentialsKey(asker.credentials, this.secret)}`;
  }

  granted(asker: Asker): void {
    this.book.grant(repositoryKey(asker.repository), credentialsKey(asker.credentials, this.secret));
  }

  /** Notes what a failed request says of this user's rights. */
  failed(asker: Asker, error: unknown): void {
    if (isRefused(error)) this.book.revoke(repositoryKey(asker.repository), credentialsKey(asker.credentials, this.secret));
  }

  /** Let in a moment ago. What is our own may be deleted at any moment: the replica that keeps it is near, and asked each time. */
  isFresh(asker: Asker): boolean {
    if (asker.repository.registry === ownRegistry) return false;
    return this.book.isFresh(repositoryKey(asker.repository), credentialsKey(asker.credentials, this.secret));
  }

  /** Let in before the upstream went away. */
  isKnown(asker: Asker): boolean {
    return this.book.isKnown(repositoryKey(asker.repository), credentialsKey(asker.credentials, this.secret));
  }

  /**
   * Checks that the upstream lets this user have this content.
   *
   * @param isHeld - whether the repository is known to hold the content.
   * @throws UpstreamRefusal, UpstreamAway.
   */
  async check(asker: Asker, kind: 'blobs' | 'manifests', digest: Digest, isHeld: boolean): Promise<Permission> {
    if (isHeld && this.isFresh(asker)) return 'fresh';
    try {
      await this.checks.do(`${this.key(asker)} ${kind} ${digest}`, () => this.ask(asker, kind, digest));
      return 'fresh';
    } catch (error) {
      if (isHeld && isUpstreamAway(error) && this.isKnown(asker)) return 'stale';
      throw error;
    }
  }

  private async ask(asker: Asker, kind: 'blobs' | 'manifests', digest: Digest): Promise<void> {
    try {
      const { response } = await this.upstream.request({
        ...asker,
        method: 'HEAD',
        path: `${kind}/${digest}`,
        headers: { accept: kind === 'manifests' ? acceptManifests : '*/*' },
        missing: kind === 'manifests' ? 'MANIFEST_UNKNOWN' : 'BLOB_UNKNOWN',
      });
      discard(response);
      this.granted(asker);
    } catch (error) {
      this.failed(asker, error);
      throw error;
    }
  }
}

/** Every kind of manifest; what an upstream answers is kept as it is, for whoever asks next. */
export const acceptManifests: string = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.oci.artifact.manifest.v1+json',
  '*/*;q=0.1',
].join(', ');
