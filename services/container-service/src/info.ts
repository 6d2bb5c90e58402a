/** What `GET /info` shows of container-service. */
import type { SystemInfo } from '@flotilla/engine-api';
import type { EngineOptions } from '@flotilla/service-kit';
import type { ContainerRecord } from './container.ts';
import { logDrivers } from './logs/index.ts';
import type { OciRuntime } from './runtime.ts';
import type { HostFacts } from './spec/index.ts';

export interface Counts {
  readonly total: number;
  readonly running: number;
  readonly paused: number;
  readonly stopped: number;
}

export function countContainers(containers: Iterable<ContainerRecord>): Counts {
  let [total, running, paused] = [0, 0, 0];
  for (const { state } of containers) {
    total++;
    if (state.status === 'running' || state.status === 'restarting') running++;
    else if (state.status === 'paused') paused++;
  }
  return { total, running, paused, stopped: total - running - paused };
}

export function engineInfo(
  host: HostFacts,
  runtimes: readonly OciRuntime[],
  defaultRuntime: string,
  options: EngineOptions,
): Partial<SystemInfo> {
  const { cgroups } = host;
  const warnings: [boolean, string][] = [
    [cgroups.memoryLimit, 'WARNING: No memory limit support'],
    [cgroups.swapLimit, 'WARNING: No swap limit support'],
    [cgroups.cpuCfs, 'WARNING: No cpu cfs quota support'],
    [cgroups.cpuShares, 'WARNING: No cpu shares support'],
    [cgroups.cpuset, 'WARNING: No cpuset support'],
  ];
  return {
    MemoryLimit: cgroups.memoryLimit,
    SwapLimit: cgroups.swapLimit,
    CpuCfsPeriod: cgroups.cpuCfs,
    CpuCfsQuota: cgroups.cpuCfs,
    CPUShares: cgroups.cpuShares,
    CPUSet: cgroups.cpuset,
    PidsLimit: cgroups.pidsLimit,
    OomKillDisable: cgroups.oomKillDisable,
    NCPU: host.cpus,
    MemTotal: host.memoryBytes,
    LoggingDriver: options.logDriver,
    CgroupDriver: 'cgroupfs',
    CgroupVersion: `${host.cgroupVersion}`,
    Runtimes: Object.fromEntries(
      runtimes.map(({ name, path, args }) => [name, { path, ...(args.length === 0 ? {} : { runtimeArgs: [...args] }) }]),
    ),
    DefaultRuntime: defaultRuntime,
    InitBinary: 'docker-init',
    SecurityOptions: [
      ...(host.apparmor ? ['name=apparmor'] : []),
      ...(host.seccomp ? [`name=seccomp,profile=${options.seccompProfile ?? 'builtin'}`] : []),
      ...(host.cgroupVersion === 2 ? ['name=cgroupns'] : []),
      ...(options.noNewPrivileges ? ['name=no-new-privileges'] : []),
    ],
    Plugins: { Volume: [], Network: [], Authorization: null, Log: [...logDrivers] },
    Warnings: warnings.filter(([supported]) => !supported).map(([, text]) => text),
  };
}
