/** Settings: read once in a service's `main.ts` from the environment, checked by one schema, passed on as values. */
import { InvalidParameter } from '@flotilla/errors';
import { z } from 'zod';
import { engineOptions } from './engineOptions.ts';

/** JSON in an environment variable, checked by `schema`. */
function jsonText<S extends z.ZodType>(schema: S) {
  return z
    .string()
    .transform((text, context) => {
      try {
        return JSON.parse(text) as unknown;
      } catch {
        context.addIssue({ code: 'custom', message: 'is not JSON' });
        return z.NEVER;
      }
    })
    .pipe(schema);
}

const tlsMaterial = z.strictObject({ ca: z.string().optional(), cert: z.string().optional(), key: z.string().optional() });

/** A service's own address: `unix:/absolute/path` or `host:port`. */
export const address = z.string().regex(/^(unix:\/.+|[^:]+:\d+|\[[^\]]+\]:\d+)$/, 'must be unix:/path or host:port');

/** What every service needs to know; a service's schema spreads these and adds its own. */
export const serviceSettings = {
  /** Where records, images and volumes are kept. Default as dockerd's /var/lib/docker. */
  FLOTILLA_DATA_ROOT: z.string().startsWith('/').default('/var/lib/flotilla'),
  /** Where sockets, bundles and namespaces are: gone after a reboot. */
  FLOTILLA_EXEC_ROOT: z.string().startsWith('/').default('/run/flotilla'),
  /** The stack's UUID, in every Redis key and NATS subject, so that stacks that share them do not meet. */
  FLOTILLA_ENGINE_ID: z.string().regex(/^[A-Za-z0-9-]{1,64}$/),
  /** Unique among the instances of a service, new at each start. */
  FLOTILLA_INSTANCE: z
    .string()
    .regex(/^[A-Za-z0-9-]{1,32}$/)
    .default(() => crypto.randomUUID().slice(0, 8)),
  /** As packages/records/src/redisUrl.ts has them; empty for a service that keeps no records. */
  FLOTILLA_REDIS_URL: z.string().default(''),
  FLOTILLA_REDIS_USER: z.string().default(''),
  FLOTILLA_REDIS_PASSWORD: z.string().default(''),
  /** `{"ca": …, "cert": …, "key": …}`, PEM each: what `rediss…` goes by beyond public authorities. */
  FLOTILLA_REDIS_TLS: jsonText(tlsMaterial).default({}),
  /** `nats://host:port,…`, or `tls://…`; several are a cluster's. */
  FLOTILLA_NATS_URL: z.string().default('nats://127.0.0.1:4222'),
  FLOTILLA_NATS_USER: z.string().default(''),
  FLOTILLA_NATS_PASSWORD: z.string().default(''),
  /** What a credentials file or an nkey's seed file holds; user and password then mean nothing. */
  FLOTILLA_NATS_CREDENTIALS: z.string().default(''),
  FLOTILLA_NATS_TLS: jsonText(tlsMaterial).default({}),
  /** Where the gRPC server listens; empty: none. */
  FLOTILLA_GRPC_ADDRESS: address.or(z.literal('')).default(''),
  /** Where tickets are dialled (packages/streams); empty: the service issues none. */
  FLOTILLA_STREAM_ADDRESS: address.or(z.literal('')).default(''),
  /** Where the HTTP server listens (registry-proxy); empty: none. */
  FLOTILLA_HTTP_ADDRESS: address.or(z.literal('')).default(''),
  FLOTILLA_LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
  /** Where spans go, by OTLP/HTTP in JSON (`/v1/traces` is added); empty: nowhere. */
  OTEL_EXPORTER_OTLP_ENDPOINT: z
    .url({ protocol: /^https?$/ })
    .or(z.literal(''))
    .default(''),
  /** The same, whole; it goes before. */
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: z
    .url({ protocol: /^https?$/ })
    .or(z.literal(''))
    .default(''),
  /** `key=value,…` that the collector wants to see with them. */
  OTEL_EXPORTER_OTLP_HEADERS: z.string().default(''),
  /** The operator's flags and daemon.json, as JSON. */
  FLOTILLA_ENGINE_OPTIONS: jsonText(engineOptions).default(() => engineOptions.parse({})),
};

export type ServiceSettings = { [K in keyof typeof serviceSettings]: z.output<(typeof serviceSettings)[K]> };

/**
 * Reads settings from the environment.
 *
 * @throws InvalidParameter that names every mistake, not only the first.
 */
export function readConfig<S extends z.ZodType>(schema: S, env: NodeJS.ProcessEnv = process.env): z.output<S> {
  const result = schema.safeParse(env);
  if (result.success) return result.data;
  const mistakes = result.error.issues.map((issue) => `${issue.path.join('.') || 'settings'}: ${issue.message}`);
  throw new InvalidParameter(`invalid settings:\n  ${mistakes.join('\n  ')}`);
}
