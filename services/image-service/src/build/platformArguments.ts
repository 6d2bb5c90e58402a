/** The arguments that say what is built for what. */
import { formatPlatform, hostPlatform, type Platform } from '@flotilla/oci';

export function platformArguments(target: Platform, stage: string): ReadonlyMap<string, string> {
  const values = (prefix: string, platform: Platform): [string, string][] => [
    [`${prefix}PLATFORM`, formatPlatform(platform)],
    [`${prefix}OS`, platform.os],
    [`${prefix}ARCH`, platform.architecture],
    [`${prefix}VARIANT`, platform.variant ?? ''],
  ];
  return new Map([...values('TARGET', target), ...values('BUILD', hostPlatform()), ['TARGETSTAGE', stage || 'default']]);
}
