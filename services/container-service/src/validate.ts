/**
 * Everything about a new container, or a change of its limits, that can be refused before anything is made, in dockerd's words; and
 * what is merged and filled in on the way.
 */
import type { ContainerConfig, ContainerUpdateRequest, HostConfig, NetworkingConfig } from '@flotilla/engine-api';
import { Conflict, Forbidden, InvalidParameter } from '@flotilla/errors';
import type { ContainerDefaults } from '@flotilla/oci';
import type { EngineOptions } from '@flotilla/service-kit';
import { checkLogConfig } from './logs/index.ts';
import { checkCapabilities } from './spec/capabilities.ts';
import { containerDevices } from './spec/devices.ts';
import type { HostFacts } from './spec/host.ts';
import { withHostDefaults } from './spec/hostDefaults.ts';
import { mergeImage } from './spec/mergeImage.ts';
import { parseMount, planMounts } from './spec/mountPlan.ts';
import { parseSecurityOptions } from './spec/securityOptions.ts';
import { checkSysctls } from './spec/sysctls.ts';
import { mergeTmpfsOptions } from './spec/tmpfs.ts';
import { checkContainerConfig } from './validateConfig.ts';
import { checkNamespaces, checkNetworkConflicts } from './validateNamespaces.ts';
import { checkExtraHost, checkPortBindings } from './validatePorts.ts';
import { checkResources, checkUlimits } from './validateResources.ts';

export interface CreateInput {
  /** the container's id: the first part of it is its hostname unless it has another */
  readonly id: string;
  readonly config: ContainerConfig;
  readonly hostConfig?: HostConfig;
  readonly networkingConfig?: NetworkingConfig;
  readonly image?: { readonly config: ContainerDefaults };
}

export interface CreateContext {
  readonly options: EngineOptions;
  readonly host: HostFacts;
  /** names of the runtimes there are */
  readonly runtimes: readonly string[];
  readonly defaultRuntime: string;
  /** the engine's own files */
  readonly dataRoot: string;
}

export interface ValidatedConfig {
  readonly config: ContainerConfig;
  readonly hostConfig: HostConfig;
  readonly warnings: string[];
}

/** @throws InvalidParameter or Forbidden, in dockerd's words. */
export function validateCreate(input: CreateInput, context: CreateContext): ValidatedConfig {
  const given = input.hostConfig ?? {};
  checkNetworkConflicts(input.config, given);
  const hostConfig = withHostDefaults(given, {
    host: context.host,
    logConfig: { Type: context.options.logDriver, Config: context.options.logOptions },
    runtime: context.defaultRuntime,
    shmBytes: context.options.defaultShmSizeBytes,
    ipcMode: context.options.defaultIpcMode,
    cgroupnsMode: context.options.defaultCgroupnsMode,
  });
  const config: ContainerConfig = { ...input.config };
  checkContainerConfig(config);
  const warnings = [...checkHostConfig(hostConfig, context)];
  const merged = mergeImage(config, input.image?.config);
  // What the image brings in is checked as well: it is a stranger's.
  checkContainerConfig(merged);
  if (!merged.Hostname) merged.Hostname = defaultHostname(input.id, hostConfig, context.host);
  planMounts(merged, { ...hostConfig, VolumesFrom: [] }, () => [], context.dataRoot);
  containerDevices(hostConfig);
  return { config: merged, hostConfig, warnings };
}

function defaultHostname(id: string, hostConfig: HostConfig, host: HostFacts): string {
  if (hostConfig.NetworkMode === 'host' || hostConfig.UTSMode === 'host') return host.hostname;
  return id.slice(0, 12);
}

