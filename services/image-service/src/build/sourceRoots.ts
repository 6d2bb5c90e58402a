/** Where `--from` leads: the context, a stage, or an image. */
import { hostPlatform } from '@flotilla/oci';
import type { Image } from '../image.ts';
import type { ContextPaths } from './contextPaths.ts';
import type { StageBuilder } from './stageBuilder.ts';

/**
 * The root of the context (an empty name), of a stage by name or number, or of an image.
 *
 * @param paths - what is read of it, where that is the context. @throws NotFound as a pull does.
 */
export async function rootOf(stage: StageBuilder, from: string, paths: ContextPaths): Promise<string> {
  const { build } = stage;
  if (from === '') return build.context.files(paths);
  const named = build.contexts.find(from);
  if (named?.kind === 'files') return named.root();
  const image = named?.kind === 'built' ? named.image : await imageOf(stage, named?.reference ?? from, named !== undefined);
  build.hold(image);
  return build.roots.view(image.layers);
}

async function imageOf(stage: StageBuilder, name: string, isImage: boolean): Promise<Image> {
  const { build, output } = stage;
  const built = isImage ? undefined : stage.stages(name);
  if (built !== undefined) return (await built).image;
  return build.images.get(name, build.options.platform, hostPlatform(), output, build.signal);
}
