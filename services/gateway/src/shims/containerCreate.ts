/** What older API versions meant by the body of ContainerCreate, made explicit: the services know only the newest version. */
import type { ContainerCreateRequest, EndpointSettings, Mount } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import { compareVersions } from '../http/apiVersion.ts';

const endpointSysctls = 'com.docker.network.endpoint.sysctls';

/**
 * Changes `config` to what it means in the newest version.
 *
 * @returns warnings for the client.
 * @throws InvalidParameter with dockerd's words.
 */
export function shimContainerCreate(config: ContainerCreateRequest, version: string, cgroupV2: boolean): string[] {
  const older = (than: string): boolean => compareVersions(version, than) < 0;
  const host = config.HostConfig ?? {};
  config.HostConfig = host;
  const mounts = host.Mounts ?? [];
  defaultNetwork(config);
  // The client itself removed the container then.
  if (older('1.25')) delete host.AutoRemove;
  if (older('1.40')) {
    for (const mount of mounts) delete mount.BindOptions?.NonRecursive;
    delete host.KernelMemoryTCP;
    if (!host.IpcMode) host.IpcMode = 'shareable';
  }
  if (older('1.41') && !cgroupV2 && !host.CgroupnsMode) host.CgroupnsMode = 'host';
  if (older('1.42')) {
    for (const mount of mounts) dropForeignOptions(mount);
    delete host.ConsoleSize;
  } else {
    for (const mount of mounts) refuseForeignOptions(mount);
  }
  if (older('1.43')) delete host.Annotations;
  if (older('1.44')) beforeSeveralEndpoints(config, mounts);
  if (older('1.45') && mounts.some((mount) => mount.VolumeOptions?.Subpath)) {
    throw new InvalidParameter('VolumeOptions.Subpath needs API v1.45 or newer');
  }
  if (older('1.48')) {
    if (mounts.some(({ Type }) => Type === 'image')) throw new InvalidParameter('Mount type "Image" needs API v1.48 or newer');
    for (const endpoint of Object.values(config.NetworkingConfig?.EndpointsConfig ?? {})) delete endpoint.GwPriority;
  }
  const warnings = [containerWideMacAddress(config, older), interfaceSysctls(config, version), kernelMemory(config, version)];
  if (host.PidsLimit !== undefined && host.PidsLimit <= 0) delete host.PidsLimit;
  return warnings.filter((warning) => warning !== undefined);
}

/** What left the API in 1.42. dockerd drops it in silence. */
function kernelMemory({ HostConfig: host }: ContainerCreateRequest, version: string): string | undefined {
  if (!host?.KernelMemory || compareVersions(version, '1.42') < 0) return undefined;
  delete host.KernelMemory;
  return 'Kernel memory limits are no longer part of the API. Limitation discarded.';
}

/** `default` and nothing both mean the default bridge. */
function defaultNetwork(config: ContainerCreateRequest): void {
  const host = config.HostConfig ?? {};
  if (host.NetworkMode && host.NetworkMode !== 'default') return;
  host.NetworkMode = 'bridge';
  const endpoints = config.NetworkingConfig?.EndpointsConfig;
  const named = endpoints?.default;
  if (endpoints === undefined || named === undefined) return;
  delete endpoints.default;
  endpoints.bridge = named;
}

function dropForeignOptions(mount: Mount): void {
  delete mount.BindOptions?.CreateMountpoint;
  if (mount.Type !== 'volume') delete mount.VolumeOptions;
  if (mount.Type !== 'tmpfs') delete mount.TmpfsOptions;
}

function refuseForeignOptions(mount: Mount): void {
  const type = JSON.stringify(mount.Type ?? '');
  if (mount.VolumeOptions && mount.Type !== 'volume') {
    throw new InvalidParameter(`VolumeOptions must not be specified on mount type ${type}`);
  }
  if (mount.BindOptions && mount.Type !== 'bind') throw new InvalidParameter(`BindOptions must not be specified on mount type ${type}`);
  if (mount.TmpfsOptions && mount.Type !== 'tmpfs') throw new InvalidParameter(`TmpfsOptions must not be specified on mount type ${type}`);
}

