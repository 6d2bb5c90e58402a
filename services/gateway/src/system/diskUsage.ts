/** The document of `GET /system/df`, written from the services' own bytes. */
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

export async function diskUsage({ containers, images, volumes }: Backends, wanted: ReadonlySet<DiskUsageType>): Promise<Buffer> {
  const nothing = Promise.resolve(undefined);
  const [counts, imageList, containerList, volumeList] = await Promise.all([
    wanted.has('image') ? images.counts({}, long) : nothing,
    wanted.has('image') ? images.list({ all: true, filters: {}, sharedSize: true, digests: true, manifests: false }, long) : nothing,
    wanted.has('container') ? containers.list({ all: true, limit: 0, size: true, filters: {} }, long) : nothing,
    wanted.has('volume') ? volumes.list({ filters: {}, usage: true }, long) : nothing,
  ]);
  return Buffer.from(
    `{"LayersSize":${counts?.layersSize ?? 0},"Images":${json(imageList?.imagesJson)},"Containers":${json(containerList?.containersJson)},` +
      `"Volumes":${json(volumeList?.volumesJson)},"BuildCache":${wanted.has('build-cache') ? '[]' : 'null'}}`,
  );
}

function json(bytes: Uint8Array | undefined): string {
  return bytes === undefined || bytes.length === 0 ? 'null' : new TextDecoder().decode(bytes);
}