function checkHostConfig(hostConfig: HostConfig, context: CreateContext): string[] {
  const { host } = context;
  if (hostConfig.AutoRemove && hostConfig.RestartPolicy?.Name !== 'no') {
    throw new InvalidParameter("can't create 'AutoRemove' container with restart policy");
  }
  const warnings: string[] = [];
  for (const mount of hostConfig.Mounts ?? []) {
    if (mount.Type === 'image') warnings.push('Image mount is an experimental feature');
    parseMount(mount);
  }
  for (const entry of hostConfig.ExtraHosts ?? []) checkExtraHost(entry);
  checkPortBindings(hostConfig.PortBindings ?? {});
  checkRestartPolicy(hostConfig);
  checkCapabilities(hostConfig.CapAdd ?? [], hostConfig.CapDrop ?? [], host.boundingCapabilities);
  if (hostConfig.Isolation && hostConfig.Isolation !== 'default') {
    throw new InvalidParameter(`invalid isolation: ${JSON.stringify(hostConfig.Isolation)} - linux only supports 'default'`);
  }
  checkAnnotations(hostConfig.Annotations ?? {});
  warnings.push(...checkResources(hostConfig, host, false));
  checkNamespaces(hostConfig);
  if ((hostConfig.ShmSize ?? 0) < 0) throw new InvalidParameter('SHM size can not be less than 0');
  checkOomScore(hostConfig, host, warnings);
  if (hostConfig.NetworkMode === 'host' && Object.keys(hostConfig.PortBindings ?? {}).length > 0) {
    warnings.push('Published ports are discarded when using host network mode');
  }
  if (!context.runtimes.includes(hostConfig.Runtime ?? '')) {
    throw new InvalidParameter(`unknown or invalid runtime name: ${hostConfig.Runtime}`);
  }
  for (const [path, options] of Object.entries(hostConfig.Tmpfs ?? {})) checkTmpfs(path, options);
  checkLogConfig(hostConfig.LogConfig ?? {});
  parseSecurityOptions(hostConfig.SecurityOpt ?? []);
  checkSysctls(hostConfig);
  checkUlimits(hostConfig.Ulimits ?? []);
  checkUnsupported(hostConfig, host);
  return warnings;
}

function checkRestartPolicy({ RestartPolicy: policy = {} }: HostConfig): void {
  const { Name: name = '', MaximumRetryCount: retries = 0 } = policy;
  switch (name) {
    case 'always':
    case 'no':
    case 'unless-stopped':
      if (retries !== 0) {
        const negative = retries < 0 ? ' and cannot be negative' : '';
        throw new InvalidParameter(`invalid restart policy: maximum retry count can only be used with 'on-failure'${negative}`);
      }
      return;
    case 'on-failure':
      if (retries < 0) throw new InvalidParameter('invalid restart policy: maximum retry count cannot be negative');
      return;
    case '':
      return;
    default:
      throw new InvalidParameter(
        `invalid restart policy: unknown policy '${name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'`,
      );
  }
}

/** Some annotations are orders to the runtime: they could swap the seccomp filter or name a file of the host to write. */
function checkAnnotations(annotations: Record<string, string>): void {
  for (const name of Object.keys(annotations)) {
    if (name === '') throw new InvalidParameter('invalid Annotations: the empty string is not permitted as an annotation key');
    if (/^(run\.oci\.|org\.criu\.|org\.systemd\.|krun\.)/.test(name)) {
      throw new Forbidden(`annotation ${JSON.stringify(name)} steers the container runtime and is not permitted`);
    }
  }
}

function checkOomScore(hostConfig: HostConfig, host: HostFacts, warnings: string[]): void {
  const score = hostConfig.OomScoreAdj ?? 0;
  if (score < -1000 || score > 1000) throw new InvalidParameter(`Invalid value ${score}, range for oom score adj is [-1000, 1000]`);
  if (score < host.lowestOomScoreAdj) {
    warnings.push(`The engine may not lower the OOM score adjustment below ${host.lowestOomScoreAdj}. ${score} discarded.`);
    hostConfig.OomScoreAdj = host.lowestOomScoreAdj;
  }
}

