/** What the build cache holds, as `system df` shows it, and what `builder prune` takes of it. */
import { statfs } from 'node:fs/promises';
import type { BuildCacheRecord } from '@flotilla/engine-api';
import type { Digest } from '@flotilla/oci';
import { checkFilters, type Filters, untilFilter } from '../filters.ts';
import type { ImageStore } from '../imageStore.ts';
import { treeSize } from '../treeSize.ts';
import type { BuildCache } from './cache.ts';

const knownFilters = ['until', 'unused-for', 'id', 'parent', 'type', 'description', 'inuse', 'shared', 'private'];

export interface PruneOptions {
  /** Also what images still use. */
  readonly all: boolean;
  readonly filters: Filters;
  readonly space: PruneSpace;
}

/** How far a prune goes, bytes; 0 is no limit, and without any it takes all. What was used most recently is kept. */
export interface PruneSpace {
  /** What is kept whatever the others say. */
  readonly reserved: number;
  /** What the cache is brought down to. */
  readonly maxUsed: number;
  /** What is to be free on its disk. */
  readonly minFree: number;
}

/** Bytes that stay, as BuildKit reckons them. */
export function bytesToKeep({ reserved, maxUsed, minFree }: PruneSpace, usedBytes: number, freeBytes: number): number {
  if (reserved <= 0 && maxUsed <= 0 && minFree <= 0) return 0;
  // Where neither of the two asks for less, only the reserve is a size to come down to. Without one BuildKit takes all then, also where enough is free:
  // here free space alone, which is there already, takes nothing.
  const limits = maxUsed > 0 ? [maxUsed] : [];
  const missing = minFree - freeBytes;
  if (minFree > 0 && missing > 0) limits.push(usedBytes - missing);
  else if (minFree > 0 && reserved <= 0 && limits.length === 0) limits.push(usedBytes);
  return Math.max(reserved, limits.length === 0 ? 0 : Math.min(...limits));
}

/** Copies of clients' contexts that are kept for builds to come. */
export interface KeptContexts {
  list(): readonly {
    readonly id: string;
    readonly path: string;
    readonly isInUse: boolean;
    readonly created: Date;
    readonly lastUsed: Date;
  }[];
  remove(ids: ReadonlySet<string>): Promise<void>;
}

export class CacheUse {
  private readonly store: ImageStore;
  private readonly cache: BuildCache;
  private readonly contexts: KeptContexts;

  constructor(store: ImageStore, cache: BuildCache, contexts: KeptContexts) {
    this.store = store;
    this.cache = cache;
    this.contexts = contexts;
  }

  async list(): Promise<(BuildCacheRecord & { Parents?: string[] })[]> {
    const named = this.namedImages();
    const byImage = new Map([...this.cache.steps.values()].map((record) => [record.imageId, record]));
    const steps = [...this.cache.steps.values()].flatMap((record) => {
      const image = this.store.get(record.imageId);
      if (image === undefined) return [];
      const parent = record.parent === undefined ? undefined : byImage.get(record.parent);
      return [
        {
          ID: record.key.slice(0, 25),
          ...(parent === undefined ? {} : { Parents: [parent.key.slice(0, 25)] }),
          Type: 'regular',
          Description: record.description,
          InUse: this.store.holds.has(image.id),
          Shared: named.has(image.id),
          Size: record.sizeBytes,
          CreatedAt: record.created,
          LastUsedAt: record.lastUsed,
          UsageCount: record.uses,
        },
      ];
    });
    const directories: BuildCacheRecord[] = [];
    for (const record of this.cache.directories.values()) {
      directories.push({
        ID: record.id.slice(0, 25),
        Type: 'exec.cachemount',
        Description: `cached mount ${String((JSON.parse(record.name) as unknown[])[0])}`,
        InUse: this.cache.isInUse(record.id),
        Shared: false,
        Size: await treeSize(this.cache.directoryPath(record.id)),
        CreatedAt: record.created,
        LastUsedAt: record.lastUsed,
        UsageCount: record.uses,
      });
    }
    const contexts: BuildCacheRecord[] = [];
    for (const { id, path, isInUse, created, lastUsed } of this.contexts.list()) {
      contexts.push({
        ID: id,
        Type: 'source.local',
        Description: 'local source for context',
        InUse: isInUse,
        Shared: false,
        Size: await treeSize(path),
        CreatedAt: created.toISOString(),
        LastUsedAt: lastUsed.toISOString(),
        UsageCount: 1,
      });
    }
    return [...steps, ...directories, ...contexts];
  }

  /** @throws InvalidParameter for a wrong filter. */
  async matching(filters: Filters): Promise<(BuildCacheRecord & { Parents?: string[] })[]> {
    checkFilters(filters, knownFilters);
    const before = oldest(filters);
    return (await this.list()).filter((record) => matches(record, filters) && isOlder(record, before));
  }

