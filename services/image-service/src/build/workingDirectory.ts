/** WORKDIR: sets the directory, and makes it when it is not there. */
import { TreeCopier } from './copy/copyTree.ts';
import { findOwner, type Owner } from './copy/owner.ts';
import { cleanPath, resolveInRoot, statOf } from './copy/paths.ts';
import { epochOf } from './sourceDateEpoch.ts';
import type { StageBuilder } from './stageBuilder.ts';

export async function makeWorkingDirectory(stage: StageBuilder, written: string): Promise<void> {
  const { build, state } = stage;
  const path = `/${cleanPath(written.startsWith('/') ? written : `${state.workingDirectory}/${written}`)}`;
  state.config.WorkingDir = path;
  const user = build.options.manner === 'buildkit' ? (state.config.User ?? '') : '';
  const { epochNs } = epochOf(build.options);
  const content = [...(user === '' ? [] : ['owner']), ...(epochNs === undefined ? [] : [String(epochNs)])];
  await stage.takeStep(`${state.shell.join(' ')} #(nop) WORKDIR ${path}`, content, async () => {
    stage.tellContainer();
    const below = build.roots.view(state.layers);
    if (statOf(resolveInRoot(below, path)) !== undefined) return undefined;
    const root = build.roots.writable(state.layers);
    try {
      new TreeCopier({ owner: ownerFor(user, below) }, build.signal).makeDirectories(resolveInRoot(root.root, path));
      root.unmount();
    } catch (error) {
      root.discard();
      throw error;
    }
    return build.layers.seal(root.layerDirectory, build.signal, epochNs);
  });
}

/** With BuildKit a directory is the user's of that moment, and root's where the image does not know the user; the classic builder gives all to root. */
function ownerFor(user: string, root: string): Owner {
  const { uid = 0, gid = 0 } = user === '' ? {} : findOwner(user, root, 'buildkit');
  return { uid, gid };
}
