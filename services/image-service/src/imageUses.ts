/** When containers last used images: what the thresholds of the disk (`imageGc.ts`) go by. */
import type { Digest } from '@flotilla/oci';
import type { Collection, RecordStore } from '@flotilla/records';
import { rfc3339Nano } from './clock.ts';

/** Under the image's id. */
interface ImageUseRecord {
  /** RFC 3339. */
  readonly lastUsed: string;
}

/** Exact enough, and spares most writes. */
const resolutionMs = 60_000;

type Put = ReturnType<Collection<ImageUseRecord>['put']>;

export class ImageUses {
  private readonly uses: Collection<ImageUseRecord>;

  constructor(records: RecordStore) {
    this.uses = records.collection('image-use');
  }

  /** When a container last began or ended with an image; milliseconds since the epoch. */
  last(imageId: Digest): number | undefined {
    const record = this.uses.get(imageId);
    return record === undefined ? undefined : Date.parse(record.lastUsed);
  }

  /** The writes that note a use now. */
  puts(imageIds: readonly Digest[]): Put[] {
    const now = Date.now();
    const stale = [...new Set(imageIds)].filter((id) => now - (this.last(id) ?? 0) > resolutionMs);
    return stale.map((id) => this.uses.put(id, { lastUsed: rfc3339Nano() }));
  }

  delete(imageId: Digest): ReturnType<Collection<ImageUseRecord>['delete']> {
    return this.uses.delete(imageId);
  }
}
