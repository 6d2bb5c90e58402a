/** Containers and execs, as Engine API v1.50 describes its answers, and this engine gives them: which fields are always there, and which may be null. */
import { any, boolean, fields, integer, list, map, oneOf, orNull, type Shape, string, time } from './shape.ts';

export const ociPlatform: Shape = orNull(
  fields({ architecture: string, os: string }, { 'os.version': string, 'os.features': list(string), variant: string }),
);

export const ociDescriptor: Shape = fields(
  { mediaType: string, digest: string, size: integer },
  {
    urls: orNull(list(string)),
    annotations: orNull(map(string)),
    data: orNull(string),
    platform: ociPlatform,
    artifactType: orNull(string),
  },
);

export const port: Shape = fields({ IP: string, PrivatePort: integer, PublicPort: integer, Type: oneOf('tcp', 'udp', 'sctp') });

export const endpointIPAMConfig: Shape = orNull(fields({ IPv4Address: string, IPv6Address: string, LinkLocalIPs: list(string) }));

export const endpointSettings: Shape = fields({
  IPAMConfig: endpointIPAMConfig,
  Links: orNull(list(string)),
  MacAddress: string,
  Aliases: orNull(list(string)),
  DriverOpts: orNull(map(string)),
  GwPriority: integer,
  NetworkID: string,
  EndpointID: string,
  Gateway: string,
  IPAddress: string,
  IPPrefixLen: integer,
  IPv6Gateway: string,
  GlobalIPv6Address: string,
  GlobalIPv6PrefixLen: integer,
  DNSNames: orNull(list(string)),
});

export const mountPoint: Shape = fields(
  {
    Type: oneOf('bind', 'cluster', 'image', 'npipe', 'tmpfs', 'volume'),
    Source: string,
    Destination: string,
    Mode: string,
    RW: boolean,
    Propagation: string,
  },
  { Name: string, Driver: string },
);

export const containerSummary: Shape = fields({
  Id: string,
  Names: list(string),
  Image: string,
  ImageID: string,
  ImageManifestDescriptor: ociDescriptor,
  Command: string,
  Created: integer,
  Ports: list(port),
  SizeRw: orNull(integer),
  SizeRootFs: orNull(integer),
  Labels: map(string),
  State: oneOf('created', 'running', 'paused', 'restarting', 'exited', 'removing', 'dead'),
  Status: string,
  HostConfig: fields({ NetworkMode: string }, { Annotations: orNull(map(string)) }),
  NetworkSettings: fields({ Networks: map(endpointSettings) }),
  Mounts: list(mountPoint),
});

export const containerCreateResponse: Shape = fields({ Id: string, Warnings: list(string) });

export const healthcheckResult: Shape = orNull(fields({ Start: time, End: time, ExitCode: integer, Output: string }));

export const health: Shape = orNull(
  fields({ Status: oneOf('none', 'starting', 'healthy', 'unhealthy'), FailingStreak: integer, Log: list(healthcheckResult) }),
);

export const containerState: Shape = orNull(
  fields(
    {
      Status: oneOf('created', 'running', 'paused', 'restarting', 'removing', 'exited', 'dead'),
      Running: boolean,
      Paused: boolean,
      Restarting: boolean,
      OOMKilled: boolean,
      Dead: boolean,
      Pid: integer,
      ExitCode: integer,
      Error: string,
      StartedAt: string,
      FinishedAt: string,
    },
    { Health: health },
  ),
);

export const throttleDevice: Shape = fields({ Path: string, Rate: integer });

export const deviceMapping: Shape = fields({ PathOnHost: string, PathInContainer: string, CgroupPermissions: string });

export const deviceRequest: Shape = fields({
  Driver: string,
  Count: integer,
  DeviceIDs: list(string),
  Capabilities: list(list(string)),
  Options: map(string),
});

export const portBinding: Shape = fields({ HostIp: string, HostPort: string });

