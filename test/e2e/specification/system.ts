/** The engine itself, as Engine API v1.50 describes its answers, and this engine gives them: which fields are always there, and which may be null. */
import { containerSummary } from './containers.ts';
import { imageSummary } from './images.ts';
import { volume } from './networksVolumes.ts';
import { any, boolean, fields, integer, list, map, oneOf, orNull, type Shape, string, time } from './shape.ts';

export const pluginsInfo: Shape = fields({
  Volume: list(string),
  Network: list(string),
  Authorization: orNull(list(string)),
  Log: list(string),
});

export const indexInfo: Shape = orNull(fields({ Name: string, Mirrors: list(string), Secure: boolean, Official: boolean }));

export const registryServiceConfig: Shape = orNull(
  fields({ InsecureRegistryCIDRs: list(string), IndexConfigs: map(indexInfo), Mirrors: list(string) }),
);

export const runtime: Shape = fields({ path: string }, { runtimeArgs: orNull(list(string)), status: orNull(map(string)) });

export const swarmInfo: Shape = fields(
  {
    NodeID: string,
    NodeAddr: string,
    LocalNodeState: oneOf('', 'inactive', 'pending', 'active', 'error', 'locked'),
    ControlAvailable: boolean,
    Error: string,
    RemoteManagers: orNull(list(any)),
  },
  { Nodes: orNull(integer), Managers: orNull(integer), Cluster: any },
);

export const commit: Shape = fields({ ID: string });

export const firewallInfo: Shape = orNull(fields({ Driver: string, Info: list(list(string)) }));

export const deviceInfo: Shape = fields({ Source: string, ID: string });

export const containerdInfo: Shape = orNull(fields({ Address: string, Namespaces: fields({ Containers: string, Plugins: string }) }));

export const systemInfo: Shape = fields(
  {
    ID: string,
    Containers: integer,
    ContainersRunning: integer,
    ContainersPaused: integer,
    ContainersStopped: integer,
    Images: integer,
    Driver: string,
    DriverStatus: list(list(string)),
    DockerRootDir: string,
    Plugins: pluginsInfo,
    MemoryLimit: boolean,
    SwapLimit: boolean,
    CpuCfsPeriod: boolean,
    CpuCfsQuota: boolean,
    CPUShares: boolean,
    CPUSet: boolean,
    PidsLimit: boolean,
    OomKillDisable: boolean,
    IPv4Forwarding: boolean,
    Debug: boolean,
    NFd: integer,
    NGoroutines: integer,
    SystemTime: string,
    LoggingDriver: string,
    CgroupDriver: oneOf('cgroupfs', 'systemd', 'none'),
    CgroupVersion: oneOf('1', '2'),
    NEventsListener: integer,
    KernelVersion: string,
    OperatingSystem: string,
    OSVersion: string,
    OSType: string,
    Architecture: string,
    NCPU: integer,
    MemTotal: integer,
    IndexServerAddress: string,
    RegistryConfig: registryServiceConfig,
    GenericResources: orNull(
      list(
        fields({
          NamedResourceSpec: fields({ Kind: string, Value: string }),
          DiscreteResourceSpec: fields({ Kind: string, Value: integer }),
        }),
      ),
    ),
    HttpProxy: string,
    HttpsProxy: string,
    NoProxy: string,
    Name: string,
    Labels: list(string),
    ExperimentalBuild: boolean,
    ServerVersion: string,
    Runtimes: map(runtime),
    DefaultRuntime: string,
    Swarm: swarmInfo,
    LiveRestoreEnabled: boolean,
    Isolation: oneOf('default', 'hyperv', 'process', ''),
    InitBinary: string,
    ContainerdCommit: commit,
    RuncCommit: commit,
    InitCommit: commit,
    SecurityOptions: list(string),
    Warnings: orNull(list(string)),
    CDISpecDirs: list(string),
  },
  {
    KernelMemoryTCP: boolean,
    ProductLicense: string,
    DefaultAddressPools: list(fields({ Base: string, Size: integer })),
    FirewallBackend: firewallInfo,
    DiscoveredDevices: list(deviceInfo),
    Containerd: containerdInfo,
  },
);

export const systemVersion: Shape = fields(
  {
    Platform: fields({ Name: string }),
    Components: list(fields({ Name: string, Version: string, Details: orNull(map(any)) })),
    Version: string,
    ApiVersion: string,
    MinAPIVersion: string,
    GitCommit: string,
    GoVersion: string,
    Os: string,
    Arch: string,
    KernelVersion: string,
    BuildTime: string,
  },
  { Experimental: boolean },
);

export const eventActor: Shape = fields({ ID: string, Attributes: map(string) });

export const eventMessage: Shape = fields(
  {
    Type: oneOf('builder', 'config', 'container', 'daemon', 'image', 'network', 'node', 'plugin', 'secret', 'service', 'volume'),
    Action: string,
    Actor: eventActor,
    scope: oneOf('local', 'swarm'),
    time: integer,
    timeNano: integer,
  },
  { status: string, id: string, from: string },
);

export const errorResponse: Shape = fields({ message: string });

export const systemAuth: Shape = fields({ Status: string, IdentityToken: string });

export const buildCache: Shape = fields({
  ID: string,
  Parents: orNull(list(string)),
  Type: oneOf('internal', 'frontend', 'source.local', 'source.git.checkout', 'exec.cachemount', 'regular'),
  Description: string,
  InUse: boolean,
  Shared: boolean,
  Size: integer,
  CreatedAt: time,
  LastUsedAt: orNull(time),
  UsageCount: integer,
});

export const systemDataUsage: Shape = fields({
  LayersSize: integer,
  Images: list(imageSummary),
  Containers: list(containerSummary),
  Volumes: list(volume),
  BuildCache: list(buildCache),
});