function beforeSeveralEndpoints(config: ContainerCreateRequest, mounts: Mount[]): void {
  delete config.Healthcheck?.StartInterval;
  for (const mount of mounts) {
    if (mount.Type !== 'bind') continue;
    if (mount.BindOptions?.ReadOnlyForceRecursive) {
      throw new InvalidParameter('BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer');
    }
    // Read-only mounts were not recursive then.
    if (mount.ReadOnly) mount.BindOptions = { ...mount.BindOptions, ReadOnlyNonRecursive: true };
  }
  const names = Object.keys(config.NetworkingConfig?.EndpointsConfig ?? {});
  if (names.length > 1) {
    throw new InvalidParameter(`Container cannot be created with multiple network endpoints: ${names.join(', ')}`);
  }
}

function isBridgeOrUserDefined(mode: string): boolean {
  return !['host', 'none'].includes(mode) && !mode.startsWith('container:');
}

/**
 * The container's own MacAddress moves to the endpoint of its main network. Before 1.44 it stays the container's too, for its main network to have it also when
 * it is left and joined anew: Compose 1 does that before it starts a container.
 */
function containerWideMacAddress(config: ContainerCreateRequest, older: (than: string) => boolean): string | undefined {
  const address = config.MacAddress ?? '';
  const mode = config.HostConfig?.NetworkMode ?? 'bridge';
  if (address === '' || !older('1.44')) delete config.MacAddress;
  if (older('1.44')) {
    if (address === '') {
      for (const endpoint of Object.values(config.NetworkingConfig?.EndpointsConfig ?? {})) delete endpoint.MacAddress;
      return undefined;
    }
    if (!isBridgeOrUserDefined(mode)) throw new InvalidParameter('conflicting options: mac-address and the network mode');
    mainEndpoint(config, mode, true).MacAddress = address;
    return undefined;
  }
  if (address === '') return undefined;
  if (isBridgeOrUserDefined(mode)) {
    const endpoint = mainEndpoint(config, mode, false);
    if (endpoint.MacAddress && endpoint.MacAddress !== address) {
      throw new InvalidParameter(
        'the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty',
      );
    }
    endpoint.MacAddress = address;
  }
  return 'The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.';
}

/** Sysctls that name an interface are set when that exists: they move to the endpoint's driver options. */
function interfaceSysctls(config: ContainerCreateRequest, version: string): string | undefined {
  const host = config.HostConfig ?? {};
  const mode = host.NetworkMode ?? 'bridge';
  if (mode === 'host' || mode.startsWith('container:')) return undefined;
  const moved: string[] = [];
  const settings: string[] = [];
  for (const [name, value] of Object.entries(host.Sysctls ?? {})) {
    const [net, family, kind, nic, ...rest] = name.split('.');
    if (net !== 'net' || nic === undefined || rest.length === 0 || !nic.startsWith('eth')) continue;
    if (compareVersions(version, '1.46') > 0) {
      throw new InvalidParameter(
        `interface specific sysctl setting ${JSON.stringify(name)} must be supplied using driver option '${endpointSysctls}'`,
      );
    }
    if (nic !== 'eth0') {
      throw new InvalidParameter(
        `unable to determine network endpoint for sysctl ${name}, use driver option '${endpointSysctls}' to set per-interface sysctls`,
      );
    }
    moved.push(name);
    settings.push(`net.${family}.${kind}.IFNAME.${rest.join('.')}=${value}`);
    delete host.Sysctls?.[name];
  }
  if (moved.length === 0) return undefined;
  const endpoint = mainEndpoint(config, mode, compareVersions(version, '1.44') < 0);
  const before = endpoint.DriverOpts?.[endpointSysctls];
  const joined = settings.join(',');
  endpoint.DriverOpts = { ...endpoint.DriverOpts, [endpointSysctls]: before === undefined ? joined : `${joined},${before}` };
  return `Migrated sysctl ${JSON.stringify(moved.join(','))} to DriverOpts{${JSON.stringify(endpointSysctls)}:${JSON.stringify(joined)}}.`;
}

/** The endpoint of the network that NetworkMode names; made when there is none. `only`: before 1.44 there was at most one. */
function mainEndpoint(config: ContainerCreateRequest, mode: string, only: boolean): EndpointSettings {
  const endpoints = config.NetworkingConfig?.EndpointsConfig ?? {};
  config.NetworkingConfig = { ...config.NetworkingConfig, EndpointsConfig: endpoints };
  const present = Object.values(endpoints);
  if (present.length === 0) {
    const made: EndpointSettings = {};
    endpoints[mode] = made;
    return made;
  }
  const endpoint = only ? present[0] : endpoints[mode];
  if (endpoint === undefined) {
    throw new InvalidParameter('HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks');
  }
  return endpoint;
}
