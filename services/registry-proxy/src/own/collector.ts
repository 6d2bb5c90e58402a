/**
 * Garbage collection of the proxy's own repositories while they are used: a link that no manifest of its repository needs, and content that no link
 * names, goes once it is older than an upload can take from its blobs to its manifest. Whatever was put or mounted since is left alone, so nobody has
 * to stop pushing.
 */
import type { Digest } from '@flotilla/oci';
import type { Logger } from '@flotilla/service-kit';
import { readManifestDocument } from './manifestDocument.ts';
import type { OwnStore } from './ownStore.ts';

/** A day: longer than any push. */
const graceMs = 86_400_000;

export interface Collected {
  readonly blobs: number;
  /** bytes */
  readonly bytes: number;
}

export class Collector {
  private readonly store: OwnStore;
  private readonly logger: Logger;
  private readonly graceMs: number;
  private running: Promise<Collected> | undefined;

  constructor(parts: { store: OwnStore; logger: Logger; graceMs?: number }) {
    this.store = parts.store;
    this.logger = parts.logger;
    this.graceMs = parts.graceMs ?? graceMs;
  }

  /** One run at a time: whoever asks meanwhile gets its result. */
  collect(): Promise<Collected> {
    this.running ??= this.run().finally(() => {
      this.running = undefined;
    });
    return this.running;
  }

  private async run(): Promise<Collected> {
    const before = Date.now() - this.graceMs;
    const named = new Set<Digest>();
    for (const name of await this.store.allRepositories()) {
      const needed = await this.needed(name);
      for (const digest of await this.store.blobs(name)) {
        // Looked at again right before it goes: a push may have renewed it.
        if (needed.has(digest) || !(await this.store.unlinkOldBlob(name, digest, before))) named.add(digest);
      }
      for (const digest of await this.store.manifests(name)) named.add(digest);
    }
    let blobs = 0;
    let bytes = 0;
    for (const digest of await this.store.contents()) {
      const freed = named.has(digest) ? 0 : await this.store.removeOldContent(digest, before);
      if (freed === 0) continue;
      blobs++;
      bytes += freed;
    }
    this.logger.info({ blobs, bytes }, 'collected');
    return { blobs, bytes };
  }

  /** Blobs that manifests of a repository point at. A manifest that cannot be read keeps everything of its repository. */
  private async needed(name: string): Promise<ReadonlySet<Digest> | { has(digest: Digest): boolean }> {
    const needed = new Set<Digest>();
    for (const digest of await this.store.manifests(name)) {
      const manifest = await this.store.manifest(name, digest);
      if (manifest === undefined) return { has: () => true };
      for (const blob of readManifestDocument(manifest.bytes, manifest.mediaType).blobs) needed.add(blob);
    }
    return needed;
  }
}
