/** WORKDIR: sets the directory, and makes it when it is not there. */
import { TreeCopier } from './copy/copyTree.ts';
import { cleanPath, resolveInRoot, statOf } from './copy/paths.ts';
import type { StageBuilder } from './stageBuilder.ts';

export async function makeWorkingDirectory(stage: StageBuilder, written: string): Promise<void> {
  const { build, state } = stage;
  const path = `/${cleanPath(written.startsWith('/') ? written : `${state.workingDirectory}/${written}`)}`;
  state.config.WorkingDir = path;
  await stage.takeStep(`${state.shell.join(' ')} #(nop) WORKDIR ${path}`, [], async () => {
    stage.tellContainer();
    if (statOf(resolveInRoot(build.roots.view(state.layers), path)) !== undefined) return undefined;
    const root = build.roots.writable(state.layers);
    try {
      new TreeCopier({ owner: { uid: 0, gid: 0 } }, build.signal).makeDirectories(resolveInRoot(root.root, path));
      root.unmount();
    } catch (error) {
      root.discard();
      throw error;
    }
    return build.layers.seal(root.layerDirectory, build.signal);
  });
}
