/** What a build was asked for, decoded from its request. */
import type { HostConfig } from '@flotilla/engine-api';
import type { Platform, Reference } from '@flotilla/oci';

export interface BuildOptions {
  readonly dockerfile: string;
  readonly tags: readonly Reference[];
  readonly remote: string;
  readonly quiet: boolean;
  /** Stages, by name, that the cache is not asked for. */
  readonly noCache: 'all' | readonly string[];
  readonly cacheFrom: readonly string[];
  readonly pull: boolean;
  /** Containers of steps that succeeded go at once; with `forceRemove` those of failed ones too. */
  readonly remove: boolean;
  readonly forceRemove: boolean;
  /** Undefined for an argument that was named without a value. */
  readonly buildArgs: ReadonlyMap<string, string | undefined>;
  readonly labels: ReadonlyMap<string, string>;
  readonly target: string;
  /** Undefined when nobody asked for one. */
  readonly platform: Platform | undefined;
  /** What containers of RUN get. */
  readonly hostConfig: HostConfig;
  readonly buildId: string;
  readonly aux: boolean;
  /** Its images are in no list until somebody wants them. */
  readonly cacheOnly: boolean;
  /** Whose rules hold where the classic builder and BuildKit differ. */
  readonly manner: BuildManner;
  /** Whether steps may have the host's network, where that has to be granted. */
  readonly hostNetwork?: boolean;
  /** The host's name in steps; undefined: the container's own. */
  readonly hostname?: string;
  /** What every time that the build makes is to be: seconds, from SOURCE_DATE_EPOCH. Undefined: the clock's. */
  readonly sourceDateEpoch?: number;
}

export type BuildManner = 'classic' | 'buildkit';
