/** What operators and other stacks may ask of a proxy besides distribution. */
import type { AuthConfig, RegistryServiceConfig, SearchResult } from '@flotilla/engine-api';
import type { LoginResult } from './login.ts';
import type { Collector } from './own/collector.ts';
import type { Pins } from './pins.ts';
import type { Prefetch } from './prefetch.ts';
import type { SearchRequest } from './search.ts';

/** Log-ins, searches and settings: a proxy's own, or a lab's proxy asked over HTTP. */
export interface Registries {
  readonly login: { check(config: AuthConfig, signal: AbortSignal): Promise<LoginResult> };
  readonly search: { find(request: SearchRequest, signal: AbortSignal): Promise<SearchResult[]> };
  info(): Promise<RegistryServiceConfig>;
}

export interface Operations extends Registries {
  readonly prefetch: Prefetch;
  readonly pins: Pins;
  readonly collector: Collector;
}
