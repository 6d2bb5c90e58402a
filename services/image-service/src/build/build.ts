/** What the stages of one build share. */
import type { Platform } from '@flotilla/oci';
import type { Image } from '../image.ts';
import type { ImageStore } from '../imageStore.ts';
import type { BaseImages } from './baseImages.ts';
import type { BuildArgs } from './buildArgs.ts';
import type { BuildCache } from './cache.ts';
import type { BuildClient } from './client.ts';
import type { BuildContext } from './context/open.ts';
import type { CopySteps } from './copy/copyStep.ts';
import type { NamedContexts } from './namedContexts.ts';
import type { BuildOptions } from './options.ts';
import type { BuildOutput } from './output.ts';
import type { RootFilesystems } from './rootFilesystems.ts';
import type { StepRunner } from './runStep.ts';
import type { StepLayers } from './stepLayers.ts';

export interface Build {
  /** `<instance>.<random>`: the label of its containers. */
  readonly name: string;
  readonly options: BuildOptions;
  readonly store: ImageStore;
  readonly images: BaseImages;
  readonly args: BuildArgs;
  readonly cache: BuildCache;
  readonly context: BuildContext;
  readonly contexts: NamedContexts;
  readonly client: BuildClient | undefined;
  readonly output: BuildOutput;
  readonly roots: RootFilesystems;
  readonly copies: CopySteps;
  readonly runner: StepRunner;
  readonly layers: StepLayers;
  /** What the image is for. */
  readonly platform: Platform;
  readonly escape: string;
  /** Images whose steps may stand in for ours: `--cache-from`, and caches that were imported. */
  readonly cacheSources: readonly Image[];
  /** The classic builder's `--cache-from`: no other cache is used, also when none of the images it names is here. */
  readonly onlyCacheSources: boolean;
  /** Keys of cache entries that were of use. */
  readonly usedKeys: string[];
  /** Keeps an image that the build reads from until it ends. */
  readonly hold: (image: Image) => void;
  readonly signal: AbortSignal;
}
