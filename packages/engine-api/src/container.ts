/** Containers: what a client sends to make one, and what list and inspect answer. */
import {
  boolean,
  decodeDocument,
  type Empty,
  empty,
  type Fields,
  int,
  int64,
  list,
  map,
  type Shape,
  string,
  stringOrList,
  struct,
} from './decode.ts';
import { type EndpointSettings, type NetworkingConfig, type NetworkSettings, networkingConfig } from './endpoint.ts';
import { type Health, type HealthConfig, healthConfig } from './healthcheck.ts';
import { type HostConfig, hostConfig } from './hostConfig.ts';
import type { MountPoint } from './mount.ts';

/** The label that marks a container as a step of a build, with the build's name. Clients may not give it. */
export const buildLabel = 'com.flotilla.build';

/** The part of a container's configuration that can move to another host. */
export interface ContainerConfig {
  Hostname?: string;
  Domainname?: string;
  /** user[:group], names or numbers */
  User?: string;
  AttachStdin?: boolean;
  AttachStdout?: boolean;
  AttachStderr?: boolean;
  /** `80/tcp` → {} */
  ExposedPorts?: Record<string, Empty>;
  Tty?: boolean;
  OpenStdin?: boolean;
  StdinOnce?: boolean;
  /** NAME=value; NAME alone removes it */
  Env?: string[];
  Cmd?: string[];
  Healthcheck?: HealthConfig;
  ArgsEscaped?: boolean;
  Image?: string;
  /** path → {} */
  Volumes?: Record<string, Empty>;
  WorkingDir?: string;
  Entrypoint?: string[];
  NetworkDisabled?: boolean;
  /** deprecated in API 1.44 */
  MacAddress?: string;
  OnBuild?: string[];
  Labels?: Record<string, string>;
  StopSignal?: string;
  /** seconds */
  StopTimeout?: number;
  Shell?: string[];
}

/** The body of ContainerCreate. */
export interface ContainerCreateRequest extends ContainerConfig {
  HostConfig?: HostConfig;
  NetworkingConfig?: NetworkingConfig;
}

export interface ContainerCreateResponse {
  Id: string;
  Warnings: string[];
}

const configFields: Fields<ContainerConfig> = {
  Hostname: string,
  Domainname: string,
  User: string,
  AttachStdin: boolean,
  AttachStdout: boolean,
  AttachStderr: boolean,
  ExposedPorts: map(empty, () => ({})),
  Tty: boolean,
  OpenStdin: boolean,
  StdinOnce: boolean,
  Env: list(string),
  Cmd: stringOrList,
  Healthcheck: healthConfig,
  ArgsEscaped: boolean,
  Image: string,
  Volumes: map(empty, () => ({})),
  WorkingDir: string,
  Entrypoint: stringOrList,
  NetworkDisabled: boolean,
  MacAddress: string,
  OnBuild: list(string),
  Labels: map(string),
  StopSignal: string,
  StopTimeout: int,
  Shell: list(string),
};

export const containerConfig: Shape<ContainerConfig> = struct<ContainerConfig>('container.Config', configFields);

/** Limits beside HostConfig, where clients of the first versions put them. */
interface LooseLimits {
  Memory?: number;
  MemorySwap?: number;
  CpuShares?: number;
  CpusetCpus?: string;
  /** before CpusetCpus */
  Cpuset?: string;
  VolumeDriver?: string;
}

const wholeCreateRequest = struct<ContainerCreateRequest & LooseLimits>('container.CreateRequest', {
  ...configFields,
  HostConfig: hostConfig,
  NetworkingConfig: networkingConfig,
  Memory: int64,
  MemorySwap: int64,
  CpuShares: int64,
  CpusetCpus: string,
  Cpuset: string,
  VolumeDriver: string,
});

export const containerCreateRequest: Shape<ContainerCreateRequest> = {
  goType: wholeCreateRequest.goType,
  decode(value, place) {
    const whole = wholeCreateRequest.decode(value, place);
    return whole === undefined ? undefined : withLimitsInHostConfig(whole);
  },
};

