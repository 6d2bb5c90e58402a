/** What dockerd fills into a HostConfig at create, so that inspect shows what the container will have. */
import { existsSync } from 'node:fs';
import type { HostConfig, LogConfig } from '@flotilla/engine-api';
import type { HostFacts } from './host.ts';

/** What a host has where nobody says anything, neither in daemon.json nor for the container. */
export const engineDefaults = {
  shmBytes: 64 * 1024 * 1024,
  ipcMode: 'private',
  cgroupnsMode: (cgroupVersion: 1 | 2): string => (cgroupVersion === 2 ? 'private' : 'host'),
} as const;

const maskedPaths = [
  '/proc/asound',
  '/proc/acpi',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
];
const readonlyPaths = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

export interface HostDefaults {
  readonly host: HostFacts;
  readonly logConfig: LogConfig;
  readonly runtime: string;
  readonly shmBytes?: number;
  readonly ipcMode?: string;
  readonly cgroupnsMode?: string;
}

/** Runs before validation: nothing here is checked. */
export function withHostDefaults(given: HostConfig, defaults: HostDefaults): HostConfig {
  const { host, logConfig, runtime } = defaults;
  const hostConfig: HostConfig = { ...given, ...wholeEntries(given) };
  if (!given.NetworkMode || given.NetworkMode === 'default') hostConfig.NetworkMode = 'bridge';
  if (!given.RestartPolicy?.Name) hostConfig.RestartPolicy = { Name: 'no', MaximumRetryCount: given.RestartPolicy?.MaximumRetryCount ?? 0 };
  if (!given.LogConfig?.Type)
    hostConfig.LogConfig = { Type: logConfig.Type ?? '', Config: { ...logConfig.Config, ...given.LogConfig?.Config } };
  else if (given.LogConfig.Type === logConfig.Type) {
    hostConfig.LogConfig = { Type: given.LogConfig.Type, Config: { ...logConfig.Config, ...given.LogConfig.Config } };
  } else hostConfig.LogConfig = { Type: given.LogConfig.Type, Config: { ...given.LogConfig.Config } };
  if (!given.Runtime) hostConfig.Runtime = runtime;
  if (!given.ShmSize) hostConfig.ShmSize = defaults.shmBytes ?? engineDefaults.shmBytes;
  if (!given.IpcMode) hostConfig.IpcMode = defaults.ipcMode ?? engineDefaults.ipcMode;
  if (!given.CgroupnsMode) hostConfig.CgroupnsMode = defaults.cgroupnsMode ?? engineDefaults.cgroupnsMode(host.cgroupVersion);
  if (!given.ConsoleSize) hostConfig.ConsoleSize = [0, 0];
  if (given.Memory && given.Memory > 0 && !given.MemorySwap) hostConfig.MemorySwap = given.Memory * 2;
  if (given.OomKillDisable === undefined) hostConfig.OomKillDisable = false;
  if (!given.Privileged) {
    hostConfig.MaskedPaths = given.MaskedPaths ?? [...maskedPaths, ...thermalPaths(host.cpus)];
    hostConfig.ReadonlyPaths = given.ReadonlyPaths ?? [...readonlyPaths];
  }
  const labelled = (given.SecurityOpt ?? []).some((option) => option.startsWith('label=') || option.startsWith('label:'));
  if (!labelled && (given.Privileged || given.IpcMode === 'host' || given.PidMode === 'host')) {
    hostConfig.SecurityOpt = [...(given.SecurityOpt ?? []), 'label=disable'];
  }
  return hostConfig;
}

/** The entries of lists, with what Go shows of those that were given in part. */
function wholeEntries({ PortBindings, RestartPolicy, Devices, Ulimits }: HostConfig): HostConfig {
  return {
    ...(RestartPolicy === undefined ? {} : { RestartPolicy: { Name: '', MaximumRetryCount: 0, ...RestartPolicy } }),
    ...(Devices === undefined
      ? {}
      : { Devices: Devices.map((device) => ({ PathOnHost: '', PathInContainer: '', CgroupPermissions: '', ...device })) }),
    ...(Ulimits === undefined ? {} : { Ulimits: Ulimits.map((limit) => ({ Name: '', Hard: 0, Soft: 0, ...limit })) }),
    ...(PortBindings === undefined
      ? {}
      : {
          PortBindings: Object.fromEntries(
            Object.entries(PortBindings).map(([port, bindings]) => [
              port,
              (bindings ?? []).map((binding) => ({ HostIp: '', HostPort: '', ...binding })),
            ]),
          ),
        }),
  };
}

/** They tell what the neighbours do; only where they are, since a runtime may not mask what is not there. */
function thermalPaths(cpus: number): string[] {
  return Array.from({ length: cpus }, (_, cpu) => `/sys/devices/system/cpu/cpu${cpu}/thermal_throttle`).filter(existsSync);
}
