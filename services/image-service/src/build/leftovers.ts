/** What builds that died have left: their containers, their mounts and their directories. */
import { mkdirSync, readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { isUnavailable } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
import { unmountBelow } from './rootFilesystems.ts';
import type { StepContainers } from './runStep.ts';

/** A build's name: `<instance>.<random>`. Names of directories and labels of containers tell by it whose they are. */
export function instanceOf(build: string): string {
  return build.slice(0, Math.max(0, build.lastIndexOf('.')));
}

/** Takes away directories of builds whose instance is not alive. Nothing of this instance's own runs yet. */
export async function clearDirectories(directory: string, isAlive: (instance: string) => boolean): Promise<void> {
  mkdirSync(directory, { recursive: true, mode: 0o711 });
  for (const name of readdirSync(directory)) {
    if (isAlive(instanceOf(name))) continue;
    const path = join(directory, name);
    unmountBelow(path);
    await rm(path, { recursive: true, force: true });
  }
}

const retryMs = 1_000;

/** Removes the containers of dead builds, as soon as container-service can be asked. */
export async function clearContainers(
  containers: StepContainers,
  isDead: (build: string) => boolean,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      for (const { id, label } of await containers.labelled()) {
        if (!isDead(label)) continue;
        logger.info({ containerId: id }, 'removing a container that a build left');
        await containers.remove(id);
      }
      return;
    } catch (error) {
      if (!isUnavailable(error)) {
        logger.error({ error }, 'containers of builds that died cannot be removed');
        return;
      }
      await pause(retryMs, undefined, { signal }).catch(() => undefined);
    }
  }
}
