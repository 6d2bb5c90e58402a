/** Image manifests, OCI's and docker's schema 2: one config and its layers. @see OCI image-spec manifest.md */
import { type Descriptor, parseDescriptor } from './descriptor.ts';
import { optionalArray, optionalString, parseObject } from './document.ts';
import { InvalidContent } from './errors.ts';
import { mediaTypes } from './mediaTypes.ts';

export interface Manifest {
  readonly mediaType: string;
  readonly config: Descriptor;
  /** Lowest first. */
  readonly layers: readonly Descriptor[];
}

/** Registries refuse larger ones, and so do dockerd and containerd. */
export const maxManifestBytes: number = 4 * 1024 * 1024;
/** overlay stacks 500 at most; dockerd allows 127 in a chain it builds, but reads what others made. */
export const maxLayers = 500;

/**
 * Parses a manifest. `mediaType` is what it was served as, used when the document names none.
 *
 * @throws InvalidContent
 */
export function parseManifest(bytes: Uint8Array, mediaType: string): Manifest {
  const object = parseObject('manifest', bytes, maxManifestBytes);
  // Some tools leave it out or write 0, and dockerd and containerd look at the media type alone; 1 is docker's old format.
  if (![undefined, 0, 2].includes(object.schemaVersion as number | undefined))
    throw new InvalidContent(`manifest has schemaVersion ${JSON.stringify(object.schemaVersion ?? '')}, not 2`);
  // A document that could be read as either kind is an attack on whoever reads it the other way (CVE-2021-41190).
  if (object.manifests !== undefined) throw new InvalidContent('manifest has the field "manifests" of an index');
  const own = optionalString('manifest.mediaType', object.mediaType);
  if (own !== undefined && own !== '' && own !== mediaTypes.ociManifest && own !== mediaTypes.dockerManifest) {
    throw new InvalidContent(`manifest says it is ${own}`);
  }
  const layers = optionalArray('manifest.layers', object.layers, maxLayers);
  if (layers === undefined) throw new InvalidContent('manifest.layers is missing');
  return {
    mediaType: own || mediaType,
    config: parseDescriptor('manifest.config', object.config),
    layers: layers.map((layer, i) => parseDescriptor(`manifest.layers[${i}]`, layer)),
  };
}