export const restartPolicy: Shape = fields({ Name: oneOf('', 'no', 'always', 'unless-stopped', 'on-failure'), MaximumRetryCount: integer });

export const mount: Shape = fields(
  { Target: string, Type: oneOf('bind', 'cluster', 'image', 'npipe', 'tmpfs', 'volume') },
  {
    Source: string,
    ReadOnly: boolean,
    Consistency: string,
    BindOptions: fields({
      Propagation: oneOf('private', 'rprivate', 'shared', 'rshared', 'slave', 'rslave'),
      NonRecursive: boolean,
      CreateMountpoint: boolean,
      ReadOnlyNonRecursive: boolean,
      ReadOnlyForceRecursive: boolean,
    }),
    VolumeOptions: fields({
      NoCopy: boolean,
      Labels: map(string),
      DriverConfig: fields({ Name: string, Options: map(string) }),
      Subpath: string,
    }),
    ImageOptions: fields({ Subpath: string }),
    TmpfsOptions: fields({ SizeBytes: integer, Mode: integer, Options: list(list(string)) }),
  },
);

export const hostConfig: Shape = fields(
  {
    CpuShares: integer,
    Memory: integer,
    CgroupParent: string,
    BlkioWeight: integer,
    BlkioWeightDevice: list(fields({ Path: string, Weight: integer })),
    BlkioDeviceReadBps: list(throttleDevice),
    BlkioDeviceWriteBps: list(throttleDevice),
    BlkioDeviceReadIOps: list(throttleDevice),
    BlkioDeviceWriteIOps: list(throttleDevice),
    CpuPeriod: integer,
    CpuQuota: integer,
    CpuRealtimePeriod: integer,
    CpuRealtimeRuntime: integer,
    CpusetCpus: string,
    CpusetMems: string,
    Devices: list(deviceMapping),
    DeviceCgroupRules: orNull(list(string)),
    DeviceRequests: orNull(list(deviceRequest)),
    MemoryReservation: integer,
    MemorySwap: integer,
    MemorySwappiness: orNull(integer),
    NanoCpus: integer,
    OomKillDisable: boolean,
    PidsLimit: orNull(integer),
    Ulimits: list(fields({ Name: string, Soft: integer, Hard: integer })),
    CpuCount: integer,
    CpuPercent: integer,
    IOMaximumIOps: integer,
    IOMaximumBandwidth: integer,
    Binds: orNull(list(string)),
    ContainerIDFile: string,
    LogConfig: fields({
      Type: oneOf('local', 'json-file', 'syslog', 'journald', 'gelf', 'fluentd', 'awslogs', 'splunk', 'etwlogs', 'none'),
      Config: map(string),
    }),
    NetworkMode: string,
    PortBindings: map(orNull(list(portBinding))),
    RestartPolicy: restartPolicy,
    AutoRemove: boolean,
    VolumeDriver: string,
    VolumesFrom: orNull(list(string)),
    ConsoleSize: orNull(list(integer)),
    CapAdd: orNull(list(string)),
    CapDrop: orNull(list(string)),
    CgroupnsMode: oneOf('private', 'host'),
    Dns: list(string),
    DnsOptions: list(string),
    DnsSearch: list(string),
    ExtraHosts: orNull(list(string)),
    GroupAdd: orNull(list(string)),
    IpcMode: string,
    Cgroup: string,
    Links: orNull(list(string)),
    OomScoreAdj: integer,
    PidMode: string,
    Privileged: boolean,
    PublishAllPorts: boolean,
    ReadonlyRootfs: boolean,
    SecurityOpt: orNull(list(string)),
    UTSMode: string,
    UsernsMode: string,
    ShmSize: integer,
    Runtime: orNull(string),
    Isolation: oneOf('default', 'process', 'hyperv', ''),
    MaskedPaths: list(string),
    ReadonlyPaths: list(string),
  },
  {
    KernelMemoryTCP: integer,
    Init: orNull(boolean),
    Mounts: list(mount),
    Annotations: map(string),
    StorageOpt: map(string),
    Tmpfs: map(string),
    Sysctls: orNull(map(string)),
  },
);

