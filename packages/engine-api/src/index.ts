export {
  buildLabel,
  type ContainerConfig,
  type ContainerCreateRequest,
  type ContainerCreateResponse,
  type ContainerInspect,
  type ContainerState,
  type ContainerStateName,
  type ContainerSummary,
  type ContainersPruneReport,
  type ContainerTopResponse,
  type ContainerWaitResponse,
  containerConfig,
  containerCreateRequest,
  decodeContainerCreate,
  type FilesystemChange,
  type GraphDriver,
  type InspectContainerConfig,
  type InspectHostConfig,
  type PathStat,
  type Port,
} from './container.ts';
export {
  boolean,
  DecodeError,
  decodeDocument,
  document,
  duration,
  type Empty,
  empty,
  type Fields,
  int,
  int64,
  list,
  map,
  type Place,
  parseJson,
  type Shape,
  string,
  stringOrList,
  struct,
  uint,
  uint16,
  uint32,
  uint64,
} from './decode.ts';
export {
  type EndpointIPAMConfig,
  type EndpointSettings,
  endpointSettings,
  type NetworkingConfig,
  type NetworkSettings,
  networkingConfig,
  type PortBinding,
  type PortMap,
  portMap,
} from './endpoint.ts';
export type { ErrorResponse } from './error.ts';
export type { EventMessage } from './events.ts';
export { type ExecConfig, type ExecInspect, type ExecStartConfig, execConfig, execStartConfig } from './exec.ts';
export { goBoolean, notGoBoolean } from './goBoolean.ts';
export { type Health, type HealthConfig, type HealthcheckResult, healthConfig } from './healthcheck.ts';
export { type HostConfig, hostConfig, type LogConfig } from './hostConfig.ts';
export { humanDuration } from './humanDuration.ts';
export type {
  Descriptor,
  ImageConfig,
  ImageDeleteItem,
  ImageHistoryItem,
  ImageInspect,
  ImageSummary,
  ImagesPruneReport,
  Platform,
  ProgressMessage,
  SearchResult,
} from './image.ts';
export {
  type BindOptions,
  type DriverConfig,
  type ImageOptions,
  type Mount,
  type MountPoint,
  mount,
  type TmpfsOptions,
  type VolumeOptions,
} from './mount.ts';
export {
  type IPAM,
  type IPAMConfig,
  type NetworkConnectRequest,
  type NetworkContainer,
  type NetworkCreateRequest,
  type NetworkCreateResponse,
  type NetworkDisconnectRequest,
  type NetworkInspect,
  type NetworksPruneReport,
  networkConnectRequest,
  networkCreateRequest,
  networkDisconnectRequest,
} from './network.ts';
export { randomId, shortId } from './objectId.ts';
export {
  type ContainerUpdateRequest,
  containerUpdateRequest,
  type DeviceMapping,
  type DeviceRequest,
  type Resources,
  type RestartPolicy,
  resourceFields,
  restartPolicy,
  type ThrottleDevice,
  type Ulimit,
  type WeightDevice,
} from './resources.ts';
export type { BlkioEntry, BlkioStats, ContainerStats, CpuStats, MemoryStats, NetworkStats } from './stats.ts';
export {
  type AuthConfig,
  type AuthResponse,
  authConfig,
  type BuildCacheRecord,
  type Commit,
  type DiskUsage,
  type IndexInfo,
  type RegistryServiceConfig,
  type RuntimeInfo,
  type SwarmInfo,
  type SystemInfo,
  type SystemVersion,
  type VersionComponent,
} from './system.ts';
export {
  type Volume,
  type VolumeCreateRequest,
  type VolumeListResponse,
  type VolumesPruneReport,
  type VolumeUsageData,
  volumeCreateRequest,
} from './volume.ts';
