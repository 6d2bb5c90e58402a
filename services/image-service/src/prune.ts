/** Pruning: images that nothing uses, and downloads that nobody will finish. */
import type { ImageDeleteItem } from '@flotilla/engine-api';
import { Conflict, isConflict, isForbidden, isNotFound } from '@flotilla/errors';
import { familiarString } from '@flotilla/oci';
import { pruneEvent } from './events.ts';
import { booleanFilter, checkFilters, type Filters, lacksLabels, matchesLabels, untilFilter } from './filters.ts';
import type { Image } from './image.ts';
import type { ImageStore } from './imageStore.ts';
import type { Remover } from './remove.ts';

const knownFilters = ['dangling', 'label', 'label!', 'until'];

export class Pruner {
  private readonly store: ImageStore;
  private readonly remover: Remover;
  private running = false;

  constructor(options: { store: ImageStore; remover: Remover }) {
    this.store = options.store;
    this.remover = options.remover;
  }

  /** @throws Conflict while another prune runs; InvalidParameter for a wrong filter. */
  async prune(filters: Filters, signal: AbortSignal): Promise<{ items: ImageDeleteItem[]; freedBytes: number }> {
    checkFilters(filters, knownFilters);
    const danglingOnly = booleanFilter(filters, 'dangling') ?? true;
    const until = untilFilter(filters);
    if (this.running) throw new Conflict('a prune operation is already running');
    this.running = true;
    try {
      const items: ImageDeleteItem[] = [];
      let freedBytes = 0;
      for (const image of this.candidates(filters, until)) {
        if (signal.aborted) break;
        for (const name of this.namesToRemove(image, danglingOnly)) {
          try {
            const removal = await this.remover.remove(name, { force: false, pruneParents: true });
            items.push(...removal.items);
            freedBytes += removal.freedBytes;
          } catch (error) {
            // In use, gone meanwhile, or others have names for it: what prune is there to step over.
            if (!isConflict(error) && !isNotFound(error) && !isForbidden(error)) throw error;
          }
        }
      }
      await this.store.announce([pruneEvent('image', freedBytes)]);
      return { items, freedBytes };
    } finally {
      this.running = false;
    }
  }

  private candidates(filters: Filters, until: number | undefined): Image[] {
    const used = new Set([...this.store.snapshots.values()].map((snapshot) => snapshot.imageId));
    return [...this.store.visible()].filter((image) => {
      // A build or a push under way needs it.
      if (used.has(image.id) || this.store.holds.has(image.id)) return false;
      if (this.store.references(image.id).length === 0 && this.store.hasChildren(image.id)) return false;
      if (until !== undefined && image.createdMs > until) return false;
      const labels = image.config.config.Labels ?? {};
      return matchesLabels(filters, 'label', labels) && lacksLabels(filters, 'label!', labels);
    });
  }

  private namesToRemove(image: Image, danglingOnly: boolean): string[] {
    const names = this.store.references(image.id);
    if (names.length === 0) return this.store.hasChildren(image.id) ? [] : [image.id];
    if (danglingOnly && names.some((name) => name.digest === undefined)) return [];
    // Digests go with the last tag of their repository.
    const tags = names.filter((name) => name.digest === undefined);
    return (tags.length > 0 ? tags : names).map(familiarString);
  }
}
