/** What a registry needs to know of a manifest that is pushed into it: what it points at. Kinds it does not know are stored all the same. */
import { bareMediaType, type Digest, isDigest, isIndexType } from '@flotilla/oci';
import { DistributionError } from '../distributionError.ts';

export interface ManifestDocument {
  /** Blobs that must be there: config and layers, but for those that are fetched from elsewhere. */
  readonly blobs: readonly Digest[];
  /** Manifests that must be there: an index's. */
  readonly manifests: readonly Digest[];
  /** What it says something about (a signature, an SBOM); need not be there. */
  readonly subject: Digest | undefined;
  readonly artifactType: string | undefined;
  readonly annotations: Readonly<Record<string, string>> | undefined;
}

const maxReferences = 4096;

/** @throws DistributionError MANIFEST_INVALID */
export function readManifestDocument(bytes: Buffer, mediaType: string): ManifestDocument {
  const document = parse(bytes);
  if (document.mediaType !== undefined && bareMediaType(String(document.mediaType)) !== bareMediaType(mediaType)) {
    throw invalid('mediaType is not the content type');
  }
  if (document.manifests !== undefined && document.layers !== undefined) throw invalid('both an index and a manifest');
  const index = isIndexType(bareMediaType(mediaType));
  const config = document.config === undefined ? [] : [descriptor(document.config, 'config')];
  const layers = list(document.layers, 'layers').map((each) => descriptor(each, 'layers'));
  const children = list(document.manifests, 'manifests').map((each) => descriptor(each, 'manifests').digest);
  return {
    blobs: [...config, ...layers].filter((each) => !each.isForeign).map((each) => each.digest),
    manifests: index ? children : [],
    subject: document.subject === undefined ? undefined : descriptor(document.subject, 'subject').digest,
    artifactType: text(document.artifactType) ?? config[0]?.mediaType,
    annotations: annotationsOf(document.annotations),
  };
}

function parse(bytes: Buffer): Record<string, unknown> {
  try {
    const document: unknown = JSON.parse(bytes.toString('utf8'));
    if (typeof document === 'object' && document !== null && !Array.isArray(document)) return document as Record<string, unknown>;
  } catch (cause) {
    throw new DistributionError('MANIFEST_INVALID', 'manifest invalid', { detail: 'not JSON', cause });
  }
  throw invalid('not an object');
}

function invalid(detail: string): DistributionError {
  return new DistributionError('MANIFEST_INVALID', 'manifest invalid', { detail });
}

function list(value: unknown, name: string): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || value.length > maxReferences) throw invalid(`${name} is not a list`);
  return value;
}

function descriptor(value: unknown, name: string): { digest: Digest; mediaType: string | undefined; isForeign: boolean } {
  const { digest, mediaType, urls } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  if (typeof digest !== 'string' || !isDigest(digest)) throw invalid(`${name} has no digest`);
  return { digest, mediaType: text(mediaType), isForeign: Array.isArray(urls) && urls.length > 0 };
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value.slice(0, 300) : undefined;
}

function annotationsOf(value: unknown): Readonly<Record<string, string>> | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  return Object.fromEntries(Object.entries(value).filter((pair): pair is [string, string] => typeof pair[1] === 'string'));
}
