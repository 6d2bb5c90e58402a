/** Mounts: what a container asks for, and what it has. */
import { boolean, type Empty, empty, int64, list, map, type Shape, string, struct, uint32 } from './decode.ts';

export interface DriverConfig {
  Name?: string;
  Options?: Record<string, string>;
}
export interface BindOptions {
  Propagation?: string;
  NonRecursive?: boolean;
  CreateMountpoint?: boolean;
  ReadOnlyNonRecursive?: boolean;
  ReadOnlyForceRecursive?: boolean;
}
export interface VolumeOptions {
  NoCopy?: boolean;
  Labels?: Record<string, string>;
  Subpath?: string;
  DriverConfig?: DriverConfig;
}
export interface ImageOptions {
  Subpath?: string;
}
export interface TmpfsOptions {
  /** bytes */
  SizeBytes?: number;
  /** permission bits, decimal in JSON */
  Mode?: number;
  Options?: string[][];
}
/** A mount as a client asks for it (HostConfig.Mounts). */
export interface Mount {
  /** bind, volume, tmpfs, image, npipe or cluster */
  Type?: string;
  Source?: string;
  Target?: string;
  ReadOnly?: boolean;
  Consistency?: string;
  BindOptions?: BindOptions;
  VolumeOptions?: VolumeOptions;
  ImageOptions?: ImageOptions;
  TmpfsOptions?: TmpfsOptions;
  ClusterOptions?: Empty;
}

/** A mount as a container has it (ContainerInspect.Mounts, ContainerSummary.Mounts). */
export interface MountPoint {
  Type?: string;
  /** the volume's name; absent for binds */
  Name?: string;
  Source: string;
  Destination: string;
  Driver?: string;
  /** `z`, `Z`, `ro`… as given */
  Mode: string;
  RW: boolean;
  Propagation: string;
}

const driverConfig = struct<DriverConfig>('mount.Driver', { Name: string, Options: map(string) });

export const mount: Shape<Mount> = struct<Mount>('mount.Mount', {
  Type: string,
  Source: string,
  Target: string,
  ReadOnly: boolean,
  Consistency: string,
  BindOptions: struct<BindOptions>('mount.BindOptions', {
    Propagation: string,
    NonRecursive: boolean,
    CreateMountpoint: boolean,
    ReadOnlyNonRecursive: boolean,
    ReadOnlyForceRecursive: boolean,
  }),
  VolumeOptions: struct<VolumeOptions>('mount.VolumeOptions', {
    NoCopy: boolean,
    Labels: map(string),
    Subpath: string,
    DriverConfig: driverConfig,
  }),
  ImageOptions: struct<ImageOptions>('mount.ImageOptions', { Subpath: string }),
  TmpfsOptions: struct<TmpfsOptions>('mount.TmpfsOptions', { SizeBytes: int64, Mode: uint32, Options: list(list(string)) }),
  ClusterOptions: empty,
});
