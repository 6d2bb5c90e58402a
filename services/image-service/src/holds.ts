/** Content in use by work under way (pulls, loads, saves, pushes): neither prune nor remove takes it. */
import type { Digest } from '@flotilla/oci';

export class Holds {
  private readonly counts = new Map<Digest, number>();
  private readonly onFree: (digests: readonly Digest[]) => Promise<void>;

  /** @param onFree - told of what nobody holds any more; throws away what was only kept for its holders. */
  constructor(onFree: (digests: readonly Digest[]) => Promise<void>) {
    this.onFree = onFree;
  }

  /** Holds layers (diffIDs) or blobs until the returned function is called, which resolves when what was put off is done. Never call it inside `change`. */
  hold(digests: Iterable<Digest>): () => Promise<void> {
    const held = [...digests];
    for (const digest of held) this.counts.set(digest, (this.counts.get(digest) ?? 0) + 1);
    let released = false;
    return async () => {
      if (released) return;
      released = true;
      const free: Digest[] = [];
      for (const digest of held) {
        const count = (this.counts.get(digest) ?? 1) - 1;
        if (count > 0) this.counts.set(digest, count);
        else {
          this.counts.delete(digest);
          free.push(digest);
        }
      }
      await this.onFree(free);
    };
  }

  has(digest: Digest): boolean {
    return this.counts.has(digest);
  }
}
