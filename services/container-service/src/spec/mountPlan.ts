/**
 * Which volumes, binds and other mounts a container is to have: from `--volumes-from`, binds (`-v`), `--mount` and the volumes
 * of its image, in dockerd's order and with its refusals. Nothing is made here.
 */
import { statSync } from 'node:fs';
import { posix } from 'node:path';
import type { ContainerConfig, HostConfig, Mount, TmpfsOptions } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import { hasCode } from '@flotilla/syscalls';
import { mergeTmpfsOptions } from './tmpfs.ts';

/** One mount as planned at create; kept in the container's record, where `source` is filled in once it is known. */
export interface MountPlan {
  readonly type: 'bind' | 'volume' | 'tmpfs' | 'image';
  /** absolute, clean path in the container */
  readonly destination: string;
  /** bind: the host's path; image: its reference; volume: its directory, once mounted */
  readonly source?: string;
  /** volume: its name; empty for an anonymous one until it is made */
  readonly name?: string;
  readonly driver?: string;
  readonly driverOptions?: Record<string, string>;
  readonly labels?: Record<string, string>;
  /** as given after the last colon of a bind: what inspect shows */
  readonly mode: string;
  readonly rw: boolean;
  readonly propagation: string;
  /** bind: nobody asked for its propagation; where the host's mount is not shared it is private */
  readonly slaveIfShared?: boolean;
  /** volume: do not copy what the image has there */
  readonly noCopy?: boolean;
  /** below the volume or image */
  readonly subpath?: string;
  /** bind: make the source when it is not there */
  readonly createMountpoint?: boolean;
  /** a volume without a name, removed with its container when asked */
  readonly anonymous?: boolean;
  /** bind: without what is mounted below the source */
  readonly nonRecursive?: boolean;
  /** read-only, but not what is mounted below */
  readonly readOnlyNonRecursive?: boolean;
  /** read-only with all below, or not at all */
  readonly readOnlyForceRecursive?: boolean;
  /** tmpfs: options of mount(8) */
  readonly options?: readonly string[];
}

/** A mount ready to be made: `source` is a path of this host (but for tmpfs). */
export type ResolvedMount = MountPlan;

/** A mount as a container's record keeps it: the plan, with name and `source` filled in. */
export type MountPoint = MountPlan;

const propagationModes = ['private', 'rprivate', 'slave', 'rslave', 'shared', 'rshared'];
const readWriteModes = ['rw', 'ro', 'ro-non-recursive', 'ro-force-recursive', 'rro'];
const labelModes = ['z', 'Z'];
const copyModes = ['nocopy'];
const consistencyModes = ['consistent', 'cached', 'delegated', 'default'];
const defaultPropagation = 'rprivate';

/**
 * @param volumesFrom - the mounts of the container a `--volumes-from` entry names.
 * @param dataRoot - the engine's own files: binds that show them must not hold on to what is mounted there.
 * @param readOnlyBindsNonRecursive - what `-v …:ro` means to clients before API 1.44.
 * @throws InvalidParameter in dockerd's words; whatever `volumesFrom` throws.
 */
export function planMounts(
  config: ContainerConfig,
  hostConfig: HostConfig,
  volumesFrom: (container: string) => readonly MountPlan[],
  dataRoot: string,
  readOnlyBindsNonRecursive = false,
): MountPlan[] {
  const plans = new Map<string, MountPlan>();
  for (const entry of hostConfig.VolumesFrom ?? []) {
    const { container, mode } = parseVolumesFrom(entry);
    for (const mount of volumesFrom(container)) {
      plans.set(mount.destination, { ...mount, mode, rw: mount.rw && isReadWrite(mode), noCopy: true, anonymous: false });
    }
  }
  const temporary = cleanKeys(hostConfig.Tmpfs);
  const claimed = new Set<string>();
  const claim = (plan: MountPlan): void => {
    if (claimed.has(plan.destination) || temporary.has(plan.destination)) {
      throw new InvalidParameter(`Duplicate mount point: ${plan.destination}`);
    }
    claimed.add(plan.destination);
    plans.set(plan.destination, plan.type === 'bind' ? { ...plan, ...bindPropagation(plan, dataRoot) } : plan);
  };
  for (const bind of hostConfig.Binds ?? []) {
    const plan = parseBind(bind, hostConfig.VolumeDriver ?? '');
    const nonRecursive = readOnlyBindsNonRecursive && plan.type === 'bind' && !plan.rw && !plan.readOnlyForceRecursive;
    claim(nonRecursive ? { ...plan, readOnlyNonRecursive: true } : plan);
  }
  for (const mount of hostConfig.Mounts ?? []) claim(parseMount(mount));
  for (const path of Object.keys(config.Volumes ?? {})) {
    const plan = imageVolume(path, hostConfig.VolumeDriver ?? '');
    if (!plans.has(plan.destination) && !temporary.has(plan.destination)) plans.set(plan.destination, plan);
  }
  return [...plans.values()];
}

