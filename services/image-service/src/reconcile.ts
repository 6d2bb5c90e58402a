/**
 * What a crash left: compares the disk with the records at start and once an hour, and removes what nothing needs. Work that another replica
 * may have under way is told by its age; a download that was cut off is kept a day, for the pull that goes on with it.
 */
import { rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Digest } from '@flotilla/oci';
import type { Logger } from '@flotilla/service-kit';
import { layerDigest } from './contentStore.ts';
import type { ImageStore } from './imageStore.ts';

const dayMs = 24 * 60 * 60 * 1000;
const hourMs = 60 * 60 * 1000;

export interface ReconcileOptions {
  readonly store: ImageStore;
  readonly logger: Logger;
  /** No other replica is there: what is not recorded is nobody's work. */
  readonly alone: boolean;
  readonly nowMs?: number;
}

export async function reconcile(options: ReconcileOptions): Promise<void> {
  const { store, logger } = options;
  if (store.recordsAreLost) logger.error('records are missing: layers and snapshots that none of them knows are left as they are');
  else removeUnrecorded(options);
  for (const layer of store.layers.values()) {
    if (!store.content.hasLayer(layer.diffId))
      logger.error({ diffId: layer.diffId }, 'a layer that is recorded is missing: pull its images again');
  }
  await store.content.emptyTrash();
}

function removeUnrecorded({ store, logger, alone, nowMs = Date.now() }: ReconcileOptions): void {
  const { content } = store;
  const removed = { ingest: 0, layers: 0, blobs: 0, snapshots: 0 };
  const age = (path: string): number => nowMs - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? nowMs);
  const needed = store.inUse();
  const isNeeded = (digest: Digest): boolean => needed.layers.has(digest) || needed.blobs.has(digest) || store.holds.has(digest);
  for (const name of content.list('ingest')) {
    const path = join(content.root, 'ingest', name);
    const isDownload = /^sha(256|512)-[a-f0-9]+$/.test(name);
    if (age(path) < (isDownload ? dayMs : alone ? 0 : hourMs)) continue;
    rmSync(path, { recursive: true, force: true });
    removed.ingest++;
  }
  for (const name of content.list('layers')) {
    const path = join(content.root, 'layers', name);
    if (name.startsWith('.new-')) {
      if (!alone && age(path) < hourMs) continue;
      content.discard(path);
      removed.layers++;
    } else if (!isNeeded(layerDigest(name)) && age(path) > dayMs) {
      content.discardLayer(layerDigest(name));
      removed.layers++;
    }
  }
  for (const algorithm of ['sha256', 'sha512'] as const) {
    for (const name of content.list(`blobs/${algorithm}`)) {
      const digest: Digest = `${algorithm}:${name}`;
      if (age(content.blobPath(digest)) < dayMs || isNeeded(digest)) continue;
      content.discardBlob(digest);
      removed.blobs++;
    }
  }
  for (const key of content.list('snapshots')) {
    if (store.snapshots.get(key) !== undefined) continue;
    if (!alone && age(content.snapshotPaths(key).root) < hourMs) continue;
    content.discardSnapshot(key);
    removed.snapshots++;
  }
  if (Object.values(removed).some((count) => count > 0)) logger.info({ removed }, 'removed what a crash had left');
}
