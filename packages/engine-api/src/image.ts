/** Images: what list, inspect, history and remove answer, and the progress lines of pull, push, load and build. */

import type { Empty } from './decode.ts';
import type { HealthConfig } from './healthcheck.ts';

export interface Platform {
  architecture: string;
  os: string;
  'os.version'?: string;
  'os.features'?: string[];
  variant?: string;
}
export interface Descriptor {
  mediaType: string;
  digest: string;
  /** bytes */
  size: number;
  urls?: string[];
  annotations?: Record<string, string>;
  data?: string;
  platform?: Platform;
  artifactType?: string;
}

export interface ImageSummary {
  Id: string;
  ParentId: string;
  RepoTags: string[];
  RepoDigests: string[];
  /** unix seconds */
  Created: number;
  /** bytes */
  Size: number;
  /** bytes; -1 not asked for */
  SharedSize: number;
  Labels: Record<string, string> | null;
  /** containers that use it; -1 not asked for */
  Containers: number;
  Manifests?: unknown[];
  Descriptor?: Descriptor;
}

/** Config of ImageInspect: the part of the image's configuration that a container takes over. */
export interface ImageConfig {
  User?: string;
  ExposedPorts?: Record<string, Empty>;
  Env?: string[];
  Entrypoint?: string[];
  Cmd?: string[];
  Volumes?: Record<string, Empty>;
  WorkingDir?: string;
  Labels?: Record<string, string> | null;
  StopSignal?: string;
  ArgsEscaped?: boolean;
  Healthcheck?: HealthConfig;
  OnBuild?: string[];
  Shell?: string[];
}

export interface ImageInspect {
  Id: string;
  RepoTags: string[];
  RepoDigests: string[];
  Parent: string;
  Comment: string;
  /** RFC3339Nano; absent when the image does not say */
  Created?: string;
  DockerVersion: string;
  Author: string;
  Config: ImageConfig | null;
  Architecture: string;
  Variant?: string;
  Os: string;
  OsVersion?: string;
  /** bytes */
  Size: number;
  VirtualSize?: number;
  GraphDriver: { Name: string; Data: Record<string, string> | null };
  RootFS: { Type: string; Layers?: string[] };
  Metadata: { LastTagTime?: string };
  Descriptor?: Descriptor;
  Manifests?: unknown[];
}

export interface ImageHistoryItem {
  /** an image's id or `<missing>` */
  Id: string;
  /** unix seconds */
  Created: number;
  CreatedBy: string;
  Tags: string[] | null;
  /** bytes */
  Size: number;
  Comment: string;
}
export interface ImageDeleteItem {
  Untagged?: string;
  Deleted?: string;
}
export interface ImagesPruneReport {
  ImagesDeleted: ImageDeleteItem[] | null;
  SpaceReclaimed: number;
}

/** One line of the answer of pull, push, load, import and build. */
export interface ProgressMessage {
  stream?: string;
  status?: string;
  id?: string;
  progressDetail?: { current?: number; total?: number; hidecounts?: boolean; units?: string };
  /** the bar as text, for older clients */
  progress?: string;
  error?: string;
  errorDetail?: { code?: number; message: string };
  aux?: unknown;
}

export interface SearchResult {
  star_count: number;
  is_official: boolean;
  name: string;
  is_automated: boolean;
  description: string;
}
