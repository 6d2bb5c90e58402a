/** How much strangers may write: what is free on the disk, but for a part that is left to the engine. */
import { statfsSync } from 'node:fs';
import type { ContentStore } from './contentStore.ts';

const reserveBytes = 256 * 1024 * 1024;
/** With this much room nobody waits for what is still being deleted. */
const ampleBytes = 4 * 1024 * 1024 * 1024;

/** Bytes that may be written below a directory. */
export function roomIn(directory: string): number {
  const { bavail, bsize } = statfsSync(directory);
  return Math.max(0, bavail * bsize - reserveBytes);
}

/** On a disk that is nearly full, waits until what was removed a moment ago is deleted: to be called before anything is brought. */
export async function makeRoom(content: ContentStore): Promise<void> {
  if (roomIn(content.root) < ampleBytes) await content.emptyTrash();
}