/**
 * A bind of the engine's data root, of a part of it or of what it lies in would keep every container's file system busy that is mounted now: it
 * follows the host's mounts.
 */
function bindPropagation({ source = '', propagation }: MountPlan, dataRoot: string): Pick<MountPlan, 'propagation' | 'slaveIfShared'> {
  if (!isBelow(source, dataRoot) && !isBelow(dataRoot, source)) return { propagation: propagation || defaultPropagation };
  if (propagation === '') return { propagation: 'rslave', slaveIfShared: true };
  if (propagation === 'rslave' || propagation === 'rshared') return { propagation };
  const [root, bound] = [JSON.stringify(dataRoot), JSON.stringify(source)];
  throw new InvalidParameter(
    `invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: ${root}, bind mount source: ${bound}, propagation: "${propagation}"`,
  );
}

function isBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory.endsWith('/') ? directory : `${directory}/`);
}

function cleanKeys(record: Record<string, unknown> | undefined): Set<string> {
  return new Set(Object.keys(record ?? {}).map(cleanPath));
}

/** `container[:mode]`. @throws InvalidParameter */
export function parseVolumesFrom(entry: string): { container: string; mode: string } {
  if (entry === '') throw new InvalidParameter('volumes-from specification cannot be an empty string');
  const colon = entry.indexOf(':');
  const container = colon < 0 ? entry : entry.slice(0, colon);
  const mode = colon < 0 ? '' : entry.slice(colon + 1);
  if (mode === '') return { container, mode: 'rw' };
  const parts = mode.split(',');
  const refused = !isValidMode(mode) || parts.some((part) => propagationModes.includes(part) || copyModes.includes(part));
  if (refused) throw new InvalidParameter(`invalid mode: ${mode}`);
  if (parts.some((part) => part.startsWith('ro-') || part === 'rro')) {
    throw new InvalidParameter(`mount mode ${JSON.stringify(mode)} is not supported for volumes-from mounts: invalid mode: ${mode}`);
  }
  return { container, mode };
}

/** `[source:]destination[:mode]`, where a source that is no path is a volume's name. @throws InvalidParameter */
export function parseBind(bind: string, volumeDriver: string): MountPlan {
  const invalid = `invalid volume specification: '${bind}'`;
  const [first = '', second, third, ...more] = bind.split(':');
  if (first === '' || more.length > 0) throw new InvalidParameter(invalid);
  // A destination with a mode but without a source is no volume.
  if (third === undefined && second !== undefined && isValidMode(second)) throw new InvalidParameter(invalid);
  const source = second === undefined ? '' : first;
  const destination = second ?? first;
  const mode = third ?? '';
  if (!isValidMode(mode)) throw new InvalidParameter(`invalid mode: ${mode}`);
  const parts = mode.split(',');
  const isBind = source.startsWith('/');
  const readOnlyKind = parts.find((part) => part.startsWith('ro-') || part === 'rro');
  if (readOnlyKind !== undefined && !isBind) {
    throw new InvalidParameter(`mount mode ${JSON.stringify(mode)} requires a bind mount: ${invalid}`);
  }
  const propagation = parts.find((part) => propagationModes.includes(part));
  const mount: Mount = {
    Type: isBind ? 'bind' : 'volume',
    Source: source,
    Target: destination,
    ReadOnly: !isReadWrite(mode),
    ...(propagation === undefined ? {} : { BindOptions: { Propagation: propagation } }),
    ...(parts.includes('nocopy') ? { VolumeOptions: { NoCopy: true } } : {}),
  };
  try {
    checkMount(mount, false);
  } catch (error) {
    throw error instanceof InvalidParameter ? new InvalidParameter(`${invalid}: ${error.message}`, { cause: error }) : error;
  }
  const shared = { destination: cleanPath(destination), mode, rw: isReadWrite(mode) };
  if (isBind) {
    return {
      type: 'bind',
      ...shared,
      source: cleanPath(source),
      propagation: propagation ?? '',
      // A missing source of -v is made; --mount refuses it.
      createMountpoint: true,
      ...(readOnlyKind === 'ro-non-recursive' ? { readOnlyNonRecursive: true } : {}),
      ...(readOnlyKind === 'ro-force-recursive' || readOnlyKind === 'rro' ? { readOnlyForceRecursive: true } : {}),
    };
  }
  return {
    type: 'volume',
    ...shared,
    // dockerd shows `z` for volumes given without a mode.
    mode: mode === '' && source !== '' ? 'z' : mode,
    name: source,
    propagation: '',
    ...(volumeDriver === '' ? {} : { driver: volumeDriver }),
    noCopy: parts.includes('nocopy'),
    anonymous: source === '',
  };
}

