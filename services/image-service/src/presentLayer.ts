/** Which layers a pull finds here already. */
import type { ContentStore } from './contentStore.ts';
import type { LayerRecord } from './image.ts';
import type { LayerWanted } from './layerFetcher.ts';

/**
 * A layer that is here with a blob it can be saved and pushed as; one that has lost its blobs (`doctor --disk --repair`) is brought again.
 *
 * @param known - what other images have recorded of it; its blobs are held by the caller.
 */
export async function presentLayer(
  content: ContentStore,
  { diffId, blob }: LayerWanted,
  known: LayerRecord | undefined,
): Promise<LayerRecord | undefined> {
  const sizeBytes = content.hasLayer(diffId) ? await content.layerSize(diffId) : undefined;
  if (sizeBytes === undefined) return undefined;
  const others = (known?.blobs ?? []).filter(({ digest }) => digest !== blob.digest);
  const blobs = [...others, blob].filter((each) => content.hasBlob(each.digest, each.sizeBytes));
  return blobs.length === 0 ? undefined : { diffId, sizeBytes, blobs };
}
