/** What operators and other stacks may ask of a proxy besides distribution. */
import type { AuthConfig, RegistryServiceConfig, SearchResult } from '@flotilla/engine-api';
import type { LoginResult } from './login.ts';
import type { Collector } from './own/collector.ts';
import type { Pins } from './pins.ts';
import type { Prefetch } from './prefetch.ts';
import type { SearchRequest } from './search.ts';
import type { UpstreamReport } from './upstream/standings.ts';

/** Log-ins, searches and settings: a proxy's own, or a lab's proxy asked over HTTP. */
export interface Registries {
  readonly login: { check(config: AuthConfig, signal: AbortSignal): Promise<LoginResult> };
  readonly search: { find(request: SearchRequest, signal: AbortSignal): Promise<SearchResult[]> };
  info(): Promise<RegistryServiceConfig>;
}

/** How a proxy is, for operators. */
export interface Status {
  readonly version: string;
  /** Those of which there is something to tell. */
  readonly upstreams: readonly UpstreamReport[];
  readonly cache: { readonly bytes: number; readonly maxBytes: number; readonly blobs: number; readonly evictions: number };
  /** Blobs being fetched. */
  readonly fills: number;
  /** Alive, on data roots of their own, this one among them. */
  readonly replicas: number;
  readonly offline: boolean;
}

export interface Operations extends Registries {
  status(): Status;
  readonly prefetch: Prefetch;
  readonly pins: Pins;
  readonly collector: Pick<Collector, 'collect'>;
}
