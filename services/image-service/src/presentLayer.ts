/** Which layers a pull finds here already. */
import type { LayerRecord } from './image.ts';
import type { ImageStore } from './imageStore.ts';
import type { LayerFetcher, LayerWanted } from './layerFetcher.ts';

/** A layer that is here with a blob it can be saved and pushed as; one that has lost its blobs (`doctor --disk --repair`) is brought again. */
export async function presentLayer(store: ImageStore, layers: LayerFetcher, wanted: LayerWanted): Promise<LayerRecord | undefined> {
  const layer = await layers.present(wanted);
  if (layer === undefined || layer.blobs.length > 0) return layer;
  const known = store.layers.get(wanted.diffId)?.blobs ?? [];
  return known.some((blob) => store.content.hasBlob(blob.digest, blob.sizeBytes)) ? layer : undefined;
}
