/** The seccomp filter of a container: a profile applied to its capabilities and this machine. */
import { createHash } from 'node:crypto';
import type { RuntimeSeccomp, RuntimeSpec, RuntimeSyscallRule } from '@flotilla/oci';
import type { HostFacts } from './host.ts';
import { defaultProfile } from './seccompDefault.ts';
import { parseProfile, type SeccompFilter, type SeccompProfile } from './seccompProfile.ts';

/**
 * @param profile - `''` or `builtin`: Docker's own; `unconfined`: none; else a profile's JSON.
 * @param capabilities - the container's bounding set.
 */
export function seccompFilter(profile: string, capabilities: readonly string[], host: HostFacts): RuntimeSeccomp | undefined {
  if (profile === 'unconfined' || !host.seccomp) return undefined;
  return applyProfile(profile === '' || profile === 'builtin' ? defaultProfile : parseProfile(profile), capabilities, host);
}

function applyProfile(profile: SeccompProfile, capabilities: readonly string[], host: HostFacts): RuntimeSeccomp {
  const syscalls: RuntimeSyscallRule[] = [];
  for (const rule of profile.syscalls) {
    if (rule.excludes !== undefined && excluded(rule.excludes, capabilities, host)) continue;
    if (rule.includes !== undefined && !included(rule.includes, capabilities, host)) continue;
    syscalls.push({
      names: [...rule.names],
      action: rule.action,
      ...(rule.errnoRet === undefined ? {} : { errnoRet: rule.errnoRet }),
      ...(rule.args === undefined || rule.args.length === 0 ? {} : { args: rule.args.map((arg) => ({ ...arg })) }),
    });
  }
  return {
    defaultAction: profile.defaultAction,
    ...(profile.defaultErrnoRet === undefined ? {} : { defaultErrnoRet: profile.defaultErrnoRet }),
    architectures: architectures(profile, host),
    ...(profile.flags === undefined || profile.flags.length === 0 ? {} : { flags: [...profile.flags] }),
    syscalls,
  };
}

function architectures(profile: SeccompProfile, host: HostFacts): string[] {
  if (profile.architectures !== undefined) return [...profile.architectures];
  const own = host.architecture === 'arm64' ? 'SCMP_ARCH_AARCH64' : 'SCMP_ARCH_X86_64';
  const entry = profile.archMap?.find(({ architecture }) => architecture === own);
  return entry === undefined ? [] : [entry.architecture, ...(entry.subArchitectures ?? [])];
}

/** Every condition that is there must hold. */
function included(filter: SeccompFilter, capabilities: readonly string[], host: HostFacts): boolean {
  if (filter.arches?.length && !filter.arches.includes(host.architecture)) return false;
  if (filter.caps?.length && !filter.caps.every((name) => capabilities.includes(name))) return false;
  return filter.minKernel === undefined || kernelAtLeast(filter.minKernel, host);
}

/** One condition is enough. */
function excluded(filter: SeccompFilter, capabilities: readonly string[], host: HostFacts): boolean {
  if (filter.arches?.includes(host.architecture)) return true;
  if (filter.caps?.some((name) => capabilities.includes(name))) return true;
  return filter.minKernel !== undefined && kernelAtLeast(filter.minKernel, host);
}

function kernelAtLeast(version: string, { kernel }: HostFacts): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return kernel.major > major || (kernel.major === major && kernel.minor >= minor);
}

/** What a compiled filter can be kept under: equal digests, equal filters. Undefined for a container without one. */
export function seccompDigest(spec: RuntimeSpec): string | undefined {
  const filter = spec.linux?.seccomp;
  return filter === undefined ? undefined : createHash('sha256').update(JSON.stringify(filter)).digest('hex');
}
