/** What a stopped stack leaves in its exec root, taken away. Containers and what they need (namespaces, bundles, mounts) belong to their services and stay. */
import { rmSync } from 'node:fs';
import { unmountOtherCode } from '../stack/codeMount.ts';
import type { StackPaths } from '../stack/paths.ts';

export function clearStack(paths: StackPaths, listeners: readonly { address: string }[]): void {
  for (const { address } of listeners) {
    if (address.startsWith('unix://')) rmSync(address.slice('unix://'.length), { force: true });
  }
  unmountOtherCode(paths.code);
  for (const path of [paths.control, paths.plan, paths.command, paths.redisConf, paths.redisUsers, paths.natsConf, paths.state])
    rmSync(path, { force: true });
}
