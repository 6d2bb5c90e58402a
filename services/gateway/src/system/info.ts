/** The document of `GET /info`, put together from what each service says of itself. A service that does not answer is a warning, not a failure. */
import { readdirSync } from 'node:fs';
import type { SystemInfo } from '@flotilla/engine-api';
import { errorMessage } from '@flotilla/errors';
import { type EngineOptions, engineVersion } from '@flotilla/service-kit';
import type { Backends } from '../backends.ts';
import { backingFileSystem, type Host } from './host.ts';

const answerWithin = { deadlineMs: 3_000 } as const;

export interface InfoOptions {
  readonly backends: Backends;
  readonly host: Host;
  readonly engineId: string;
  readonly dataRoot: string;
  readonly engineOptions: EngineOptions;
  readonly eventFollowers: () => number;
}

export async function systemInfo(options: InfoOptions): Promise<SystemInfo> {
  const { backends } = options;
  const warnings: string[] = [];
  const ask = async <T>(service: string, call: Promise<T>): Promise<T | undefined> => {
    try {
      return await call;
    } catch (error) {
      warnings.push(`WARNING: ${service} does not answer: ${errorMessage(error)}`);
      return undefined;
    }
  };
  const [containers, images, networks, registries] = await Promise.all([
    ask('container-service', backends.containers.counts({}, answerWithin)),
    ask('image-service', backends.images.counts({}, answerWithin)),
    ask('network-volume', backends.networks.counts({}, answerWithin)),
    ask('registry-proxy', backends.registries.info({}, answerWithin)),
  ]);
  const ofContainers = part(containers?.infoJson);
  const ofNetworks = part(networks?.infoJson);
  const defaults = defaultInfo(options);
  const registryConfig = part(registries?.registryConfigJson);
  return {
    ...defaults,
    Containers: containers?.total ?? 0,
    ContainersRunning: containers?.running ?? 0,
    ContainersPaused: containers?.paused ?? 0,
    ContainersStopped: containers?.stopped ?? 0,
    Images: images?.images ?? 0,
    ...ofContainers,
    ...ofNetworks,
    Plugins: { ...defaults.Plugins, ...ofContainers.Plugins, ...ofNetworks.Plugins },
    ...(Object.keys(registryConfig).length === 0 ? {} : { RegistryConfig: registryConfig as unknown as SystemInfo['RegistryConfig'] }),
    Warnings: nullWhenEmpty([
      ...openDoors(options.engineOptions),
      ...(ofContainers.Warnings ?? []),
      ...(ofNetworks.Warnings ?? []),
      ...warnings,
    ]),
  };
}

/** Descriptors of this process; one is the look itself. */
function openFiles(): number {
  return readdirSync('/proc/self/fd').length - 1;
}

/** What is said, in dockerd's words, of sockets that more can reach than should. */
export function openDoors({ hosts, tls }: Pick<EngineOptions, 'hosts' | 'tls'>): string[] {
  if (tls?.verify === true) return [];
  const lack = tls === undefined ? 'without encryption' : 'without TLS client verification';
  const addresses = hosts.flatMap((host) => (host.startsWith('tcp://') ? [host.slice('tcp://'.length)] : []));
  return addresses.map(
    (address) =>
      `WARNING: API is accessible on ${tls === undefined ? 'http' : 'https'}://${address} ${lack}.\n         Access to the remote API is equivalent to root access on the host. Refer\n         to the 'Docker daemon attack surface' section in the documentation for\n         more information: https://docs.docker.com/go/attack-surface/`,
  );
}

function nullWhenEmpty(list: string[]): string[] | null {
  return list.length > 0 ? list : null;
}

/** A service's part of the document. */
function part(json: Uint8Array | undefined): Partial<SystemInfo> {
  if (json === undefined || json.length === 0) return {};
  return JSON.parse(new TextDecoder().decode(json)) as Partial<SystemInfo>;
}

/** As dockerd shows a proxy: user and password, which ends at the last `@`, are nobody's business. */
export function withoutCredentials(proxy: string): string {
  if (!URL.canParse(proxy)) return proxy;
  const { username, password } = new URL(proxy);
  return username === '' && password === '' ? proxy : proxy.replace(/\/\/[^/?#]*@/, '//xxxxx:xxxxx@');
}

function defaultInfo({ host, engineId, dataRoot, engineOptions, eventFollowers }: InfoOptions): SystemInfo {
  return {
    ID: engineId,
    Containers: 0,
    ContainersRunning: 0,
    ContainersPaused: 0,
    ContainersStopped: 0,
    Images: 0,
    Driver: 'overlay2',
    DriverStatus: [
      ['Backing Filesystem', backingFileSystem(dataRoot)],
      ['Supports d_type', 'true'],
      ['Native Overlay Diff', 'true'],
      ['userxattr', 'false'],
    ],
    Plugins: { Volume: ['local'], Network: ['bridge', 'host', 'null'], Authorization: null, Log: ['json-file', 'local', 'none'] },
    MemoryLimit: true,
    SwapLimit: true,
    CpuCfsPeriod: true,
    CpuCfsQuota: true,
    CPUShares: true,
    CPUSet: true,
    PidsLimit: true,
    IPv4Forwarding: true,
    BridgeNfIptables: true,
    BridgeNfIp6tables: true,
    Debug: engineOptions.debug,
    NFd: openFiles(),
    OomKillDisable: !host.cgroupV2,
    // What keeps this process' loop busy, for want of Go's routines.
    NGoroutines: process.getActiveResourcesInfo().length,
    SystemTime: new Date().toISOString(),
    LoggingDriver: engineOptions.logDriver,
    CgroupDriver: 'cgroupfs',
    CgroupVersion: host.cgroupV2 ? '2' : '1',
    NEventsListener: eventFollowers(),
    KernelVersion: host.kernelVersion,
    OperatingSystem: host.operatingSystem,
    OSVersion: host.osVersion,
    OSType: 'linux',
    Architecture: host.architecture,
    IndexServerAddress: 'https://index.docker.io/v1/',
    RegistryConfig: {
      InsecureRegistryCIDRs: ['::1/128', '127.0.0.0/8'],
      IndexConfigs: { 'docker.io': { Name: 'docker.io', Mirrors: engineOptions.registryMirrors, Secure: true, Official: true } },
      Mirrors: engineOptions.registryMirrors.length > 0 ? engineOptions.registryMirrors : null,
    },
    NCPU: host.processors,
    MemTotal: host.memory,
    GenericResources: null,
    DockerRootDir: dataRoot,
    HttpProxy: withoutCredentials(engineOptions.httpProxy),
    HttpsProxy: withoutCredentials(engineOptions.httpsProxy),
    NoProxy: engineOptions.noProxy,
    Name: host.name,
    Labels: engineOptions.labels,
    ExperimentalBuild: false,
    ServerVersion: engineVersion,
    Runtimes: {},
    DefaultRuntime: engineOptions.defaultRuntime ?? '',
    Swarm: { NodeID: '', NodeAddr: '', LocalNodeState: 'inactive', ControlAvailable: false, Error: '', RemoteManagers: null },
    LiveRestoreEnabled: true,
    Isolation: '',
    InitBinary: 'docker-init',
    ContainerdCommit: { ID: '' },
    RuncCommit: { ID: '' },
    InitCommit: { ID: '' },
    SecurityOptions: ['name=seccomp,profile=builtin'],
    CDISpecDirs: [],
    Warnings: null,
  };
}
