/** What of a request gives rights on the host itself. Read from the documents that are acted on, so that no spelling of a body hides one. */
import { buildLabel } from '@flotilla/engine-api';

export const dangers = ['privileged', 'host-mounts', 'host-namespaces', 'devices', 'capabilities', 'unconfined'] as const;
export type Danger = (typeof dangers)[number];

type Document = Readonly<Record<string, unknown>>;

const documentOf = (value: unknown): Document => (typeof value === 'object' && value !== null ? (value as Document) : {});
const texts = (value: unknown): string[] => (Array.isArray(value) ? value.filter((each): each is string => typeof each === 'string') : []);
const filled = (value: unknown): boolean => (Array.isArray(value) ? value.length > 0 : Object.keys(documentOf(value)).length > 0);

/** A ContainerCreate document, or one whose HostConfig stands alone (build steps). */
export function dangersOfContainer(config: Document): Set<Danger> {
  const host = documentOf(config.HostConfig);
  const found = new Set<Danger>();
  if (host.Privileged === true) found.add('privileged');
  // What a step of a build has mounted is lent to it: caches, secrets, scripts, parts of images. No client can make a container with this label.
  const isStep = buildLabel in documentOf(config.Labels);
  const mounts = Array.isArray(host.Mounts) && !isStep ? host.Mounts.map(documentOf) : [];
  if (texts(host.Binds).some((bind) => bind.startsWith('/'))) found.add('host-mounts');
  for (const mount of mounts) {
    if (mount.Type === 'bind' || mount.Type === 'npipe') found.add('host-mounts');
    const driver = documentOf(documentOf(mount.VolumeOptions).DriverConfig);
    if (isHostVolume(documentOf(driver.Options))) found.add('host-mounts');
  }
  for (const mode of [host.NetworkMode, host.PidMode, host.IpcMode, host.UTSMode, host.UsernsMode]) {
    if (mode === 'host') found.add('host-namespaces');
  }
  const endpoints = documentOf(documentOf(config.NetworkingConfig).EndpointsConfig);
  if ('host' in endpoints) found.add('host-namespaces');
  if (filled(host.Devices) || filled(host.DeviceRequests) || filled(host.DeviceCgroupRules)) found.add('devices');
  if (filled(host.CapAdd)) found.add('capabilities');
  const unmasked = Array.isArray(host.MaskedPaths) || Array.isArray(host.ReadonlyPaths);
  if (unmasked || texts(host.SecurityOpt).some(isLoose) || filled(host.Sysctls) || filled(host.Annotations)) found.add('unconfined');
  if (typeof host.CgroupParent === 'string' && host.CgroupParent !== '') found.add('unconfined');
  // What another runtime confines is its own affair.
  if (typeof host.Runtime === 'string' && !['', 'crun', 'runc'].includes(host.Runtime)) found.add('unconfined');
  return found;
}

/** The dangers of a container that is here: whoever gets into it has them. What it says of masked paths is mostly what it was given by default. */
export function dangersOfMade(config: Document): Set<Danger> {
  const host = documentOf(config.HostConfig);
  return dangersOfContainer({ ...config, HostConfig: { ...host, MaskedPaths: undefined, ReadonlyPaths: undefined } });
}

/** Options that only tighten are nobody's danger. */
function isLoose(option: string): boolean {
  return !/^no-new-privileges(?:[:=]true)?$/.test(option);
}

export function dangersOfExec(config: Document): Set<Danger> {
  return new Set<Danger>(config.Privileged === true ? ['privileged'] : []);
}

/** A volume of the local driver may be a directory or a device of the host, or of a server that the host reaches and trusts with its own rights. */
export function dangersOfVolume(config: Document): Set<Danger> {
  return new Set<Danger>(isHostVolume(documentOf(config.DriverOpts)) ? ['host-mounts'] : []);
}

/** A bind is one by its mount options alone, whatever its type. */
function isHostVolume({ type, device, o }: Document): boolean {
  if (device === undefined && o === undefined) return false;
  const isBind = typeof o === 'string' && o.split(',').some((word) => word === 'bind' || word === 'rbind');
  return type !== 'tmpfs' || isBind;
}

/** Networks that put containers on the host's own links. */
export function dangersOfNetwork(config: Document): Set<Danger> {
  return new Set<Danger>(config.Driver === 'host' || config.Driver === 'macvlan' || config.Driver === 'ipvlan' ? ['host-namespaces'] : []);
}

const decoder = new TextDecoder();
const parse = (bytes: unknown): Document =>
  bytes instanceof Uint8Array && bytes.length > 0 ? documentOf(JSON.parse(decoder.decode(bytes))) : {};

/** The dangers of a call between services, by its method. */
export function dangersOfCall(path: string, request: unknown): Set<Danger> {
  const fields = documentOf(request);
  switch (path) {
    case '/flotilla.container.v1.Containers/Create':
      return dangersOfContainer(parse(fields.configJson));
    case '/flotilla.container.v1.Execs/Create':
      return dangersOfExec(parse(fields.configJson));
    case '/flotilla.volume.v1.Volumes/Create':
      return dangersOfVolume(parse(fields.configJson));
    case '/flotilla.network.v1.Networks/Create':
      return dangersOfNetwork(parse(fields.configJson));
    case '/flotilla.image.v1.Builds/Build':
      return dangersOfContainer({ HostConfig: parse(fields.hostConfigJson) });
    default:
      return new Set();
  }
}
