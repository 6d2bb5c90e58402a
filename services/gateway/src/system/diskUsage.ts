/** The document of `GET /system/df`, written from the services' own bytes. */
import type { ContainerSummary, ImageSummary } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import { type Backends, long } from '../backends.ts';

const types = ['container', 'image', 'volume', 'build-cache'] as const;
export type DiskUsageType = (typeof types)[number];

/** @throws InvalidParameter for an unknown type. */
export function diskUsageTypes(values: readonly string[]): ReadonlySet<DiskUsageType> {
  if (values.length === 0) return new Set(types);
  return new Set(
    values.map((value) => {
      const type = types.find((each) => each === value);
      if (type === undefined) throw new InvalidParameter(`unknown object type: ${value}`);
      return type;
    }),
  );
}

export async function diskUsage({ containers, images, volumes, builds }: Backends, wanted: ReadonlySet<DiskUsageType>): Promise<Buffer> {
  const nothing = Promise.resolve(undefined);
  const sizes = wanted.has('container');
  const [counts, imageList, containerList, volumeList, cache] = await Promise.all([
    wanted.has('image') ? images.counts({}, long) : nothing,
    wanted.has('image') ? images.list({ all: false, filters: {}, sharedSize: true, digests: true, manifests: false }, long) : nothing,
    sizes || wanted.has('image') ? containers.list({ all: true, limit: 0, size: sizes, logSize: sizes, filters: {} }, long) : nothing,
    wanted.has('volume') ? volumes.list({ filters: {}, usage: true }, long) : nothing,
    wanted.has('build-cache') ? builds.cache({}, long) : nothing,
  ]);
  return Buffer.from(
    `{"LayersSize":${counts?.layersSize ?? 0},"Images":${withUsers(imageList?.imagesJson, containerList?.containersJson)},` +
      `"Containers":${json(sizes ? containerList?.containersJson : undefined)},"Volumes":${json(volumeList?.volumesJson)},` +
      `"BuildCache":${json(cache?.recordsJson)}}`,
  );
}

/** Images, each with the number of containers that use it. */
function withUsers(images: Uint8Array | undefined, containers: Uint8Array | undefined): string {
  if (images === undefined) return 'null';
  const users = new Map<string, number>();
  for (const { ImageID } of (JSON.parse(json(containers)) ?? []) as Pick<ContainerSummary, 'ImageID'>[]) {
    users.set(ImageID, (users.get(ImageID) ?? 0) + 1);
  }
  const list = (JSON.parse(json(images)) ?? []) as ImageSummary[];
  return JSON.stringify(list.map((image) => ({ ...image, Containers: users.get(image.Id) ?? 0 })));
}

function json(bytes: Uint8Array | undefined): string {
  return bytes === undefined || bytes.length === 0 ? 'null' : new TextDecoder().decode(bytes);
}
