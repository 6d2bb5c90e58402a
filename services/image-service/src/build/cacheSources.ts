/** `--cache-from`: images whose history may stand in for steps, also when they were built elsewhere. */
import type { HistoryEntry } from '@flotilla/oci';
import type { Image } from '../image.ts';
import type { ImageStore } from '../imageStore.ts';

/** Whether an image was made from another one here. */
export function descendsFrom(store: ImageStore, image: Image, ancestor: Image): boolean {
  for (
    let each: Image | undefined = image;
    each !== undefined;
    each = each.record.parent === undefined ? undefined : store.get(each.record.parent)
  ) {
    if (each.id === ancestor.id) return true;
  }
  return false;
}

/** The step of a source that follows `parent` and was made by the same command, with the number of its layers. */
export function matchingStep(
  source: Image,
  parent: Image | undefined,
  createdBy: string,
): { readonly entry: HistoryEntry; readonly layers: readonly Image['layers'][number][] } | undefined {
  const before = parent?.config.history ?? [];
  const entry = source.config.history[before.length];
  if (entry === undefined || entry.created_by !== createdBy) return undefined;
  if (!before.every((each, index) => sameEntry(each, source.config.history[index]))) return undefined;
  const below = parent?.layers ?? [];
  if (!below.every((layer, index) => layer === source.layers[index])) return undefined;
  const count = below.length + (entry.empty_layer === true ? 0 : 1);
  return source.layers.length < count ? undefined : { entry, layers: source.layers.slice(0, count) };
}

function sameEntry(a: HistoryEntry, b: HistoryEntry | undefined): boolean {
  return (
    b !== undefined &&
    a.created === b.created &&
    a.created_by === b.created_by &&
    (a.author ?? '') === (b.author ?? '') &&
    (a.comment ?? '') === (b.comment ?? '') &&
    (a.empty_layer ?? false) === (b.empty_layer ?? false)
  );
}
