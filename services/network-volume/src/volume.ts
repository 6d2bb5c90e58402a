/** A volume: its record, the rules for its name and options, and how the Engine API shows it. */
import type { Volume } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';

export interface VolumeRecord {
  readonly name: string;
  readonly driver: string;
  readonly options: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
  /** RFC 3339, seconds. */
  readonly createdAt: string;
  readonly anonymous: boolean;
  /** Ids of containers that hold it against removal. */
  readonly users: readonly string[];
  /** Of those, the ones whose processes have it mounted. */
  readonly mounts: readonly string[];
}

/** What a driver says of one of its volumes. */
export interface VolumeState {
  /** Where its content is; empty while a plugin has it nowhere. */
  readonly mountpoint: string;
  readonly createdAt?: string;
  readonly status?: Readonly<Record<string, unknown>>;
}

/** A volume that a plugin tells of. */
export interface PluginVolume {
  readonly driver: string;
  readonly scope: 'local' | 'global';
  readonly name: string;
  readonly state: VolumeState;
}

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;
export const anonymousLabel = 'com.docker.volume.anonymous';

/** A name becomes a folder: nothing else is let through. @throws InvalidParameter in dockerd's words. */
export function checkVolumeName(name: string): void {
  if (name.length === 1) throw new InvalidParameter('volume name is too short, names should be at least two alphanumeric characters');
  if (!namePattern.test(name)) {
    throw new InvalidParameter(
      `create ${name}: "${name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
    );
  }
  if (name.length > 255) throw new InvalidParameter(`create ${name.slice(0, 32)}…: volume name is too long`);
}

export interface VolumeMount {
  readonly type: string;
  readonly device: string;
  readonly options: string;
}

const knownOptions = ['type', 'o', 'device', 'size'];
const requiredBeside: readonly (readonly [string, readonly string[]])[] = [
  ['device', ['type']],
  ['type', ['device']],
  ['o', ['device', 'type']],
];

/** @throws InvalidParameter in dockerd's words. */
export function checkVolumeOptions(options: Readonly<Record<string, string>>): void {
  for (const name of Object.keys(options)) {
    if (!knownOptions.includes(name)) throw new InvalidParameter(`invalid option: "${name}"`);
  }
  if (options.size !== undefined) throw new InvalidParameter('quota size requested but no quota support');
  for (const [name, needed] of requiredBeside) {
    if (options[name] === undefined) continue;
    for (const other of needed) {
      if (options[other] === undefined) throw new InvalidParameter(`missing required option: "${other}"`);
    }
  }
}

/** What has to be mounted on the volume's directory; undefined for a plain one. */
export function volumeMount(volume: VolumeRecord): VolumeMount | undefined {
  const { type, device, o } = volume.options;
  return type === undefined || device === undefined ? undefined : { type, device, options: o ?? '' };
}

export function volumeDocument(volume: VolumeRecord, scope: Volume['Scope'], state: VolumeState): Volume {
  return {
    CreatedAt: state.createdAt ?? volume.createdAt,
    Driver: volume.driver,
    Labels: Object.keys(volume.labels).length === 0 ? null : { ...volume.labels },
    Mountpoint: state.mountpoint,
    Name: volume.name,
    Options: Object.keys(volume.options).length === 0 ? null : { ...volume.options },
    Scope: scope,
    ...(state.status === undefined ? {} : { Status: { ...state.status } }),
  };
}

/** A volume that a plugin has and we have not made. */
export function foreignDocument({ name, driver, scope, state }: PluginVolume): Volume {
  return {
    ...(state.createdAt === undefined ? {} : { CreatedAt: state.createdAt }),
    Driver: driver,
    Labels: null,
    Mountpoint: state.mountpoint,
    Name: name,
    Options: null,
    Scope: scope,
    ...(state.status === undefined ? {} : { Status: { ...state.status } }),
  };
}
