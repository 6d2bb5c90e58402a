/** The document of ContainerInspect: every field dockerd shows, with its zero value where nothing was said. */
import type {
  ContainerConfig,
  ContainerInspect,
  ContainerState,
  HostConfig,
  InspectContainerConfig,
  InspectHostConfig,
  MountPoint,
  NetworkSettings,
} from '@flotilla/engine-api';
import type { ContainerRecord, State } from './container.ts';
import type { MountPlan } from './spec/index.ts';

/** In dockerd's order. What Go leaves out when empty (Annotations, Mounts, Tmpfs, Sysctls, StorageOpt, Init) is not here. */
const hostConfigZeros: InspectHostConfig = {
  Binds: null,
  ContainerIDFile: '',
  LogConfig: { Type: '', Config: {} },
  NetworkMode: '',
  PortBindings: {},
  RestartPolicy: { Name: 'no', MaximumRetryCount: 0 },
  AutoRemove: false,
  VolumeDriver: '',
  VolumesFrom: null,
  ConsoleSize: [0, 0],
  CapAdd: null,
  CapDrop: null,
  CgroupnsMode: '',
  Dns: [],
  DnsOptions: [],
  DnsSearch: [],
  ExtraHosts: null,
  GroupAdd: null,
  IpcMode: '',
  Cgroup: '',
  Links: null,
  OomScoreAdj: 0,
  PidMode: '',
  Privileged: false,
  PublishAllPorts: false,
  ReadonlyRootfs: false,
  SecurityOpt: null,
  UTSMode: '',
  UsernsMode: '',
  ShmSize: 0,
  Runtime: '',
  Isolation: '',
  CpuShares: 0,
  Memory: 0,
  NanoCpus: 0,
  CgroupParent: '',
  BlkioWeight: 0,
  BlkioWeightDevice: [],
  BlkioDeviceReadBps: [],
  BlkioDeviceWriteBps: [],
  BlkioDeviceReadIOps: [],
  BlkioDeviceWriteIOps: [],
  CpuPeriod: 0,
  CpuQuota: 0,
  CpuRealtimePeriod: 0,
  CpuRealtimeRuntime: 0,
  CpusetCpus: '',
  CpusetMems: '',
  Devices: [],
  DeviceCgroupRules: null,
  DeviceRequests: null,
  MemoryReservation: 0,
  MemorySwap: 0,
  MemorySwappiness: null,
  OomKillDisable: null,
  PidsLimit: null,
  Ulimits: [],
  CpuCount: 0,
  CpuPercent: 0,
  IOMaximumIOps: 0,
  IOMaximumBandwidth: 0,
  MaskedPaths: null,
  ReadonlyPaths: null,
};

const configZeros: InspectContainerConfig = {
  Hostname: '',
  Domainname: '',
  User: '',
  AttachStdin: false,
  AttachStdout: false,
  AttachStderr: false,
  Tty: false,
  OpenStdin: false,
  StdinOnce: false,
  Env: [],
  Cmd: null,
  Image: '',
  Volumes: null,
  WorkingDir: '',
  Entrypoint: null,
  OnBuild: null,
  Labels: {},
};

const noNetwork: NetworkSettings = {
  Bridge: '',
  SandboxID: '',
  SandboxKey: '',
  Ports: {},
  HairpinMode: false,
  LinkLocalIPv6Address: '',
  LinkLocalIPv6PrefixLen: 0,
  SecondaryIPAddresses: null,
  SecondaryIPv6Addresses: null,
  EndpointID: '',
  Gateway: '',
  GlobalIPv6Address: '',
  GlobalIPv6PrefixLen: 0,
  IPAddress: '',
  IPPrefixLen: 0,
  IPv6Gateway: '',
  MacAddress: '',
  Networks: {},
};

/** Network settings as list and inspect show them: before a first start the endpoints that were asked for, not made yet. */
export function networkSettings(container: ContainerRecord): NetworkSettings {
  if (container.networkSettings !== undefined) return container.networkSettings;
  const { NetworkMode: mode = 'bridge' } = container.hostConfig;
  const wished = { ...container.endpoints };
  if (!mode.startsWith('container:') && Object.keys(wished).length === 0) wished[mode] = {};
  const Networks = Object.fromEntries(
    Object.entries(wished).map(([name, endpoint]) => [
      name,
      {
        IPAMConfig: null,
        Links: null,
        Aliases: null,
        MacAddress: '',
        DriverOpts: null,
        GwPriority: 0,
        NetworkID: '',
        EndpointID: '',
        Gateway: '',
        IPAddress: '',
        IPPrefixLen: 0,
        IPv6Gateway: '',
        GlobalIPv6Address: '',
        GlobalIPv6PrefixLen: 0,
        DNSNames: null,
        ...endpoint,
      },
    ]),
  );
  return { ...noNetwork, Networks };
}