  /** Images with a name, and those they were made from. */
  private namedImages(): Set<Digest> {
    const named = new Set<Digest>();
    for (const image of this.store.all()) {
      if (this.store.references(image.id).length === 0) continue;
      for (let each = this.store.get(image.id); each !== undefined && !named.has(each.id); ) {
        named.add(each.id);
        each = each.record.parent === undefined ? undefined : this.store.get(each.record.parent);
      }
    }
    return named;
  }

  /** @throws InvalidParameter for a wrong filter. */
  async prune(options: PruneOptions): Promise<{ ids: string[]; freedBytes: number }> {
    checkFilters(options.filters, knownFilters);
    const chosen = await this.choose(options);
    const ids = new Set(chosen.map((record) => record.ID));
    const steps = [...this.cache.steps.values()].filter((record) => ids.has(record.key.slice(0, 25)));
    const directories = [...this.cache.directories.values()].filter((record) => ids.has(record.id.slice(0, 25)));
    // Entries whose image has gone are of no use to anybody.
    const stale = [...this.cache.steps.values()].filter((record) => this.store.get(record.imageId) === undefined);
    await this.cache.forget(
      [...steps, ...stale].map((record) => record.key),
      directories.map((record) => record.id),
    );
    await this.contexts.remove(ids);
    const kept = chosen.filter((record) => record.Type !== 'regular').reduce((sum, record) => sum + record.Size, 0);
    const freedBytes = kept + (await this.removeImages(new Set(steps.map((record) => record.imageId))));
    await this.store.content.emptyTrash();
    return { ids: [...ids], freedBytes };
  }

  private async choose({ all, filters, space }: PruneOptions): Promise<BuildCacheRecord[]> {
    const before = oldest(filters);
    const listed = await this.list();
    const candidates = listed
      .filter((record) => !record.InUse && (all || !record.Shared) && matches(record, filters))
      .filter((record) => isOlder(record, before))
      .sort((a, b) => Date.parse(b.LastUsedAt ?? b.CreatedAt) - Date.parse(a.LastUsedAt ?? a.CreatedAt));
    const total = listed.reduce((sum, record) => sum + record.Size, 0);
    const { bavail, bsize } = await statfs(this.store.content.root);
    const keepBytes = bytesToKeep(space, total, bavail * bsize);
    if (keepBytes <= 0) return candidates;
    const chosen: BuildCacheRecord[] = [];
    let left = total;
    for (const record of candidates.reverse()) {
      if (left <= keepBytes) break;
      chosen.push(record);
      left -= record.Size;
    }
    return chosen;
  }

  /** Removes images that only the cache had kept: without a name, a child, or a container. The youngest first, since children go before parents. */
  private async removeImages(ids: ReadonlySet<Digest>): Promise<number> {
    let freed = 0;
    const images = [...ids].flatMap((id) => this.store.get(id) ?? []).sort((a, b) => b.config.history.length - a.config.history.length);
    for (const { id } of images) {
      await this.store.change(async (lease) => {
        const image = this.store.get(id);
        if (image === undefined || this.store.holds.has(id)) return;
        const hasContainer = [...this.store.snapshots.values()].some((snapshot) => snapshot.imageId === id);
        if (hasContainer || this.store.references(id).length > 0 || this.store.hasChildren(id)) return;
        freed += (await this.store.delete(lease, image)).sizeBytes;
      });
    }
    return freed;
  }
}

/** `unused-for` is the older name of `until`. */
function oldest(filters: Filters): number | undefined {
  return untilFilter(new Map([['until', [...(filters.get('until') ?? []), ...(filters.get('unused-for') ?? [])]]]));
}

function isOlder({ LastUsedAt, CreatedAt }: BuildCacheRecord, before: number | undefined): boolean {
  return before === undefined || Date.parse(LastUsedAt ?? CreatedAt) < before;
}

function matches(record: BuildCacheRecord & { Parents?: string[] }, filters: Filters): boolean {
  const one = (name: string, test: (value: string) => boolean): boolean => (filters.get(name) ?? []).every(test);
  const flag = (name: string, actual: boolean): boolean => one(name, (value) => actual === !['false', '0'].includes(value));
  return (
    one('id', (value) => record.ID.startsWith(value) || value.startsWith(record.ID)) &&
    one('parent', (value) => record.Parents?.includes(value) === true) &&
    one('type', (value) => record.Type === value) &&
    one('description', (value) => record.Description.includes(value)) &&
    flag('inuse', record.InUse) &&
    flag('shared', record.Shared) &&
    flag('private', !record.Shared)
  );
}
