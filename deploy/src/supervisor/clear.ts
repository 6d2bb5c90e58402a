/** What a stopped stack leaves in its exec root, taken away. Containers and what they need (namespaces, bundles, mounts) belong to their services and stay. */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import type { StackPaths } from '../stack/paths.ts';

export function clearStack(paths: StackPaths, listeners: readonly { address: string }[], codeMount: string | undefined): void {
  for (const { address } of listeners) {
    if (address.startsWith('unix://')) rmSync(address.slice('unix://'.length), { force: true });
  }
  if (codeMount !== undefined) spawnSync('umount', ['--lazy', codeMount]);
  for (const path of [paths.control, paths.plan, paths.redisConf, paths.redisUsers, paths.natsConf, paths.state])
    rmSync(path, { force: true });
}
