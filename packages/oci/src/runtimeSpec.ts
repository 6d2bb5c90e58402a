/**
 * The OCI runtime spec's config.json as types: what container-service writes into a bundle and crun/runc read. Linux only.
 *
 * @see https://github.com/opencontainers/runtime-spec config.md, config-linux.md
 */

export interface RuntimeSpec {
  ociVersion: string;
  process?: RuntimeProcess;
  root?: { path: string; readonly?: boolean };
  hostname?: string;
  domainname?: string;
  mounts?: RuntimeMount[];
  hooks?: RuntimeHooks;
  annotations?: Record<string, string>;
  linux?: RuntimeLinux;
}

export interface RuntimeProcess {
  terminal?: boolean;
  /** Characters. */
  consoleSize?: { height: number; width: number };
  user: RuntimeUser;
  args: string[];
  env?: string[];
  cwd: string;
  capabilities?: RuntimeCapabilities;
  rlimits?: { type: string; hard: number; soft: number }[];
  noNewPrivileges?: boolean;
  apparmorProfile?: string;
  selinuxLabel?: string;
  oomScoreAdj?: number;
  ioPriority?: { class: 'IOPRIO_CLASS_RT' | 'IOPRIO_CLASS_BE' | 'IOPRIO_CLASS_IDLE'; priority: number };
}

export interface RuntimeUser {
  uid: number;
  gid: number;
  umask?: number;
  additionalGids?: number[];
}

export interface RuntimeCapabilities {
  bounding?: string[];
  effective?: string[];
  inheritable?: string[];
  permitted?: string[];
  ambient?: string[];
}

export interface RuntimeMount {
  destination: string;
  type?: string;
  source?: string;
  options?: string[];
  uidMappings?: RuntimeIdMapping[];
  gidMappings?: RuntimeIdMapping[];
}

export interface RuntimeHook {
  path: string;
  args?: string[];
  env?: string[];
  /** Seconds. */
  timeout?: number;
}

export interface RuntimeHooks {
  prestart?: RuntimeHook[];
  createRuntime?: RuntimeHook[];
  createContainer?: RuntimeHook[];
  startContainer?: RuntimeHook[];
  poststart?: RuntimeHook[];
  poststop?: RuntimeHook[];
}

export interface RuntimeIdMapping {
  containerID: number;
  hostID: number;
  size: number;
}

export type RuntimeNamespaceType = 'pid' | 'network' | 'mount' | 'ipc' | 'uts' | 'user' | 'cgroup' | 'time';

export interface RuntimeNamespace {
  type: RuntimeNamespaceType;
  /** Joins this one instead of making a new one. */
  path?: string;
}

export interface RuntimeDevice {
  path: string;
  type: 'c' | 'b' | 'u' | 'p';
  major?: number;
  minor?: number;
  /** Permission bits. */
  fileMode?: number;
  uid?: number;
  gid?: number;
}

export interface RuntimeLinux {
  uidMappings?: RuntimeIdMapping[];
  gidMappings?: RuntimeIdMapping[];
  sysctl?: Record<string, string>;
  resources?: RuntimeResources;
  cgroupsPath?: string;
  namespaces?: RuntimeNamespace[];
  devices?: RuntimeDevice[];
  seccomp?: RuntimeSeccomp;
  rootfsPropagation?: 'private' | 'rprivate' | 'shared' | 'rshared' | 'slave' | 'rslave' | 'unbindable' | 'runbindable';
  maskedPaths?: string[];
  readonlyPaths?: string[];
  mountLabel?: string;
  intelRdt?: { closID?: string; l3CacheSchema?: string; memBwSchema?: string };
  personality?: { domain: 'LINUX' | 'LINUX32'; flags?: string[] };
}

export interface RuntimeDeviceRule {
  allow: boolean;
  type?: 'a' | 'c' | 'b';
  major?: number;
  minor?: number;
  /** Some of `rwm`. */
  access?: string;
}

export interface RuntimeResources {
  devices?: RuntimeDeviceRule[];
  /** Bytes. */
  memory?: {
    limit?: number;
    reservation?: number;
    swap?: number;
    kernel?: number;
    kernelTCP?: number;
    swappiness?: number;
    disableOOMKiller?: boolean;
    useHierarchy?: boolean;
    checkBeforeUpdate?: boolean;
  };
  /** Microseconds for quota, period, burst and the realtime pair. */
  cpu?: {
    shares?: number;
    quota?: number;
    burst?: number;
    period?: number;
    realtimeRuntime?: number;
    realtimePeriod?: number;
    cpus?: string;
    mems?: string;
    idle?: number;
  };
  pids?: { limit: number };
  blockIO?: {
    weight?: number;
    leafWeight?: number;
    weightDevice?: { major: number; minor: number; weight?: number; leafWeight?: number }[];
    throttleReadBpsDevice?: RuntimeThrottle[];
    throttleWriteBpsDevice?: RuntimeThrottle[];
    throttleReadIOPSDevice?: RuntimeThrottle[];
    throttleWriteIOPSDevice?: RuntimeThrottle[];
  };
  hugepageLimits?: { pageSize: string; limit: number }[];
  network?: { classID?: number; priorities?: { name: string; priority: number }[] };
  rdma?: Record<string, { hcaHandles?: number; hcaObjects?: number }>;
  unified?: Record<string, string>;
}

export interface RuntimeThrottle {
  major: number;
  minor: number;
  rate: number;
}

export interface RuntimeSeccomp {
  defaultAction: string;
  defaultErrnoRet?: number;
  architectures?: string[];
  flags?: string[];
  listenerPath?: string;
  listenerMetadata?: string;
  syscalls?: RuntimeSyscallRule[];
}

export interface RuntimeSyscallRule {
  names: string[];
  action: string;
  errnoRet?: number;
  args?: { index: number; value: number; valueTwo?: number; op: string }[];
}

/** What `state` prints. */
export interface RuntimeState {
  ociVersion: string;
  id: string;
  status: 'creating' | 'created' | 'running' | 'stopped' | 'paused';
  pid?: number;
  bundle: string;
  annotations?: Record<string, string>;
}
