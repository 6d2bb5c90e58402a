/**
 * What is known of each upstream besides its answers: which lied and is in quarantine, which asked to be left alone and until when, and what is
 * left of its rate limit. A mirror that lied is left out as a whole, for others stand behind it; of a registry itself only the repository it
 * lied about, for nobody else has the rest.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { type Credentials, credentialsKey } from '../credentials.ts';
import { DistributionError, UpstreamRefusal } from '../distributionError.ts';
import type { Endpoint } from './endpoints.ts';

export interface RateLimit {
  /** Pulls in a window, and what is left of them. */
  readonly limit: number | undefined;
  readonly remaining: number;
  readonly windowSeconds: number | undefined;
}

/** One upstream, as operators see it. */
export interface UpstreamReport {
  /** `https://registry-1.docker.io` */
  readonly url: string;
  readonly rateLimit?: RateLimit;
  /** RFC 3339: until then it is asked for nothing, as it wished. */
  readonly heldOffUntil?: string;
  /** What it lied about. */
  readonly quarantine?: readonly { readonly repository: string; readonly reason: string; readonly until: string }[];
}

interface Quarantine {
  readonly endpoint: Endpoint;
  readonly repository: string;
  readonly reason: string;
  readonly lies: number;
  readonly until: number;
}

interface HoldOff {
  readonly endpoint: Endpoint;
  readonly refusal: UpstreamRefusal;
  readonly until: number;
}

export interface StandingsSettings {
  /** Milliseconds in quarantine for the first lie; doubled for each that follows. */
  readonly quarantineMs: number;
}

const maxQuarantineMs = 3_600_000;
const maxHoldOffMs = 3_600_000;
const maxKnown = 1_000;

export class Standings {
  private readonly settings: StandingsSettings;
  private readonly secret: Buffer;
  private readonly quarantines = new Map<string, Quarantine>();
  private readonly holdOffs = new Map<string, HoldOff>();
  private readonly rateLimits = new Map<string, RateLimit>();

  constructor(settings: StandingsSettings, secret: Buffer) {
    this.settings = settings;
    this.secret = secret;
  }

  /** It sent what it should not have. */
  lied(endpoint: Endpoint, repository: string, reason: string): void {
    const key = quarantineKey(endpoint, repository);
    const lies = (this.quarantines.get(key)?.lies ?? 0) + 1;
    const lasts = Math.min(this.settings.quarantineMs * 2 ** (lies - 1), maxQuarantineMs);
    remember(this.quarantines, key, { endpoint, repository, reason, lies, until: Date.now() + lasts });
  }

  /** It asked to be left alone by whoever has these credentials. */
  holdOff(endpoint: Endpoint, credentials: Credentials, refusal: UpstreamRefusal, waitMs: number): void {
    const until = Date.now() + Math.min(waitMs, maxHoldOffMs);
    remember(this.holdOffs, this.holdOffKey(endpoint, credentials), { endpoint, refusal, until });
  }

  private holdOffKey(endpoint: Endpoint, credentials: Credentials): string {
    return `${endpoint.base} ${credentialsKey(credentials, this.secret)}`;
  }

  /** @throws DistributionError when it is not to be asked now: in its own words of before, or saying that it lied. */
  assertMayAsk(endpoint: Endpoint, repository: string, credentials: Credentials): void {
    const quarantine = this.quarantines.get(quarantineKey(endpoint, repository));
    if (quarantine !== undefined && quarantine.until > Date.now()) {
      const until = timeText(quarantine.until);
      throw new DistributionError('DIGEST_INVALID', `${endpoint.base} is in quarantine until ${until}: ${quarantine.reason}`, {
        status: 502,
        headers: { 'retry-after': secondsTo(quarantine.until) },
      });
    }
    const holdOff = this.holdOffs.get(this.holdOffKey(endpoint, credentials));
    if (holdOff === undefined || holdOff.until <= Date.now()) return;
    const { status, items, headers } = holdOff.refusal;
    const [first, ...more] = items;
    if (first === undefined) return;
    throw new UpstreamRefusal(status, [first, ...more], { ...headers, 'retry-after': secondsTo(holdOff.until) });
  }

  onAnswer(endpoint: Endpoint, headers: IncomingHttpHeaders): void {
    const rateLimit = rateLimitOf(headers);
    if (rateLimit !== undefined) remember(this.rateLimits, endpoint.base, rateLimit);
  }

  get quarantined(): number {
    return [...this.quarantines.values()].filter(({ until }) => until > Date.now()).length;
  }

  /** Upstreams of which there is something to tell. */
  report(): UpstreamReport[] {
    const now = Date.now();
    const quarantines = [...this.quarantines.values()].filter(({ until }) => until > now);
    const holdOffs = [...this.holdOffs.values()].filter(({ until }) => until > now);
    const bases = new Set([...this.rateLimits.keys(), ...[...quarantines, ...holdOffs].map(({ endpoint }) => endpoint.base)]);
    return [...bases].sort().map((base) => {
      const rateLimit = this.rateLimits.get(base);
      const held = Math.max(0, ...holdOffs.filter(({ endpoint }) => endpoint.base === base).map(({ until }) => until));
      const lies = quarantines.filter(({ endpoint }) => endpoint.base === base);
      return {
        url: base,
        ...(rateLimit === undefined ? {} : { rateLimit }),
        ...(held === 0 ? {} : { heldOffUntil: timeText(held) }),
        ...(lies.length === 0
          ? {}
          : { quarantine: lies.map(({ repository, reason, until }) => ({ repository, reason, until: timeText(until) })) }),
      };
    });
  }
}

function quarantineKey(endpoint: Endpoint, repository: string): string {
  return endpoint.mirror ? endpoint.base : `${endpoint.base} ${repository}`;
}

/** The newest go last, and the oldest when there are too many. */
function remember<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  map.set(key, value);
  const [oldest] = map.keys();
  if (map.size > maxKnown && oldest !== undefined) map.delete(oldest);
}

/** Reads `RateLimit-Limit: 100;w=21600` and `RateLimit-Remaining`. */
export function rateLimitOf(headers: IncomingHttpHeaders): RateLimit | undefined {
  const remaining = rate(headers['ratelimit-remaining']);
  if (remaining === undefined) return undefined;
  const limit = rate(headers['ratelimit-limit']);
  return { limit: limit?.count, remaining: remaining.count, windowSeconds: remaining.windowSeconds ?? limit?.windowSeconds };
}

function rate(header: string | string[] | undefined): { count: number; windowSeconds: number | undefined } | undefined {
  const [, count, window] = /^(\d{1,9})(?:;w=(\d{1,9}))?/.exec(String(header ?? '')) ?? [];
  if (count === undefined) return undefined;
  return { count: Number(count), windowSeconds: window === undefined ? undefined : Number(window) };
}

function secondsTo(until: number): string {
  return String(Math.max(1, Math.ceil((until - Date.now()) / 1000)));
}

function timeText(at: number): string {
  return new Date(at).toISOString();
}