/**
 * A key of Config.Volumes, which may be the image's word: a place for a volume without a name, whatever else it looks like. With a colon in it it is
 * checked as dockerd checks it, but names neither a volume nor a directory of the host.
 *
 * @throws InvalidParameter
 */
function imageVolume(path: string, volumeDriver: string): MountPlan {
  parseBind(path, volumeDriver);
  return {
    type: 'volume',
    destination: cleanPath(path.startsWith('/') ? path : `/${path}`),
    mode: '',
    rw: true,
    name: '',
    propagation: '',
    ...(volumeDriver === '' ? {} : { driver: volumeDriver }),
    noCopy: false,
    anonymous: true,
  };
}

/** An entry of HostConfig.Mounts. @throws InvalidParameter */
export function parseMount(mount: Mount): MountPlan {
  checkMount(mount, mount.BindOptions?.CreateMountpoint !== true);
  const shared = { destination: cleanPath(mount.Target ?? ''), mode: '', rw: mount.ReadOnly !== true };
  switch (mount.Type) {
    case 'bind': {
      const options = mount.BindOptions ?? {};
      return {
        type: 'bind',
        ...shared,
        source: cleanPath(mount.Source ?? ''),
        propagation: options.Propagation ?? '',
        createMountpoint: options.CreateMountpoint === true,
        ...(options.NonRecursive ? { nonRecursive: true } : {}),
        ...(options.ReadOnlyNonRecursive ? { readOnlyNonRecursive: true } : {}),
        ...(options.ReadOnlyForceRecursive ? { readOnlyForceRecursive: true } : {}),
      };
    }
    case 'tmpfs':
      return {
        type: 'tmpfs',
        ...shared,
        propagation: '',
        options: mergeTmpfsOptions(tmpfsText(mount.TmpfsOptions, mount.ReadOnly === true)),
      };
    case 'image':
      return {
        type: 'image',
        ...shared,
        rw: false,
        source: mount.Source ?? '',
        propagation: '',
        ...(mount.ImageOptions?.Subpath ? { subpath: mount.ImageOptions.Subpath } : {}),
      };
    default: {
      const options = mount.VolumeOptions ?? {};
      return {
        type: 'volume',
        ...shared,
        mode: 'z',
        name: mount.Source ?? '',
        propagation: '',
        ...(options.DriverConfig?.Name ? { driver: options.DriverConfig.Name } : {}),
        ...(options.DriverConfig?.Options ? { driverOptions: options.DriverConfig.Options } : {}),
        ...(options.Labels ? { labels: options.Labels } : {}),
        ...(options.Subpath ? { subpath: options.Subpath } : {}),
        noCopy: options.NoCopy === true,
        anonymous: !mount.Source,
      };
    }
  }
}