/** What HostConfig says itself counts. */
function withLimitsInHostConfig(whole: ContainerCreateRequest & LooseLimits): ContainerCreateRequest {
  const { Memory, MemorySwap, CpuShares, Cpuset, CpusetCpus, VolumeDriver, ...request } = whole;
  const loose = { Memory, MemorySwap, CpuShares, CpusetCpus: CpusetCpus || Cpuset, VolumeDriver };
  const host: HostConfig = { ...request.HostConfig };
  for (const [name, limit] of Object.entries(loose)) {
    if (limit && !host[name as keyof typeof loose]) Object.assign(host, { [name]: limit });
  }
  return Object.keys(host).length === 0 ? request : { ...request, HostConfig: host };
}

/**
 * Reads the body of ContainerCreate: types are right and keys canonical afterwards; what the values mean is not judged here.
 *
 * @returns undefined for the document `null`.
 * @throws DecodeError
 */
export function decodeContainerCreate(text: string): ContainerCreateRequest | undefined {
  return decodeDocument(containerCreateRequest, text);
}

export type ContainerStateName = 'created' | 'running' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead';

/** State of ContainerInspect. Times are RFC3339Nano; `0001-01-01T00:00:00Z` is never. */
export interface ContainerState {
  Status: ContainerStateName;
  Running: boolean;
  Paused: boolean;
  Restarting: boolean;
  OOMKilled: boolean;
  Dead: boolean;
  Pid: number;
  ExitCode: number;
  Error: string;
  StartedAt: string;
  FinishedAt: string;
  Health?: Health;
}

export interface GraphDriver {
  Name: string;
  Data: Record<string, string> | null;
}

export interface ContainerInspect {
  Id: string;
  Created: string;
  Path: string;
  Args: string[];
  State: ContainerState;
  /** the image's id */
  Image: string;
  ResolvConfPath: string;
  HostnamePath: string;
  HostsPath: string;
  LogPath: string;
  /** with the leading slash */
  Name: string;
  RestartCount: number;
  Driver: string;
  Platform: string;
  MountLabel: string;
  ProcessLabel: string;
  AppArmorProfile: string;
  ExecIDs: string[] | null;
  HostConfig: InspectHostConfig;
  GraphDriver: GraphDriver;
  /** bytes; only when asked for */
  SizeRw?: number;
  SizeRootFs?: number;
  Mounts: MountPoint[];
  Config: InspectContainerConfig;
  NetworkSettings: NetworkSettings;
  ImageManifestDescriptor?: unknown;
}

/** HostConfig as inspect shows it: every field there, null where nothing was said. */
export type InspectHostConfig = { [K in keyof HostConfig]: HostConfig[K] | null };
/** ContainerConfig as inspect shows it. */
export type InspectContainerConfig = { [K in keyof ContainerConfig]: ContainerConfig[K] | null };

/** A published or exposed port of ContainerSummary. */
export interface Port {
  IP?: string;
  PrivatePort: number;
  PublicPort?: number;
  Type: string;
}

export interface ContainerSummary {
  Id: string;
  /** with leading slashes; links' names too */
  Names: string[];
  /** as the container was created from, or the id when that no longer names it */
  Image: string;
  ImageID: string;
  Command: string;
  /** unix seconds */
  Created: number;
  Ports: Port[];
  SizeRw?: number;
  SizeRootFs?: number;
  Labels: Record<string, string>;
  State: ContainerStateName;
  /** `Up 2 minutes (healthy)` */
  Status: string;
  HostConfig: { NetworkMode: string; Annotations?: Record<string, string> };
  NetworkSettings: { Networks: Record<string, EndpointSettings> };
  Mounts: MountPoint[];
  ImageManifestDescriptor?: unknown;
}

export interface ContainerWaitResponse {
  StatusCode: number;
  Error?: { Message: string };
}
export interface ContainerTopResponse {
  Titles: string[];
  Processes: string[][] | null;
}
/** Kind: 0 modified, 1 added, 2 deleted. */
export interface FilesystemChange {
  Path: string;
  Kind: number;
}
export interface ContainersPruneReport {
  ContainersDeleted: string[] | null;
  SpaceReclaimed: number;
}
/** The document of the header X-Docker-Container-Path-Stat. */
export interface PathStat {
  name: string;
  size: number;
  /** Go's os.FileMode bits */
  mode: number;
  /** RFC3339Nano */
  mtime: string;
  linkTarget: string;
}
