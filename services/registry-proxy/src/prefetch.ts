/** Filling the cache before anybody asks: every manifest and blob of an image, for one platform or for all that its index names. */
import { errorMessage, InvalidParameter } from '@flotilla/errors';
import {
  chooseManifest,
  type Digest,
  hostPlatform,
  isIndexType,
  type Platform,
  parseIndex,
  parseManifest,
  parsePlatform,
  parseReference,
  withDefaultTag,
} from '@flotilla/oci';
import type { Blobs } from './blobs.ts';
import type { Credentials } from './credentials.ts';
import type { Manifests, ServedManifest } from './manifests.ts';
import type { Pins } from './pins.ts';
import type { ManifestReference, Repository } from './route.ts';

export interface PrefetchRequest {
  readonly images: readonly string[];
  /** `linux/arm64`, `all`; empty: this machine's. */
  readonly platform: string;
  /** Whether the image stays whatever the cache's bound says. */
  readonly pin: boolean;
  readonly credentials: Credentials;
}

export type PrefetchLine =
  | { readonly image: string; readonly digest: Digest; readonly blobs: number; readonly bytes: number }
  | { readonly image: string; readonly error: string };

interface WantedImage {
  readonly image: string;
  readonly repository: Repository;
  readonly reference: ManifestReference;
}

interface Asked {
  readonly repository: Repository;
  readonly credentials: Credentials;
}

export class Prefetch {
  private readonly manifests: Pick<Manifests, 'get'>;
  private readonly blobs: Pick<Blobs, 'open'>;
  private readonly pins: Pins;

  constructor(parts: { manifests: Pick<Manifests, 'get'>; blobs: Pick<Blobs, 'open'>; pins: Pins }) {
    this.manifests = parts.manifests;
    this.blobs = parts.blobs;
    this.pins = parts.pins;
  }

  /** One image after another; one that cannot be had does not keep the others. @throws InvalidParameter for names that are none. */
  run(request: PrefetchRequest, signal: AbortSignal): AsyncIterable<PrefetchLine> {
    const wanted = request.images.map((image) => ({ image, ...readImage(image) }));
    const platform = request.platform === 'all' ? undefined : readPlatform(request.platform);
    return this.each(wanted, platform, request, signal);
  }

  private async *each(
    wanted: readonly WantedImage[],
    platform: Platform | undefined,
    { credentials, pin }: PrefetchRequest,
    signal: AbortSignal,
  ): AsyncIterable<PrefetchLine> {
    for (const { image, repository, reference } of wanted) {
      try {
        yield await this.fetch(image, { repository, credentials }, reference, platform, pin, signal);
      } catch (error) {
        signal.throwIfAborted();
        yield { image, error: errorMessage(error) };
      }
    }
  }

  private async fetch(
    image: string,
    asked: Asked,
    reference: ManifestReference,
    platform: Platform | undefined,
    pin: boolean,
    signal: AbortSignal,
  ): Promise<PrefetchLine> {
    const top = await this.manifests.get({ ...asked, reference, maxAgeMs: 0 });
    const digests = new Set<Digest>();
    for (const manifest of await this.chosen(asked, top, platform)) {
      const { config, layers } = parseManifest(bytesOf(manifest), manifest.mediaType);
      for (const descriptor of [config, ...layers]) digests.add(descriptor.digest as Digest);
    }
    let bytes = 0;
    await Promise.all(
      [...digests].map(async (digest) => {
        bytes += await this.whole(asked, digest, signal);
      }),
    );
    if (pin) await this.pins.put({ image, digests: [...digests] });
    return { image, digest: top.digest, blobs: digests.size, bytes };
  }

  private async chosen(asked: Asked, top: ServedManifest, platform: Platform | undefined): Promise<ServedManifest[]> {
    if (!isIndexType(top.mediaType)) return [top];
    const index = parseIndex(bytesOf(top), top.mediaType);
    const one = platform === undefined ? undefined : chooseManifest(index, platform);
    if (platform !== undefined && one === undefined)
      throw new InvalidParameter('no matching manifest for the platform in the manifest list entries');
    const children = one === undefined ? index.manifests : [one];
    return Promise.all(
      children.map((child) => this.manifests.get({ ...asked, reference: { digest: child.digest as Digest }, maxAgeMs: 0 })),
    );
  }

  /** Waits until the blob is complete. @returns its bytes. */
  private async whole(asked: Asked, digest: Digest, signal: AbortSignal): Promise<number> {
    const { reader } = await this.blobs.open({ ...asked, digest });
    try {
      for (let position = 0; ; ) {
        const end = await reader.available(position, signal);
        if (end === position || end === reader.sizeBytes) return end;
        position = end;
      }
    } finally {
      await reader.close();
    }
  }
}

function bytesOf(manifest: ServedManifest): Buffer {
  if (manifest.bytes === undefined) throw new Error('a manifest came without its bytes');
  return manifest.bytes;
}

function readImage(image: string): { repository: Repository; reference: ManifestReference } {
  try {
    const { domain, path, tag, digest } = withDefaultTag(parseReference(image));
    const repository = { registry: domain, name: path };
    return { repository, reference: digest === undefined ? { tag: tag ?? 'latest' } : { digest: digest as Digest } };
  } catch (cause) {
    throw new InvalidParameter(`invalid reference format: ${image}`, { cause });
  }
}

function readPlatform(text: string): Platform {
  if (text === '') return hostPlatform();
  try {
    return parsePlatform(text);
  } catch (cause) {
    throw new InvalidParameter(errorMessage(cause), { cause });
  }
}
