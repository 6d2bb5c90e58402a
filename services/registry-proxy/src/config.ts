/** The proxy's settings. Those every service has are in service-kit; mirrors and insecure registries are in FLOTILLA_ENGINE_OPTIONS. */
import { address, type EngineOptions, serviceSettings } from '@flotilla/service-kit';
import { z } from 'zod';
import type { TransportSettings } from './upstream/transport.ts';

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
  /** Where registries are that are not at their own name: `docker.io=http://10.0.0.2:5000`, separated by commas. */
  FLOTILLA_REGISTRY_UPSTREAMS: z
    .string()
    .default('')
    .transform((text, context) => {
      const upstreams: Record<string, string> = {};
      for (const pair of text.split(',').filter((each) => each !== '')) {
        const [, name, url] = /^([A-Za-z0-9.:[\]-]{1,255})=(https?:\/\/[^\s,]{1,1000})$/.exec(pair) ?? [];
        if (name === undefined || url === undefined || !URL.canParse(url)) {
          context.addIssue({ code: 'custom', message: `must be NAME=URL, not "${pair.slice(0, 100)}"` });
          return z.NEVER;
        }
        upstreams[name] = url;
      }
      return upstreams;
    }),
  /** Where certificates of registries are looked for as dockerd does: `<folder>/HOST:PORT/{*.crt,*.cert,*.key}`. Empty: nowhere. */
  FLOTILLA_REGISTRY_CERTIFICATES: z.string().default('/etc/docker/certs.d'),
  /** `1`: no upstream is asked for anything; what is held is served. */
  FLOTILLA_REGISTRY_OFFLINE: z
    .enum(['', '0', '1'])
    .default('')
    .transform((text) => text === '1'),
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
  /** Milliseconds for which an upstream that lied is not asked again; doubled for each further lie, up to an hour. Default one minute. */
  FLOTILLA_REGISTRY_QUARANTINE_MS: count(60_000, 1_000),
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

/** What a proxy without a stack needs beside its own settings: no bus, no engine. */
export const standaloneSettings = z.object({
  ...registryProxySettings.shape,
  FLOTILLA_ENGINE_ID: z.string().default('registry'),
  FLOTILLA_HTTP_ADDRESS: address,
  /**
   * Where replicas on other data roots reach this one, when they share a Redis (FLOTILLA_REDIS_URL): `host:port`. Empty: where it listens.
   */
  FLOTILLA_REGISTRY_ADVERTISE: address.or(z.literal('')).default(''),
  /** File of names and bcrypt hashes (`htpasswd -nB NAME`) of those who may use the proxy. Empty: no passwords. */
  FLOTILLA_REGISTRY_HTPASSWD: z.string().default(''),
  /** PEM files of the listener's certificate and key. Empty: plain HTTP. */
  FLOTILLA_REGISTRY_TLS_CERTIFICATE: z.string().default(''),
  FLOTILLA_REGISTRY_TLS_KEY: z.string().default(''),
  /** PEM file of the authority whose client certificates let in. Empty: none is asked for. */
  FLOTILLA_REGISTRY_TLS_CLIENT_CA: z.string().default(''),
  /** Names (of passwords or certificates) that may push, delete, prefetch and collect, separated by commas. Empty: all who may enter. */
  FLOTILLA_REGISTRY_PUSH_USERS: z
    .string()
    .default('')
    .transform((text) =>
      text
        .split(',')
        .map((each) => each.trim())
        .filter((each) => each !== ''),
    ),
});

export type StandaloneSettings = z.output<typeof standaloneSettings>;

export type RegistryProxySettings = z.output<typeof registryProxySettings>;

/** The engine's proxies as the variables that Node's agents read; either spelling of them may be in the environment. */
function proxyVariables({ httpProxy, httpsProxy, noProxy }: EngineOptions): Record<string, string> {
  const given = Object.entries({ HTTP_PROXY: httpProxy, HTTPS_PROXY: httpsProxy, NO_PROXY: noProxy }).filter(([, value]) => value !== '');
  return Object.fromEntries(given.flatMap(([name, value]) => [name, name.toLowerCase()].map((spelling) => [spelling, value])));
}

export function transportSettings(settings: RegistryProxySettings, env: NodeJS.ProcessEnv): TransportSettings {
  return {
    connectTimeoutMs: settings.FLOTILLA_REGISTRY_CONNECT_TIMEOUT_MS,
    headersTimeoutMs: settings.FLOTILLA_REGISTRY_HEADERS_TIMEOUT_MS,
    bodyIdleTimeoutMs: settings.FLOTILLA_REGISTRY_BODY_TIMEOUT_MS,
    maxConnectionsPerHost: settings.FLOTILLA_REGISTRY_CONNECTIONS_PER_HOST,
    environment: { ...env, ...proxyVariables(settings.FLOTILLA_ENGINE_OPTIONS) },
  };
}
