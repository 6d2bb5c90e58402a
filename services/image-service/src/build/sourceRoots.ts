/** Where `--from` leads: the context, a stage, or an image. */
import { hostPlatform } from '@flotilla/oci';
import type { StageBuilder } from './stageBuilder.ts';

/** The root of the context (an empty name), of a stage by name or number, or of an image. @throws NotFound as a pull does. */
export async function rootOf(stage: StageBuilder, from: string): Promise<string> {
  const { build, output } = stage;
  if (from === '') return build.context.root;
  const built = stage.stages(from);
  const image =
    built === undefined ? await build.images.get(from, build.options.platform, hostPlatform(), output, build.signal) : (await built).image;
  build.hold(image);
  return build.roots.view(image.layers);
}
