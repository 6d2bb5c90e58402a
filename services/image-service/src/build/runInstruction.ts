/** RUN: the command, its environment and mounts, and the container that it runs in. */
import { InvalidParameter } from '@flotilla/errors';
import { removeRuntimePoints } from '../layers/runtimePoints.ts';
import { containerConfig } from './containerConfig.ts';
import { contextPaths } from './contextPaths.ts';
import type { Run } from './dockerfile/instructions.ts';
import { commandOf, scriptMounts } from './hereDocuments.ts';
import { toMountRequest } from './mountOptions.ts';
import type { BuildOptions } from './options.ts';
import { type MountParts, mountsKey, prepareMounts } from './runMounts.ts';
import { rootOf } from './sourceRoots.ts';
import type { StageBuilder } from './stageBuilder.ts';

export async function runCommand(stage: StageBuilder, instruction: Run): Promise<void> {
  const { build, state, output } = stage;
  const { options, signal } = build;
  const written = commandOf(instruction, state.shell);
  // `RUN []` runs what the image would.
  const command = written.length > 0 ? written : [...(state.config.Entrypoint ?? []), ...(state.config.Cmd ?? [])];
  const requests = instruction.mounts.map((mount) => toMountRequest(mount, (text) => stage.expand(text)));
  const parts: MountParts = {
    roots: build.roots,
    cache: build.cache,
    cacheNamespace: options.buildArgs.get('BUILDKIT_CACHE_MOUNT_NS') ?? '',
    client: build.client,
    rootOf: (from, source) => rootOf(stage, from, contextPaths([source])),
    digests: () => build.context.digests?.(),
    workingDirectory: state.workingDirectory,
    signal,
  };
  const network = instruction.network === undefined || instruction.network === 'default' ? undefined : instruction.network;
  checkGranted(options, instruction);
  const createdBy = [...stage.args.prefix(state.environment), ...command].join(' ');
  const documents = instruction.hereDocs.map((document) => document.content);
  const content = [network ?? '', options.hostname ?? '', documents, await mountsKey(requests, parts)];
  await stage.takeStep(createdBy, content, async () => {
    const prepared = await prepareMounts(requests, state.layers, parts);
    try {
      const config = containerConfig(stage, prepared.wrap(command), prepared.environment);
      return await build.runner.run(
        {
          command,
          config,
          hostConfig: {
            ...options.hostConfig,
            LogConfig: { Type: 'json-file' },
            ...(network === undefined ? {} : { NetworkMode: network }),
          },
          mounts: [...prepared.mounts, ...scriptMounts(instruction, build.roots)],
          output,
          remove: options.remove,
          forceRemove: options.forceRemove,
          signal,
        },
        (upper) => {
          prepared.removePoints(upper);
          removeRuntimePoints(upper, build.store.content.lowerDirectories(state.layers), Object.keys(state.config.Volumes ?? {}));
        },
      );
    } finally {
      prepared.release();
    }
  });
}

/** BuildKit's steps have the host's network, or the host's rights, only where the client grants them. @throws InvalidParameter in its words. */
function checkGranted({ manner, hostConfig, hostNetwork }: BuildOptions, { network = 'default', security }: Run): void {
  if (security === 'insecure') throw new InvalidParameter('security.insecure is not allowed');
  const isHost = network === 'host' || (network === 'default' && hostConfig.NetworkMode === 'host');
  if (manner === 'buildkit' && isHost && hostNetwork !== true) throw new InvalidParameter('network.host is not allowed');
}
