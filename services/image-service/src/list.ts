/** Listing images: what `GET /images/json` shows. */
import type { ImageSummary } from '@flotilla/engine-api';
import { type Digest, familiarMatch, familiarString } from '@flotilla/oci';
import { booleanFilter, checkFilters, type Filters, matchesLabels, untilFilter } from './filters.ts';
import { createdSeconds, type Image } from './image.ts';
import type { ImageStore } from './imageStore.ts';

export interface ListRequest {
  /** Also images that only others were built from. */
  readonly all: boolean;
  readonly filters: Filters;
  readonly sharedSize: boolean;
}

const knownFilters = ['dangling', 'label', 'before', 'since', 'reference', 'until'];

/** @throws InvalidParameter for filters that make no sense; NotFound for images that `before` and `since` name. */
export function listImages(store: ImageStore, request: ListRequest): ImageSummary[] {
  const { filters } = request;
  checkFilters(filters, knownFilters);
  const dangling = booleanFilter(filters, 'dangling');
  const before = newest(filters.get('before'), store, Math.min);
  const since = newest(filters.get('since'), store, Math.max);
  const untils = (filters.get('until') ?? []).map((value) => untilFilter(new Map([['until', [value]]])) ?? Number.POSITIVE_INFINITY);
  const until = Math.min(...untils);
  const patterns = filters.get('reference') ?? [];
  const parents = new Set<Digest>();
  for (const image of store.all()) if (image.record.parent !== undefined) parents.add(image.record.parent);
  const shared = request.sharedSize ? layerUsers(store) : undefined;
  const found: { image: Image; summary: ImageSummary }[] = [];
  for (const image of store.visible()) {
    if (before !== undefined && image.createdMs >= before) continue;
    if (since !== undefined && image.createdMs <= since) continue;
    if (image.createdMs >= until) continue;
    if (!matchesLabels(filters, 'label', image.config.config.Labels ?? {})) continue;
    const names = store
      .visibleReferences(image.id)
      .filter((name) => patterns.length === 0 || patterns.some((pattern) => familiarMatch(pattern, name)));
    const tags = names.filter((name) => name.digest === undefined);
    if (names.length === 0) {
      if (patterns.length > 0 || dangling === false) continue;
      if (image.record.cacheOnly === true && (dangling === true || !request.all)) continue;
      if (parents.has(image.id) && (dangling === true || !request.all)) continue;
    } else if (dangling === true && tags.length > 0) continue;
    found.push({
      image,
      summary: {
        Containers: -1,
        Created: createdSeconds(image.config.created),
        Id: image.id,
        Labels: image.config.config.Labels ?? null,
        ParentId: image.record.parent ?? '',
        RepoDigests: names.filter((name) => name.digest !== undefined).map(familiarString),
        RepoTags: tags.map(familiarString),
        SharedSize: shared === undefined ? -1 : sharedSize(store, image, shared),
        Size: image.record.sizeBytes,
      },
    });
  }
  return found.sort((a, b) => b.image.createdMs - a.image.createdMs).map(({ summary }) => summary);
}

function newest(names: readonly string[] | undefined, store: ImageStore, choose: (...times: number[]) => number): number | undefined {
  return names === undefined || names.length === 0 ? undefined : choose(...names.map((name) => store.find(name).createdMs));
}

function layerUsers(store: ImageStore): Map<Digest, number> {
  const users = new Map<Digest, number>();
  for (const image of store.all()) for (const layer of new Set(image.layers)) users.set(layer, (users.get(layer) ?? 0) + 1);
  return users;
}

function sharedSize(store: ImageStore, image: Image, users: ReadonlyMap<Digest, number>): number {
  let size = 0;
  for (const layer of new Set(image.layers)) if ((users.get(layer) ?? 0) > 1) size += store.layers.get(layer)?.sizeBytes ?? 0;
  return size;
}
