/** FROM a named context that is a directory: an image of its files alone. */
import type { Image } from '../image.ts';
import { contentHash } from './copy/contentHash.ts';
import { epochOf } from './sourceDateEpoch.ts';
import type { StageBuilder } from './stageBuilder.ts';

export async function imageOfFiles(stage: StageBuilder, root: string): Promise<Image | undefined> {
  const { build, state } = stage;
  const hash = await contentHash(root, { owners: false }, build.signal);
  await stage.takeStep(`COPY ${hash} in / `, Object.values(epochOf(build.options)).map(String), () =>
    build.copies.copy(
      {
        instruction: 'COPY',
        sources: [{ root, path: '', hash, unpack: false }],
        destination: '/',
        workingDirectory: '/',
        chown: '',
        chmod: '',
        keepOwners: false,
        parents: false,
        link: true,
        manner: build.options.manner,
        ...epochOf(build.options),
      },
      [],
      build.signal,
    ),
  );
  return state.image;
}
