/** The rules of the proxy's own repositories: what a manifest may point at, how lists are paged, what refers to what. */
import { createHash } from 'node:crypto';
import { type Digest, digestAlgorithm, digestHex, digestOf, mediaTypes } from '@flotilla/oci';
import type { StoredBlob } from '../cache/blobStore.ts';
import { DistributionError } from '../distributionError.ts';
import type { ServedManifest } from '../manifests.ts';
import { isTag, type ManifestReference } from '../route.ts';
import { type ManifestDocument, readManifestDocument } from './manifestDocument.ts';
import type { OwnStore } from './ownStore.ts';

/** A part of a list, and where the next begins. */
export interface Page {
  readonly items: readonly string[];
  /** The value of `last` for what follows; undefined at the end. */
  readonly last: string | undefined;
}

const maxPage = 10_000;
/** In one request; the specification asks for ten at least. */
const maxTags = 100;

const manifestUnknown = (detail: unknown): DistributionError => new DistributionError('MANIFEST_UNKNOWN', 'manifest unknown', { detail });
const blobUnknown = (digest: Digest): DistributionError =>
  new DistributionError('BLOB_UNKNOWN', 'blob unknown to registry', { detail: { digest } });

export class OwnRepositories {
  private readonly store: OwnStore;

  constructor(store: OwnStore) {
    this.store = store;
  }

  async manifest(name: string, reference: ManifestReference): Promise<ServedManifest & { readonly bytes: Buffer }> {
    const digest = 'digest' in reference ? reference.digest : await this.store.tag(name, reference.tag);
    const found = digest === undefined ? undefined : await this.store.manifest(name, digest);
    if (digest === undefined || found === undefined) throw manifestUnknown({ name, ...reference });
    return { digest, ...found, sizeBytes: found.bytes.length };
  }

  /**
   * @param tags - beside the reference, when that is a digest: what the manifest is to be called.
   * @throws DistributionError MANIFEST_INVALID, DIGEST_INVALID, MANIFEST_BLOB_UNKNOWN when it points at what is not there.
   */
  async putManifest(
    name: string,
    reference: ManifestReference,
    tags: readonly string[],
    mediaType: string,
    bytes: Buffer,
  ): Promise<{ digest: Digest; subject?: Digest }> {
    if (tags.length > maxTags || !tags.every(isTag)) throw new DistributionError('MANIFEST_INVALID', 'invalid tag name');
    const digest = 'digest' in reference ? reference.digest : digestOf(bytes);
    if (createHash(digestAlgorithm(digest)).update(bytes).digest('hex') !== digestHex(digest)) {
      throw new DistributionError('DIGEST_INVALID', 'provided digest did not match uploaded content');
    }
    const document = readManifestDocument(bytes, mediaType);
    await this.checkReferences(name, document);
    await this.store.putManifest(name, digest, mediaType, bytes);
    for (const tag of 'tag' in reference ? [reference.tag] : tags) await this.store.setTag(name, tag, digest);
    return { digest, ...(document.subject === undefined ? {} : { subject: document.subject }) };
  }

  private async checkReferences(name: string, document: ManifestDocument): Promise<void> {
    const missing = (digest: Digest): DistributionError =>
      new DistributionError('MANIFEST_BLOB_UNKNOWN', 'blob unknown to registry', { detail: { digest } });
    for (const digest of new Set(document.blobs)) {
      if ((await this.store.renewBlob(name, digest)) === undefined) throw missing(digest);
    }
    for (const digest of new Set(document.manifests)) {
      if ((await this.store.manifest(name, digest)) === undefined) throw missing(digest);
    }
  }

  /** By tag only the tag goes; by digest the manifest and every tag of it. */
  async removeManifest(name: string, reference: ManifestReference): Promise<void> {
    const gone =
      'tag' in reference ? await this.store.removeTag(name, reference.tag) : await this.store.removeManifest(name, reference.digest);
    if (!gone) throw manifestUnknown({ name, ...reference });
  }

  async openBlob(name: string, digest: Digest): Promise<StoredBlob> {
    const blob = await this.store.openBlob(name, digest);
    if (blob === undefined) throw blobUnknown(digest);
    return blob;
  }

  async blobSize(name: string, digest: Digest): Promise<number> {
    // A client that finds it here will not upload it again.
    const size = await this.store.renewBlob(name, digest);
    if (size === undefined) throw blobUnknown(digest);
    return size;
  }

  async removeBlob(name: string, digest: Digest): Promise<void> {
    if (!(await this.store.unlinkBlob(name, digest))) throw blobUnknown(digest);
  }

  /** Lets a repository have another's blob. @returns false when that one has none such. */
  async mount(name: string, digest: Digest, from: string): Promise<boolean> {
    if ((await this.store.blobSize(from, digest)) === undefined) return false;
    await this.store.linkBlob(name, digest);
    return true;
  }

  async tags(name: string, query: URLSearchParams): Promise<Page> {
    if (!(await this.store.hasRepository(name))) {
      throw new DistributionError('NAME_UNKNOWN', 'repository name not known to registry', { detail: { name } });
    }
    return page(await this.store.tags(name), query);
  }

  async catalog(query: URLSearchParams): Promise<Page> {
    return page(await this.store.repositories(), query);
  }

  /** An index of the manifests whose subject is this one; `artifactType` leaves the others out. */
  async referrers(name: string, subject: Digest, artifactType: string | undefined): Promise<object> {
    const manifests: object[] = [];
    for (const digest of await this.store.manifests(name)) {
      const found = await this.store.manifest(name, digest);
      const document = found === undefined ? undefined : readManifestDocument(found.bytes, found.mediaType);
      if (found === undefined || document?.subject !== subject) continue;
      if (artifactType !== undefined && document.artifactType !== artifactType) continue;
      manifests.push({
        mediaType: found.mediaType,
        digest,
        size: found.bytes.length,
        ...(document.artifactType === undefined ? {} : { artifactType: document.artifactType }),
        ...(document.annotations === undefined ? {} : { annotations: document.annotations }),
      });
    }
    return { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests };
  }
}

/** @throws DistributionError PAGINATION_NUMBER_INVALID */
export function page(sorted: readonly string[], query: URLSearchParams): Page {
  const number = query.get('n');
  if (number !== null && !/^\d{1,9}$/.test(number)) {
    throw new DistributionError('PAGINATION_NUMBER_INVALID', 'invalid number of results requested', { detail: { n: number } });
  }
  const limit = number === null ? maxPage : Math.min(Number(number), maxPage);
  const after = query.get('last');
  const rest = after === null ? sorted : sorted.filter((each) => each > after);
  const items = rest.slice(0, limit);
  return { items, last: items.length > 0 && rest.length > items.length ? items.at(-1) : undefined };
}
