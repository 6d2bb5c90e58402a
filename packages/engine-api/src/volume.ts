/** Volumes: named, managed directories. */
import { type Empty, empty, map, type Shape, string, struct } from './decode.ts';

/** The body of VolumeCreate. */
export interface VolumeCreateRequest {
  Name?: string;
  Driver?: string;
  DriverOpts?: Record<string, string>;
  Labels?: Record<string, string>;
  ClusterVolumeSpec?: Empty;
}
export interface VolumeUsageData {
  /** bytes; -1 not known */
  Size: number;
  /** containers that use it; -1 not known */
  RefCount: number;
}
export interface Volume {
  Name: string;
  Driver: string;
  Mountpoint: string;
  /** RFC3339, in seconds */
  CreatedAt?: string;
  Status?: Record<string, unknown>;
  Labels: Record<string, string> | null;
  Scope: 'local' | 'global';
  Options: Record<string, string> | null;
  UsageData?: VolumeUsageData;
}
export interface VolumeListResponse {
  Volumes: Volume[] | null;
  Warnings: string[] | null;
}
export interface VolumesPruneReport {
  VolumesDeleted: string[] | null;
  SpaceReclaimed: number;
}

export const volumeCreateRequest: Shape<VolumeCreateRequest> = struct<VolumeCreateRequest>('volume.CreateOptions', {
  Name: string,
  Driver: string,
  DriverOpts: map(string),
  Labels: map(string),
  ClusterVolumeSpec: empty,
});
