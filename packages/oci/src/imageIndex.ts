/** Indexes (docker: manifest lists): one name, a manifest for each platform. @see OCI image-spec image-index.md */
import { type Descriptor, parseDescriptor } from './descriptor.ts';
import { optionalArray, optionalString, optionalStringMap, parseObject } from './document.ts';
import { InvalidContent } from './errors.ts';
import { maxManifestBytes } from './manifest.ts';
import { isIndexType, isManifestType } from './mediaTypes.ts';
import { type Platform, platformRank } from './platform.ts';

export interface ImageIndex {
  readonly mediaType: string;
  readonly manifests: readonly Descriptor[];
  readonly annotations?: Readonly<Record<string, string>>;
}

const maxIndexEntries = 2048;

/** Parses an index. `mediaType` is what it was served as. @throws InvalidContent */
export function parseIndex(bytes: Uint8Array, mediaType: string): ImageIndex {
  const object = parseObject('index', bytes, maxManifestBytes);
  if (object.schemaVersion !== 2) throw new InvalidContent(`index has schemaVersion ${JSON.stringify(object.schemaVersion ?? '')}, not 2`);
  for (const field of ['config', 'layers', 'fsLayers', 'history']) {
    if (object[field] !== undefined) throw new InvalidContent(`index has the field "${field}" of a manifest`);
  }
  const own = optionalString('index.mediaType', object.mediaType);
  if (own !== undefined && own !== '' && !isIndexType(own)) throw new InvalidContent(`index says it is ${own}`);
  const manifests = optionalArray('index.manifests', object.manifests, maxIndexEntries);
  if (manifests === undefined) throw new InvalidContent('index.manifests is missing');
  const annotations = optionalStringMap('index.annotations', object.annotations);
  return {
    mediaType: own || mediaType,
    manifests: manifests.map((entry, i) => parseDescriptor(`index.manifests[${i}]`, entry)),
    ...(annotations === undefined ? {} : { annotations }),
  };
}

/** The entry to run where `wanted` is asked for; undefined when there is none. Attestations and unknown kinds are passed over. */
export function chooseManifest(index: ImageIndex, wanted: Platform): Descriptor | undefined {
  let best: Descriptor | undefined;
  let bestRank = Number.POSITIVE_INFINITY;
  for (const entry of index.manifests) {
    if (!isManifestType(entry.mediaType)) continue;
    if (entry.annotations?.['vnd.docker.reference.type'] !== undefined) continue;
    // An entry without a platform says nothing: it is taken when nothing says better.
    const rank = entry.platform === undefined ? 1000 : platformRank(wanted, entry.platform);
    if (rank !== undefined && rank < bestRank) {
      best = entry;
      bestRank = rank;
    }
  }
  return best;
}