/** State of ContainerInspect. */
export function inspectState(state: State): ContainerState {
  const running = state.status === 'running' || state.status === 'paused' || state.status === 'restarting';
  return {
    Status: state.status,
    Running: running,
    Paused: state.status === 'paused',
    Restarting: state.status === 'restarting',
    OOMKilled: state.oomKilled,
    Dead: state.status === 'dead',
    Pid: state.run?.pid ?? 0,
    ExitCode: state.exitCode,
    Error: state.error,
    StartedAt: state.startedAt,
    FinishedAt: state.finishedAt,
    ...(state.health === undefined ? {} : { Health: state.health }),
  };
}

/** A mount as list and inspect show it; tmpfs of `--tmpfs` are not among them, those of `--mount` are. */
export function mountPoint(mount: MountPlan): MountPoint {
  return {
    Type: mount.type,
    ...(mount.type === 'volume' ? { Name: mount.name ?? '' } : {}),
    Source: mount.source ?? '',
    Destination: mount.destination,
    ...(mount.type === 'volume' ? { Driver: mount.driver ?? 'local' } : {}),
    Mode: mount.mode,
    RW: mount.rw,
    Propagation: mount.propagation,
  };
}

function inspectHostConfig(hostConfig: HostConfig): InspectHostConfig {
  return { ...hostConfigZeros, ...hostConfig };
}

function inspectConfig(config: ContainerConfig, reference: string): InspectContainerConfig {
  return { ...configZeros, ...config, Image: reference };
}

/** The address asked for on the main network: dockerd goes on showing it where it was before 1.44. */
function wishedMacAddress({ hostConfig, endpoints }: ContainerRecord): { MacAddress?: string } {
  const address = endpoints[hostConfig.NetworkMode ?? 'bridge']?.MacAddress;
  return address ? { MacAddress: address } : {};
}

export interface InspectExtras {
  /** HostConfig.Links by the names of today */
  readonly links: string[] | null;
  readonly execIds: readonly string[];
  /** where it is said to be; empty when it keeps none */
  readonly logPath: string;
  readonly size?: { readonly rw: number; readonly rootFs: number };
}

export function inspectDocument(container: ContainerRecord, extras: InspectExtras): ContainerInspect {
  const { snapshot, files } = container;
  return {
    Id: container.id,
    Created: container.created,
    Path: container.path,
    Args: [...container.args],
    State: inspectState(container.state),
    Image: container.image.id,
    ResolvConfPath: files?.resolvConf ?? '',
    HostnamePath: files?.hostname ?? '',
    HostsPath: files?.hosts ?? '',
    LogPath: extras.logPath,
    Name: `/${container.name}`,
    RestartCount: container.restartCount,
    Driver: 'overlay2',
    Platform: container.platform,
    MountLabel: '',
    ProcessLabel: '',
    AppArmorProfile: container.apparmorProfile ?? '',
    ExecIDs: extras.execIds.length === 0 ? null : [...extras.execIds],
    HostConfig: { ...inspectHostConfig(container.hostConfig), Links: extras.links },
    GraphDriver: {
      Data: {
        ID: container.id,
        LowerDir: snapshot.lowerDirs.join(':'),
        MergedDir: snapshot.mergedDir,
        UpperDir: snapshot.upperDir,
        WorkDir: snapshot.workDir,
      },
      Name: 'overlay2',
    },
    ...(extras.size === undefined ? {} : { SizeRw: extras.size.rw, SizeRootFs: extras.size.rootFs }),
    Mounts: container.mounts.map(mountPoint),
    Config: { ...inspectConfig(container.config, container.image.reference), ...wishedMacAddress(container) },
    NetworkSettings: networkSettings(container),
    ...(container.image.manifestDescriptor === undefined ? {} : { ImageManifestDescriptor: container.image.manifestDescriptor }),
  };
}