export const driverData: Shape = fields({ Name: string, Data: map(string) });

export const healthConfig: Shape = fields(
  { Test: list(string), Interval: integer },
  { Timeout: integer, Retries: integer, StartPeriod: integer, StartInterval: integer },
);

export const containerConfig: Shape = fields(
  {
    Hostname: string,
    Domainname: string,
    User: string,
    AttachStdin: boolean,
    AttachStdout: boolean,
    AttachStderr: boolean,
    Tty: boolean,
    OpenStdin: boolean,
    StdinOnce: boolean,
    Env: list(string),
    Cmd: list(string),
    Image: string,
    Volumes: orNull(map(map(any))),
    WorkingDir: string,
    Entrypoint: orNull(list(string)),
    OnBuild: orNull(list(string)),
    Labels: map(string),
  },
  {
    ExposedPorts: orNull(map(map(any))),
    Healthcheck: healthConfig,
    ArgsEscaped: orNull(boolean),
    NetworkDisabled: orNull(boolean),
    MacAddress: orNull(string),
    StopSignal: orNull(string),
    StopTimeout: orNull(integer),
    Shell: orNull(list(string)),
  },
);

export const address: Shape = fields({ Addr: string, PrefixLen: integer });

export const networkSettings: Shape = fields({
  Bridge: string,
  SandboxID: string,
  HairpinMode: boolean,
  LinkLocalIPv6Address: string,
  LinkLocalIPv6PrefixLen: integer,
  Ports: map(orNull(list(portBinding))),
  SandboxKey: string,
  SecondaryIPAddresses: orNull(list(address)),
  SecondaryIPv6Addresses: orNull(list(address)),
  EndpointID: string,
  Gateway: string,
  GlobalIPv6Address: string,
  GlobalIPv6PrefixLen: integer,
  IPAddress: string,
  IPPrefixLen: integer,
  IPv6Gateway: string,
  MacAddress: string,
  Networks: map(endpointSettings),
});

export const containerInspectResponse: Shape = fields(
  {
    Id: string,
    Created: orNull(time),
    Path: string,
    Args: list(string),
    State: containerState,
    Image: string,
    ResolvConfPath: string,
    HostnamePath: string,
    HostsPath: string,
    LogPath: orNull(string),
    Name: string,
    RestartCount: integer,
    Driver: string,
    Platform: string,
    ImageManifestDescriptor: ociDescriptor,
    MountLabel: string,
    ProcessLabel: string,
    AppArmorProfile: string,
    ExecIDs: orNull(list(string)),
    HostConfig: hostConfig,
    GraphDriver: driverData,
    Mounts: list(mountPoint),
    Config: containerConfig,
    NetworkSettings: networkSettings,
  },
  { SizeRw: orNull(integer), SizeRootFs: orNull(integer) },
);

export const containerTopResponse: Shape = fields({ Titles: list(string), Processes: list(list(string)) });

export const filesystemChange: Shape = fields({ Path: string, Kind: integer });

export const containerUpdateResponse: Shape = fields({ Warnings: orNull(list(string)) });

export const containerWaitExitError: Shape = fields({ Message: string });

export const containerWaitResponse: Shape = fields({ StatusCode: integer }, { Error: containerWaitExitError });

export const containerPrune: Shape = fields({ ContainersDeleted: orNull(list(string)), SpaceReclaimed: integer });

export const processConfig: Shape = fields(
  { privileged: boolean, tty: boolean, entrypoint: string, arguments: list(string) },
  { user: string },
);

export const execInspect: Shape = fields({
  CanRemove: boolean,
  DetachKeys: string,
  ID: string,
  Running: boolean,
  ExitCode: integer,
  ProcessConfig: processConfig,
  OpenStdin: boolean,
  OpenStderr: boolean,
  OpenStdout: boolean,
  ContainerID: string,
  Pid: integer,
});
