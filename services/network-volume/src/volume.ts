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

export function volumeDocument(volume: VolumeRecord, mountpoint: string, usage?: { sizeBytes: number }): Volume {
  return {
    CreatedAt: volume.createdAt,
    Driver: volume.driver,
    Labels: Object.keys(volume.labels).length === 0 ? null : { ...volume.labels },
    Mountpoint: mountpoint,
    Name: volume.name,
    Options: Object.keys(volume.options).length === 0 ? null : { ...volume.options },
    Scope: 'local',
    ...(usage === undefined ? {} : { UsageData: { RefCount: volume.users.length, Size: usage.sizeBytes } }),
  };
}