function checkMount(mount: Mount, sourceMustExist: boolean): void {
  const type = mount.Type ?? '';
  const refuse = (reason: string): never => {
    throw new InvalidParameter(`invalid mount config for type ${JSON.stringify(type)}: ${reason}`);
  };
  const excess = (field: string): never => refuse(`field ${field} must not be specified`);
  const target = mount.Target ?? '';
  const source = mount.Source ?? '';
  if (target === '') refuse('field Target must not be empty');
  if (cleanPath(target) === '/') refuse("invalid specification: destination can't be '/'");
  if (!target.startsWith('/')) refuse(`invalid mount path: '${target}' mount path must be absolute`);
  switch (type) {
    case 'bind': {
      const options = mount.BindOptions ?? {};
      if (source === '') refuse('field Source must not be empty');
      if (options.Propagation && !propagationModes.includes(options.Propagation))
        refuse(`invalid propagation mode: ${options.Propagation}`);
      if (mount.VolumeOptions !== undefined) excess('VolumeOptions');
      if (mount.ImageOptions !== undefined) excess('ImageOptions');
      if (mount.TmpfsOptions !== undefined) excess('TmpfsOptions');
      if (options.ReadOnlyNonRecursive && !mount.ReadOnly) refuse('field ReadOnlyNonRecursive requires ReadOnly');
      if (options.ReadOnlyForceRecursive && !mount.ReadOnly) refuse('field ReadOnlyForceRecursive requires ReadOnly');
      if (options.ReadOnlyNonRecursive && options.ReadOnlyForceRecursive) {
        refuse('ReadOnlyNonRecursive and ReadOnlyForceRecursive are mutually exclusive');
      }
      if (!source.startsWith('/')) refuse(`invalid mount path: '${source}' mount path must be absolute`);
      if (sourceMustExist && !exists(source)) refuse(`bind source path does not exist: ${source}`);
      return;
    }
    case 'volume': {
      if (mount.BindOptions !== undefined) excess('BindOptions');
      if (mount.ImageOptions !== undefined) excess('ImageOptions');
      if (mount.TmpfsOptions !== undefined) excess('TmpfsOptions');
      const subpath = mount.VolumeOptions?.Subpath;
      if (subpath && source === '') refuse('must not set Subpath when using anonymous volumes');
      if (source === '' && mount.ReadOnly) refuse('must not set ReadOnly mode when using anonymous volumes');
      if (subpath && !isLocal(subpath)) refuse('subpath must be a relative path within the volume');
      return;
    }
    case 'tmpfs':
      if (mount.BindOptions !== undefined) excess('BindOptions');
      if (mount.VolumeOptions !== undefined) excess('VolumeOptions');
      if (mount.ImageOptions !== undefined) excess('ImageOptions');
      if (source !== '') excess('Source');
      try {
        mergeTmpfsOptions(tmpfsText(mount.TmpfsOptions, mount.ReadOnly === true));
      } catch (error) {
        refuse(error instanceof Error ? error.message : String(error));
      }
      return;
    case 'image':
      if (mount.BindOptions !== undefined) excess('BindOptions');
      if (mount.VolumeOptions !== undefined) excess('VolumeOptions');
      if (mount.TmpfsOptions !== undefined) excess('TmpfsOptions');
      if (source === '') refuse('field Source must not be empty');
      if (mount.ImageOptions?.Subpath && !isLocal(mount.ImageOptions.Subpath)) refuse('subpath must be a relative path within the image');
      return;
    default:
      refuse('mount type unknown');
  }
}

function tmpfsText(options: TmpfsOptions | undefined, readOnly: boolean): string[] {
  const text: string[] = readOnly ? ['ro'] : [];
  if (options?.Mode) text.push(`mode=${options.Mode.toString(8)}`);
  if ((options?.SizeBytes ?? 0) < 0) throw new InvalidParameter(`invalid tmpfs size: ${options?.SizeBytes}`);
  if (options?.SizeBytes) text.push(`size=${options.SizeBytes}`);
  for (const option of options?.Options ?? []) {
    if (option.length > 2 || option.length === 0) throw new InvalidParameter(`invalid option array length: ${option.length}`);
    text.push(option.join('='));
  }
  return text;
}

function isValidMode(mode: string): boolean {
  if (mode === '') return true;
  const parts = mode.split(',');
  const kinds = [readWriteModes, labelModes, propagationModes, copyModes, consistencyModes];
  // One word of each kind at most, and no other.
  return (
    parts.every((part) => kinds.some((kind) => kind.includes(part))) &&
    kinds.every((kind) => parts.filter((part) => kind.includes(part)).length <= 1)
  );
}

function isReadWrite(mode: string): boolean {
  return !mode.split(',').some((part) => part === 'ro' || part.startsWith('ro-') || part === 'rro');
}

function isLocal(path: string): boolean {
  const clean = posix.normalize(path);
  return !path.startsWith('/') && clean !== '..' && !clean.startsWith('../');
}

/** An absolute path without `.`, `..`, doubled and trailing slashes. */
export function cleanPath(path: string): string {
  const clean = posix.normalize(path);
  return clean.length > 1 && clean.endsWith('/') ? clean.slice(0, -1) : clean;
}

function exists(path: string): boolean {
  try {
    statSync(path);
    return true;
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return false;
    throw error;
  }
}
