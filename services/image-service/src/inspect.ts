/** One image in full: inspect and history. */
import { dirname, join } from 'node:path';
import type { ImageHistoryItem, ImageInspect } from '@flotilla/engine-api';
import { NotFound, System } from '@flotilla/errors';
import { familiarString, formatPlatform, normalisePlatform, type Platform, platformMatches } from '@flotilla/oci';
import { createdSeconds, type Image } from './image.ts';
import type { ImageStore } from './imageStore.ts';

/** The platform an image says it is for. */
export function imagePlatform(image: Image): Platform {
  const { os, architecture, variant } = image.config;
  return normalisePlatform({ os: os || 'linux', architecture, ...(variant === undefined ? {} : { variant }) });
}

/** What dockerd says of an image that is here, but for another platform than `wanted`. */
export function platformMismatch(image: Image, wanted: Platform, name: string): string | undefined {
  const own = imagePlatform(image);
  if (platformMatches(wanted, own)) return undefined;
  return `image with reference ${name} was found but its platform (${formatPlatform(own)}) does not match the specified platform (${formatPlatform(wanted)})`;
}

/** @throws NotFound when the image is for another platform than `wanted`. */
export function requirePlatform(image: Image, wanted: Platform | undefined, name: string): void {
  const mismatch = wanted === undefined ? undefined : platformMismatch(image, wanted, name);
  if (mismatch !== undefined) throw new NotFound(mismatch);
}

export function inspectImage(store: ImageStore, image: Image): ImageInspect {
  const { config, record } = image;
  const names = store.visibleReferences(image.id);
  return {
    Id: image.id,
    RepoTags: names.filter((name) => name.digest === undefined).map(familiarString),
    RepoDigests: names.filter((name) => name.digest !== undefined).map(familiarString),
    Parent: record.parent ?? '',
    Comment: config.comment ?? config.history.at(-1)?.comment ?? '',
    ...(config.created === undefined ? {} : { Created: config.created }),
    DockerVersion: config.docker_version ?? '',
    Author: config.author ?? '',
    Config: inspectConfig(image),
    Architecture: config.architecture,
    ...(config.variant === undefined ? {} : { Variant: config.variant }),
    Os: config.os,
    ...(config['os.version'] === undefined ? {} : { OsVersion: config['os.version'] }),
    Size: record.sizeBytes,
    GraphDriver: { Name: 'overlay2', Data: graphData(store, image) },
    RootFS: { Type: config.rootfs.type, ...(image.layers.length === 0 ? {} : { Layers: [...image.layers] }) },
    Metadata: { LastTagTime: record.lastTagTime ?? '0001-01-01T00:00:00Z' },
  };
}

function inspectConfig(image: Image): ImageInspect['Config'] {
  // The shapes are one: what the image's config holds is what the API shows.
  return { ...image.config.config } as ImageInspect['Config'];
}

/** Where the layers are, in overlay2's terms: the highest one as upper, those below as lower directories. */
function graphData(store: ImageStore, image: Image): Record<string, string> | null {
  const top = image.layers.at(-1);
  if (top === undefined) return null;
  const upper = store.content.layerPath(top);
  const lower = image.layers
    .slice(0, -1)
    .reverse()
    .map((layer) => store.content.layerPath(layer));
  return {
    ...(lower.length === 0 ? {} : { LowerDir: lower.join(':') }),
    MergedDir: join(dirname(upper), 'merged'),
    UpperDir: upper,
    WorkDir: join(dirname(upper), 'work'),
  };
}

/** Newest step first. @throws System when the history has more layers than the image. */
export function imageHistory(store: ImageStore, image: Image): ImageHistoryItem[] {
  const items: ImageHistoryItem[] = [];
  let layer = 0;
  for (const entry of image.config.history) {
    let size = 0;
    if (entry.empty_layer !== true) {
      const diffId = image.layers[layer++];
      if (diffId === undefined) throw new System('too many non-empty layers in History section');
      size = store.layers.get(diffId)?.sizeBytes ?? 0;
    }
    items.unshift({
      Id: '<missing>',
      Created: createdSeconds(entry.created),
      CreatedBy: entry.created_by ?? '',
      Tags: null,
      Size: size,
      Comment: entry.comment ?? '',
    });
  }
  let step: Image | undefined = image;
  for (const item of items) {
    if (step === undefined) break;
    const tags = store.visibleReferences(step.id).filter((name) => name.digest === undefined);
    item.Id = step.id;
    item.Tags = tags.length === 0 ? null : tags.map(familiarString);
    step = step.record.parent === undefined ? undefined : store.get(step.record.parent);
  }
  return items;
}
