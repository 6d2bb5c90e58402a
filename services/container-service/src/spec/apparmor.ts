/** Which AppArmor profile confines the processes of a container. */
import type { HostConfig } from '@flotilla/engine-api';
import type { HostFacts } from './host.ts';
import { parseSecurityOptions } from './securityOptions.ts';

/** By the name that dockerd gives its own: what watches for it finds ours. */
export const defaultApparmorProfile = 'docker-default';

/** Undefined where the kernel has no AppArmor: a profile that is named changes nothing then. */
export function apparmorProfile(hostConfig: HostConfig, host: Pick<HostFacts, 'apparmor'>): string | undefined {
  if (!host.apparmor) return undefined;
  if (hostConfig.Privileged) return 'unconfined';
  return parseSecurityOptions(hostConfig.SecurityOpt ?? []).apparmor || defaultApparmorProfile;
}
