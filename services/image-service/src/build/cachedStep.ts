/** Asks the cache before a step is done, and tells it afterwards. */
import type { Image } from '../image.ts';
import type { HeldLayer } from '../newImage.ts';
import { BuildCache } from './cache.ts';
import { descendsFrom, matchingStep } from './cacheSources.ts';
import type { StageBuilder } from './stageBuilder.ts';

/** @param content - what beside the words makes the step what it is: digests of files, mounts. */
export async function cachedStep(
  stage: StageBuilder,
  createdBy: string,
  content: readonly unknown[],
  work: () => Promise<HeldLayer | undefined>,
): Promise<void> {
  const { build, state } = stage;
  const { cache } = build;
  const { config, author } = state;
  const platform = state.image === undefined ? build.platform : '';
  const key = BuildCache.key([state.image?.id ?? '', platform, createdBy, config, author, ...content]);
  const perform = async (): Promise<void> => {
    const layer = await work();
    try {
      const image = await state.commit(createdBy, layer);
      await cache.remember(key, image, createdBy, layer?.record?.sizeBytes ?? 0);
    } finally {
      await layer?.release();
    }
  };
  if (stage.noCache) return perform();
  // Equal steps of other builds are waited for, not done twice.
  return cache.turns.run(key, async () => {
    const known = await lookUp(stage, key, createdBy);
    if (known === undefined) return perform();
    stage.output.cached();
    build.usedKeys.push(key);
    state.use(known);
  });
}

async function lookUp({ build, state }: StageBuilder, key: string, createdBy: string): Promise<Image | undefined> {
  const known = build.cache.find(key);
  if (known !== undefined && !build.onlyCacheSources) return known;
  for (const source of build.cacheSources) {
    if (known !== undefined && descendsFrom(build.store, source, known)) return known;
  }
  for (const source of build.cacheSources) {
    const step = matchingStep(source, state.image, createdBy);
    if (step !== undefined) return state.restore(step.entry, step.layers);
  }
  return undefined;
}
