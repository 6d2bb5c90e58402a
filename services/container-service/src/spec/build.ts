/** The OCI spec of a container: everything the runtime has to know, from a validated configuration and what was prepared for it. */
import type { ContainerConfig, HostConfig, Ulimit } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import type { RuntimeNamespace, RuntimeSpec } from '@flotilla/oci';
import { containerDevices } from './devices.ts';
import type { HostFacts } from './host.ts';
import type { ResolvedMount } from './mountPlan.ts';
import { ensureMountPoints } from './mountPoints.ts';
import { containerMounts } from './mounts.ts';
import { containerCapabilitiesOf, containerProcess } from './process.ts';
import { runtimeResources } from './resources.ts';
import { seccompFilter } from './seccomp.ts';
import { parseSecurityOptions } from './securityOptions.ts';
import { containerSysctls } from './sysctls.ts';
import { ensureWorkingDirectory } from './workingDirectory.ts';

export { buildExecProcess, type ExecProcessInput } from './process.ts';

export interface RuntimeSpecInput {
  readonly id: string;
  readonly config: ContainerConfig;
  readonly hostConfig: HostConfig;
  /** the mounted root directory, absolute: its users are looked up, its working directory and mount points are made */
  readonly rootfs: string;
  readonly mounts: readonly ResolvedMount[];
  /** the network namespace to join; absent: the host's with NetworkMode host, else a new one */
  readonly netnsPath?: string;
  /** namespaces of another container to join, for the modes `container:…` */
  readonly ipcNamespacePath?: string;
  readonly pidNamespacePath?: string;
  /** a tmpfs of the host to be /dev/shm: with IpcMode shareable, or another container's */
  readonly shmPath?: string;
  readonly hostnamePath?: string;
  readonly hostsPath?: string;
  readonly resolvConfPath?: string;
  /** from the root of each cgroup hierarchy */
  readonly cgroupsPath: string;
  /** variables from links: over Docker's own, below those asked for */
  readonly linkEnvironment?: readonly string[];
  readonly host: HostFacts;
  readonly defaults?: SpecDefaults;
}

/** What the engine's options say for containers that do not say it themselves. */
export interface SpecDefaults {
  readonly ulimits: Readonly<Record<string, Ulimit>>;
  readonly init: boolean;
  readonly noNewPrivileges: boolean;
  /** as in {@link seccompFilter} */
  readonly seccomp: string;
}

const plainDefaults: SpecDefaults = { ulimits: {}, init: false, noNewPrivileges: false, seccomp: '' };

/** @throws InvalidParameter for what only the root directory or the host can tell: users, devices, propagation. */
export function buildRuntimeSpec(input: RuntimeSpecInput): RuntimeSpec {
  const { config, hostConfig, host, defaults = plainDefaults } = input;
  const security = parseSecurityOptions(hostConfig.SecurityOpt ?? [], defaults.noNewPrivileges);
  // With another's pids there is already a process 1.
  const init = (hostConfig.Init ?? defaults.init) && (hostConfig.PidMode ?? '') === '';
  if (init && host.initPath === undefined) throw new InvalidParameter('exec: "docker-init": executable file not found in $PATH');
  ensureWorkingDirectory(input.rootfs, config.WorkingDir ?? '');
  const privileged = hostConfig.Privileged === true;
  const { mounts, rootfsPropagation } = containerMounts({
    ...input,
    writableCgroups: security.writableCgroups,
    ...(init && host.initPath !== undefined ? { initPath: host.initPath } : {}),
  });
  ensureMountPoints(input.rootfs, mounts);
  const devices = containerDevices(hostConfig);
  const seccomp = privileged
    ? undefined
    : seccompFilter(security.seccomp || defaults.seccomp, containerCapabilitiesOf(hostConfig, host), host);
  const ownUts = hostConfig.UTSMode !== 'host';
  return {
    ociVersion: '1.0.2',
    process: containerProcess({
      config,
      hostConfig,
      rootfs: input.rootfs,
      security,
      host,
      ulimits: ulimits(hostConfig, defaults),
      init,
      linkEnvironment: input.linkEnvironment ?? [],
    }),
    root: { path: input.rootfs, readonly: hostConfig.ReadonlyRootfs === true },
    ...(ownUts && config.Hostname ? { hostname: config.Hostname } : {}),
    mounts,
    annotations: { ...hostConfig.Annotations },
    linux: {
      sysctl: containerSysctls(hostConfig, config.Domainname ?? ''),
      resources: { ...runtimeResources(hostConfig), devices: devices.rules },
      cgroupsPath: input.cgroupsPath,
      namespaces: namespaces(input),
      devices: devices.nodes,
      ...(seccomp === undefined ? {} : { seccomp }),
      rootfsPropagation,
      maskedPaths: hostConfig.MaskedPaths ?? [],
      readonlyPaths: hostConfig.ReadonlyPaths ?? [],
    },
  };
}

function namespaces(input: RuntimeSpecInput): RuntimeNamespace[] {
  const { hostConfig } = input;
  const result: RuntimeNamespace[] = [{ type: 'mount' }];
  if (input.netnsPath !== undefined) result.push({ type: 'network', path: input.netnsPath });
  else if (hostConfig.NetworkMode !== 'host') result.push({ type: 'network' });
  if (hostConfig.UTSMode !== 'host') result.push({ type: 'uts' });
  if (input.pidNamespacePath !== undefined) result.push({ type: 'pid', path: input.pidNamespacePath });
  else if (hostConfig.PidMode !== 'host') result.push({ type: 'pid' });
  if (input.ipcNamespacePath !== undefined) result.push({ type: 'ipc', path: input.ipcNamespacePath });
  else if (hostConfig.IpcMode !== 'host') result.push({ type: 'ipc' });
  if (hostConfig.CgroupnsMode === 'private') result.push({ type: 'cgroup' });
  return result;
}

function ulimits(hostConfig: HostConfig, defaults: SpecDefaults): Ulimit[] {
  const asked = hostConfig.Ulimits ?? [];
  const named = new Set(asked.map((limit) => limit.Name));
  return [...asked, ...Object.values(defaults.ulimits).filter((limit) => !named.has(limit.Name))];
}
