/** HostConfig: the part of a container's configuration that depends on the host. */
import { boolean, int, int64, list, map, type Shape, string, struct, uint } from './decode.ts';
import { type PortBinding, portMap } from './endpoint.ts';
import { type Mount, mount } from './mount.ts';
import { type Resources, type RestartPolicy, resourceFields, restartPolicy } from './resources.ts';

export interface LogConfig {
  Type?: string;
  Config?: Record<string, string>;
}

export interface HostConfig extends Resources {
  Binds?: string[];
  ContainerIDFile?: string;
  LogConfig?: LogConfig;
  /** '', default, bridge, host, none, container:<name|id>, or a network's name or id */
  NetworkMode?: string;
  PortBindings?: Record<string, PortBinding[]>;
  RestartPolicy?: RestartPolicy;
  AutoRemove?: boolean;
  VolumeDriver?: string;
  VolumesFrom?: string[];
  /** height, width */
  ConsoleSize?: number[];
  Annotations?: Record<string, string>;
  CapAdd?: string[];
  CapDrop?: string[];
  CgroupnsMode?: string;
  Dns?: string[];
  DnsOptions?: string[];
  DnsSearch?: string[];
  ExtraHosts?: string[];
  GroupAdd?: string[];
  IpcMode?: string;
  Cgroup?: string;
  Links?: string[];
  OomScoreAdj?: number;
  PidMode?: string;
  Privileged?: boolean;
  PublishAllPorts?: boolean;
  ReadonlyRootfs?: boolean;
  SecurityOpt?: string[];
  StorageOpt?: Record<string, string>;
  /** path → mount options */
  Tmpfs?: Record<string, string>;
  UTSMode?: string;
  UsernsMode?: string;
  /** bytes */
  ShmSize?: number;
  Sysctls?: Record<string, string>;
  Runtime?: string;
  Isolation?: string;
  Mounts?: Mount[];
  /** absent: the default list; []: none masked */
  MaskedPaths?: string[];
  ReadonlyPaths?: string[];
  Init?: boolean;
}

export const hostConfig: Shape<HostConfig> = struct<HostConfig>('container.HostConfig', {
  ...resourceFields,
  Binds: list(string),
  ContainerIDFile: string,
  LogConfig: struct<LogConfig>('container.LogConfig', { Type: string, Config: map(string) }),
  NetworkMode: string,
  PortBindings: portMap,
  RestartPolicy: restartPolicy,
  AutoRemove: boolean,
  VolumeDriver: string,
  VolumesFrom: list(string),
  ConsoleSize: list(uint),
  Annotations: map(string),
  CapAdd: list(string),
  CapDrop: list(string),
  CgroupnsMode: string,
  Dns: list(string),
  DnsOptions: list(string),
  DnsSearch: list(string),
  ExtraHosts: list(string),
  GroupAdd: list(string),
  IpcMode: string,
  Cgroup: string,
  Links: list(string),
  OomScoreAdj: int,
  PidMode: string,
  Privileged: boolean,
  PublishAllPorts: boolean,
  ReadonlyRootfs: boolean,
  SecurityOpt: list(string),
  StorageOpt: map(string),
  Tmpfs: map(string),
  UTSMode: string,
  UsernsMode: string,
  ShmSize: int64,
  Sysctls: map(string),
  Runtime: string,
  Isolation: string,
  Mounts: list(mount),
  MaskedPaths: list(string),
  ReadonlyPaths: list(string),
  Init: boolean,
});
