/** The proxy's settings. Those every service has are in service-kit; mirrors and insecure registries are in FLOTILLA_ENGINE_OPTIONS. */
import { serviceSettings } from '@flotilla/service-kit';
import { z } from 'zod';

const GiB = 1024 ** 3;

const count = (fallback: number, least = 1) => z.coerce.number().int().min(least).default(fallback);

export const registryProxySettings = z.object({
  ...serviceSettings,
  /** Bytes of cached blobs above which the least recently used go. Default 20 GiB. Raise it on a lab's shared proxy. */
  FLOTILLA_REGISTRY_CACHE_BYTES: count(20 * GiB, 0),
  /**
   * First components of the names of repositories that are stored in the proxy itself, separated by commas. Default `lab`. They hide
   * docker.io's repositories of such a name from those who use the proxy as a plain mirror.
   */
  FLOTILLA_REGISTRY_OWN_PREFIXES: z
    .string()
    .regex(/^(?:[a-z0-9]+(?:[_-][a-z0-9]+)*(?:,|$))*$/, 'must be names separated by commas')
    .default('lab')
    .transform((text) => text.split(',').filter((each) => each !== '')),
  /** Bytes above which one blob is refused. Default 100 GiB. */
  FLOTILLA_REGISTRY_MAX_BLOB_BYTES: count(100 * GiB),
  /**
   * Milliseconds for which a tag counts without asking the upstream. Default 0: each pull asks, by a HEAD that registries do not count, so
   * that `docker pull` right after a push sees the new image. 10,000 suits a proxy for hundreds of hosts.
   */
  FLOTILLA_REGISTRY_TAG_TTL_MS: count(0, 0),
  /** Milliseconds for which an upstream's yes to somebody's credentials is not asked for again. Default one minute. */
  FLOTILLA_REGISTRY_ACCESS_TTL_MS: count(60_000, 0),
  /** Milliseconds for which such a yes counts while the upstream is away. Default a week. */
  FLOTILLA_REGISTRY_ACCESS_GRACE_MS: count(7 * 86_400_000, 0),
  /** Blobs fetched from one registry at a time. Default 16. */
  FLOTILLA_REGISTRY_FETCHES_PER_HOST: count(16),
  /** Connections to one upstream host at a time. Default 48: above the number of fetches, so that manifests do not wait for blobs. */
  FLOTILLA_REGISTRY_CONNECTIONS_PER_HOST: count(48),
  /** Milliseconds until a connection to an upstream must stand. Default 15 s. */
  FLOTILLA_REGISTRY_CONNECT_TIMEOUT_MS: count(15_000),
  /** Milliseconds until an upstream must begin its answer. Default 30 s. */
  FLOTILLA_REGISTRY_HEADERS_TIMEOUT_MS: count(30_000),
  /** Milliseconds without a byte after which a body counts as cut and is gone on with by Range. Default 30 s. */
  FLOTILLA_REGISTRY_BODY_TIMEOUT_MS: count(30_000),
});

export type RegistryProxySettings = z.output<typeof registryProxySettings>;
