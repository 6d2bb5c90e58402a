/** Limits of a container (Resources), and its restart policy: what `update` can change. */
import { boolean, int, int64, list, map, type Shape, string, struct, uint16, uint64 } from './decode.ts';

export interface Ulimit {
  Name?: string;
  Hard?: number;
  Soft?: number;
}
export interface WeightDevice {
  Path?: string;
  Weight?: number;
}
export interface ThrottleDevice {
  Path?: string;
  Rate?: number;
}
export interface DeviceMapping {
  PathOnHost?: string;
  PathInContainer?: string;
  CgroupPermissions?: string;
}
export interface DeviceRequest {
  Driver?: string;
  Count?: number;
  DeviceIDs?: string[];
  /** or-list of and-lists */
  Capabilities?: string[][];
  Options?: Record<string, string>;
}

/** Sizes are bytes; CPU times microseconds; NanoCpus 10^-9 CPUs. */
export interface Resources {
  CpuShares?: number;
  Memory?: number;
  NanoCpus?: number;
  CgroupParent?: string;
  BlkioWeight?: number;
  BlkioWeightDevice?: WeightDevice[];
  BlkioDeviceReadBps?: ThrottleDevice[];
  BlkioDeviceWriteBps?: ThrottleDevice[];
  BlkioDeviceReadIOps?: ThrottleDevice[];
  BlkioDeviceWriteIOps?: ThrottleDevice[];
  CpuPeriod?: number;
  CpuQuota?: number;
  CpuRealtimePeriod?: number;
  CpuRealtimeRuntime?: number;
  CpusetCpus?: string;
  CpusetMems?: string;
  Devices?: DeviceMapping[];
  DeviceCgroupRules?: string[];
  DeviceRequests?: DeviceRequest[];
  /** removed in API 1.42 */
  KernelMemory?: number;
  KernelMemoryTCP?: number;
  MemoryReservation?: number;
  /** memory and swap together; -1 unlimited, 0 twice Memory */
  MemorySwap?: number;
  MemorySwappiness?: number;
  OomKillDisable?: boolean;
  /** 0 or -1 unlimited */
  PidsLimit?: number;
  Ulimits?: Ulimit[];
  CpuCount?: number;
  CpuPercent?: number;
  IOMaximumIOps?: number;
  IOMaximumBandwidth?: number;
}

export interface RestartPolicy {
  /** '', no, always, unless-stopped, on-failure */
  Name?: string;
  MaximumRetryCount?: number;
}

/** The body of ContainerUpdate. */
export interface ContainerUpdateRequest extends Resources {
  RestartPolicy?: RestartPolicy;
}

const throttleDevices = list(struct<ThrottleDevice>('blkiodev.ThrottleDevice', { Path: string, Rate: uint64 }));

export const resourceFields = {
  CpuShares: int64,
  Memory: int64,
  NanoCpus: int64,
  CgroupParent: string,
  BlkioWeight: uint16,
  BlkioWeightDevice: list(struct<WeightDevice>('blkiodev.WeightDevice', { Path: string, Weight: uint16 })),
  BlkioDeviceReadBps: throttleDevices,
  BlkioDeviceWriteBps: throttleDevices,
  BlkioDeviceReadIOps: throttleDevices,
  BlkioDeviceWriteIOps: throttleDevices,
  CpuPeriod: int64,
  CpuQuota: int64,
  CpuRealtimePeriod: int64,
  CpuRealtimeRuntime: int64,
  CpusetCpus: string,
  CpusetMems: string,
  Devices: list(
    struct<DeviceMapping>('container.DeviceMapping', { PathOnHost: string, PathInContainer: string, CgroupPermissions: string }),
  ),
  DeviceCgroupRules: list(string),
  DeviceRequests: list(
    struct<DeviceRequest>('container.DeviceRequest', {
      Driver: string,
      Count: int,
      DeviceIDs: list(string),
      Capabilities: list(list(string)),
      Options: map(string),
    }),
  ),
  KernelMemory: int64,
  KernelMemoryTCP: int64,
  MemoryReservation: int64,
  MemorySwap: int64,
  MemorySwappiness: int64,
  OomKillDisable: boolean,
  PidsLimit: int64,
  Ulimits: list(struct<Ulimit>('units.Ulimit', { Name: string, Hard: int64, Soft: int64 })),
  CpuCount: int64,
  CpuPercent: int64,
  IOMaximumIOps: uint64,
  IOMaximumBandwidth: uint64,
} as const;

export const restartPolicy: Shape<RestartPolicy> = struct<RestartPolicy>('container.RestartPolicy', {
  Name: string,
  MaximumRetryCount: int,
});

export const containerUpdateRequest: Shape<ContainerUpdateRequest> = struct<ContainerUpdateRequest>('container.UpdateConfig', {
  ...resourceFields,
  RestartPolicy: restartPolicy,
});