function checkTmpfs(path: string, options: string): void {
  if (!path.startsWith('/')) throw new InvalidParameter(`invalid mount path: '${path}' mount path must be absolute`);
  if (/^\/+(\.?\/*)*$/.test(path)) throw new InvalidParameter("invalid specification: destination can't be '/'");
  mergeTmpfsOptions(options.split(',').filter((option) => option !== ''));
}

/** What Flotilla has not: said at create rather than at start. */
function checkUnsupported(hostConfig: HostConfig, host: HostFacts): void {
  const request = hostConfig.DeviceRequests?.[0];
  if (request !== undefined) {
    const capabilities = `[${(request.Capabilities ?? []).map((list) => `[${list.join(' ')}]`).join(' ')}]`;
    throw new InvalidParameter(`could not select device driver ${JSON.stringify(request.Driver ?? '')} with capabilities: ${capabilities}`);
  }
  if (Object.keys(hostConfig.StorageOpt ?? {}).length > 0) {
    throw new InvalidParameter("--storage-opt is supported only for overlay over xfs with 'pquota' mount option");
  }
  if (hostConfig.Init && host.initPath === undefined) {
    throw new InvalidParameter('exec: "docker-init": executable file not found in $PATH');
  }
}

export interface UpdateInput {
  readonly update: ContainerUpdateRequest;
  readonly hostConfig: HostConfig;
  readonly running: boolean;
}

/**
 * A container's new HostConfig after `update`: what is zero or absent stays.
 *
 * @throws InvalidParameter for what cannot be, Conflict for what does not go with what is set, in dockerd's words; nothing has changed then.
 */
export function validateUpdate(input: UpdateInput, context: CreateContext): { hostConfig: HostConfig; warnings: string[] } {
  const { update } = input;
  const asked: HostConfig = { ...update };
  const warnings = checkResources(asked, context.host, true);
  const hostConfig: HostConfig = { ...input.hostConfig };
  if (asked.NanoCpus && (hostConfig.CpuPeriod || hostConfig.CpuQuota)) {
    const which = hostConfig.CpuPeriod ? 'Period' : 'Quota';
    throw new Conflict(`Conflicting options: Nano CPUs cannot be updated as CPU ${which} has already been set`);
  }
  if (hostConfig.NanoCpus && (asked.CpuPeriod || asked.CpuQuota)) {
    const which = asked.CpuPeriod ? 'Period' : 'Quota';
    throw new Conflict(`Conflicting options: CPU ${which} cannot be updated as NanoCPUs has already been set`);
  }
  for (const name of [
    'BlkioWeight',
    'CpuShares',
    'NanoCpus',
    'CpuPeriod',
    'CpuQuota',
    'CpusetCpus',
    'CpusetMems',
    'CpuRealtimePeriod',
    'CpuRealtimeRuntime',
    'MemoryReservation',
  ] as const) {
    if (asked[name]) Object.assign(hostConfig, { [name]: asked[name] });
  }
  if (asked.Memory) {
    const swap = asked.MemorySwap || hostConfig.MemorySwap || 0;
    // A limit above the old memory+swap needs the latter to be raised with it.
    if (asked.Memory > 0 && swap > 0 && asked.Memory > swap && !asked.MemorySwap) {
      throw new Conflict('Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time');
    }
    hostConfig.Memory = asked.Memory;
  }
  if (asked.MemorySwap) hostConfig.MemorySwap = asked.MemorySwap;
  if (asked.PidsLimit !== undefined) hostConfig.PidsLimit = asked.PidsLimit;
  if (asked.RestartPolicy?.Name) {
    if (hostConfig.AutoRemove && asked.RestartPolicy.Name !== 'no') {
      throw new Conflict('Restart policy cannot be updated because AutoRemove is enabled for the container');
    }
    hostConfig.RestartPolicy = { Name: asked.RestartPolicy.Name, MaximumRetryCount: asked.RestartPolicy.MaximumRetryCount ?? 0 };
    checkRestartPolicy(hostConfig);
  }
  return { hostConfig, warnings };
}
