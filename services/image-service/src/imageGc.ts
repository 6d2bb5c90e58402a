/**
 * Thresholds of the disk (`--image-gc-high`, `--image-gc-low`): when the file system of the images is fuller than the one, images that no container
 * uses go, the least recently used first, until it is emptier than the other. One replica does it at a time: two would remove twice of what is needed.
 */
import { statfs } from 'node:fs/promises';
import { isConflict, isNotFound, isUnavailable } from '@flotilla/errors';
import { familiarString } from '@flotilla/oci';
import type { Logger } from '@flotilla/service-kit';
import type { Image } from './image.ts';
import type { ImageStore } from './imageStore.ts';
import type { Remover } from './remove.ts';

export interface Thresholds {
  /** Percent of the file system. */
  readonly highPercent: number;
  readonly lowPercent: number;
}

export interface ImageGcOptions {
  readonly store: ImageStore;
  /** Runs the work while no other replica does it. @throws Unavailable when one does. */
  readonly alone: <T>(work: () => Promise<T>) => Promise<T>;
  readonly remover: Pick<Remover, 'remove'>;
  readonly thresholds: Thresholds;
  /** How full the file system is, percent. */
  readonly fullness?: () => Promise<number>;
  readonly logger: Logger;
}

export class ImageGc {
  private readonly options: ImageGcOptions;
  private running = false;

  constructor(options: ImageGcOptions) {
    this.options = options;
  }

  /** Looks once. @returns the images that went. */
  async collect(): Promise<string[]> {
    if (this.running || (await this.fullness()) <= this.options.thresholds.highPercent) return [];
    this.running = true;
    let begun = false;
    try {
      return await this.options.alone(() => {
        begun = true;
        return this.removeUntilLow();
      });
    } catch (error) {
      if (!begun && isUnavailable(error)) return [];
      throw error;
    } finally {
      this.running = false;
    }
  }

  private async removeUntilLow(): Promise<string[]> {
    const { store, thresholds, logger } = this.options;
    const removed: string[] = [];
    const candidates = [...store.all()].sort((a, b) => lastUse(store, a) - lastUse(store, b));
    for (const image of candidates) {
      if ((await this.fullness()) <= thresholds.lowPercent) break;
      if (await this.remove(image)) removed.push(image.id);
      await store.content.emptyTrash();
    }
    if (removed.length > 0) logger.info({ removed, ...thresholds }, 'the disk was full: removed the images that were not used for longest');
    return removed;
  }

  private async remove({ id }: Image): Promise<boolean> {
    const { store, remover } = this.options;
    const isUsed = [...store.snapshots.values()].some((snapshot) => snapshot.imageId === id);
    // Work under way, or the base of another: that one goes first.
    if (isUsed || store.holds.has(id) || store.hasChildren(id)) return false;
    const names = store.references(id).filter((name) => name.digest === undefined);
    try {
      for (const name of names.length > 0 ? names.map(familiarString) : [id])
        await remover.remove(name, { force: false, pruneParents: true });
      return true;
    } catch (error) {
      if (isConflict(error) || isNotFound(error)) return false;
      throw error;
    }
  }

  private fullness(): Promise<number> {
    return this.options.fullness?.() ?? fullnessOf(this.options.store.content.root);
  }
}

/** When a container last began or ended with it, a name was put on it, or it came. */
function lastUse(store: ImageStore, { id, record, createdMs }: Image): number {
  const tagged = record.lastTagTime === undefined ? createdMs : Date.parse(record.lastTagTime);
  return Math.max(tagged, store.uses.last(id) ?? 0);
}

/** As df counts it: of what those without privileges may use. */
async function fullnessOf(path: string): Promise<number> {
  const { blocks, bfree, bavail } = await statfs(path);
  const used = blocks - bfree;
  return used + bavail === 0 ? 0 : (100 * used) / (used + bavail);
}
