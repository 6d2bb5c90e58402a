/**
 * Requests to registries: which endpoint, with whose authorization, how often again, and where a redirect leads. Answers are what the
 * upstream said; failures are DistributionErrors in its words or in Go's.
 */
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { version } from '@flotilla/service-kit';
import type { Credentials } from '../credentials.ts';
import { type DistributionCode, DistributionError, UpstreamAway, type UpstreamRefusal } from '../distributionError.ts';
import type { Repository } from '../route.ts';
import { type Challenge, parseChallenges } from './challenge.ts';
import { connectionOf, strangersConnection } from './connection.ts';
import { credentialsFor, type Endpoint, type Endpoints, isLocalAddress } from './endpoints.ts';
import { goErrorText, UpstreamTimeout } from './goErrors.ts';
import { refusalOf } from './refusal.ts';
import type { Standings } from './standings.ts';
import { basicAuthorization, type TokenRequest, type Tokens } from './tokens.ts';
import { discard, type Sender, type TransportRequest, type TransportResponse } from './transport.ts';

export interface UpstreamRequest {
  readonly repository: Repository;
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Below `/v2/<name>/`, with its query: `manifests/latest`. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | Readable;
  readonly credentials: Credentials;
  /** Scopes beside the repository's own: the other one of a cross-repository mount. */
  readonly extraScopes?: readonly string[];
  /** The code of a 404 without a body. */
  readonly missing: DistributionCode;
  readonly signal?: AbortSignal;
}

export interface UpstreamAnswer {
  readonly response: TransportResponse;
  readonly endpoint: Endpoint;
  /** Where the answer came from, after redirects. */
  readonly url: URL;
  /** To be called when what it sent is not what was asked for. @returns whether another endpoint may be asked for it. */
  readonly disown: (reason: string) => boolean;
}

export interface UpstreamObserver {
  onLie(host: string): void;
  onAnswer(host: string, method: string, status: number, durationMs: number, response: TransportResponse): void;
  onFailure(host: string, method: string): void;
}

type Answer = Omit<UpstreamAnswer, 'disown'>;

interface Attempt {
  readonly endpoint: Endpoint;
  readonly url: URL;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Buffer | Readable;
  readonly credentials: Credentials;
  readonly scopes: readonly string[];
  readonly missing: DistributionCode;
  readonly signal?: AbortSignal;
}

const userAgent = `flotilla/${version}`;
const maxRedirects = 10;
const retryPausesMs = [200, 500, 1200];
/** A longer Retry-After is the client's to wait for. */
const maxRetryAfterMs = 5_000;
const retriedStatuses = new Set([429, 500, 502, 503, 504]);
const quickNetworkFaults = new Set(['ECONNRESET', 'EPIPE']);

export class Upstream {
  private readonly sender: Sender;
  private readonly endpoints: Endpoints;
  private readonly tokens: Tokens;
  private readonly observer: UpstreamObserver;
  private readonly standings: Standings;
  /** What each endpoint wants to see, once it has said so; spares the 401 of every first request. */
  private readonly challenges = new Map<string, readonly Challenge[]>();

  constructor(parts: { sender: Sender; endpoints: Endpoints; tokens: Tokens; observer: UpstreamObserver; standings: Standings }) {
    this.sender = parts.sender;
    this.endpoints = parts.endpoints;
    this.tokens = parts.tokens;
    this.observer = parts.observer;
    this.standings = parts.standings;
  }

  /**
   * Sends a request to the first endpoint of its registry that answers it.
   *
   * @returns a 2xx answer, its body still to be read.
   * @throws UpstreamRefusal for any other status; UpstreamAway when no endpoint could be reached.
   */
  async request(request: UpstreamRequest): Promise<UpstreamAnswer> {
    const writes = request.method !== 'GET' && request.method !== 'HEAD';
    const endpoints = await this.endpoints.of(request.repository.registry, writes ? 'push' : 'pull');
    const scopes = [...scopesOf(request, writes), ...(request.extraScopes ?? [])].sort();
    let failure: unknown;
    for (const endpoint of endpoints) {
      try {
        const credentials = credentialsFor(endpoint, request.credentials);
        if (!writes) this.standings.assertMayAsk(endpoint, request.repository.name, credentials);
        const answer = await this.attempt({
          endpoint,
          url: new URL(`${endpoint.base}/v2/${request.repository.name}/${request.path}`),
          method: request.method,
          headers: request.headers ?? {},
          ...(request.body === undefined ? {} : { body: request.body }),
          credentials,
          scopes,
          missing: request.missing,
          ...(request.signal === undefined ? {} : { signal: request.signal }),
        });
        this.endpoints.confirm(endpoint);
        return { ...answer, disown: (reason) => this.disown(endpoint, request.repository.name, reason) };
      } catch (error) {
        request.signal?.throwIfAborted();
        failure = error;
        // An answer, of whatever kind, settles it; a mirror's no is only a mirror's.
        if (!endpoint.mirror && !(error instanceof UpstreamAway)) {
          this.endpoints.confirm(endpoint);
          throw error;
        }
        this.endpoints.forget(endpoint);
      }
    }
    throw failure;
  }

  /**
   * Sends a request to a URL that the upstream gave earlier (an upload's Location). The body may be a stream: it is sent once, so the
   * authorization is fetched before.
   */
  async requestAt(url: URL, from: Endpoint, request: Omit<UpstreamRequest, 'path'>): Promise<UpstreamAnswer> {
    const current = await this.endpoints.of(request.repository.registry, 'push');
    const endpoint = current.find(({ base }) => base === from.base) ?? from;
    const attempt: Attempt = {
      endpoint,
      url,
      method: request.method,
      headers: request.headers ?? {},
      ...(request.body === undefined ? {} : { body: request.body }),
      credentials: credentialsFor(endpoint, request.credentials),
      scopes: [...scopesOf(request, true)].sort(),
      missing: request.missing,
      ...(request.signal === undefined ? {} : { signal: request.signal }),
    };
    if (request.body !== undefined) await this.learnChallenge(attempt);
    return { ...(await this.attempt(attempt)), disown: () => false };
  }

  private disown(endpoint: Endpoint, repository: string, reason: string): boolean {
    this.standings.lied(endpoint, repository, reason);
    this.observer.onLie(endpoint.host);
    return endpoint.mirror;
  }

  /** A request to `/v2/` says what the endpoint wants, before a body is sent that cannot be sent twice. */
  private async learnChallenge(attempt: Attempt): Promise<void> {
    if (this.challenges.has(attempt.endpoint.base)) return;
    const { body: _, ...rest } = attempt;
    const response = await this.sendOnce({ ...rest, method: 'GET', url: new URL(`${attempt.endpoint.base}/v2/`), headers: {} }, undefined);
    discard(response);
    this.challenges.set(attempt.endpoint.base, response.statusCode === 401 ? parseChallenges(challengeHeader(response)) : []);
  }

  /** One endpoint: repeated while the upstream says that it is busy or ill, if repeating is harmless. */
  private async attempt(attempt: Attempt): Promise<Answer> {
    const repeatable = attempt.body === undefined && (attempt.method === 'GET' || attempt.method === 'HEAD');
    for (let round = 0; ; round++) {
      const pauseMs = repeatable ? retryPausesMs[round] : undefined;
      try {
        const answer = await this.authorized(attempt);
        const { response } = answer;
        if (response.statusCode >= 200 && response.statusCode < 300) return answer;
        const waitMs = retryAfterMs(response.headers['retry-after']) ?? pauseMs;
        if (!retriedStatuses.has(response.statusCode) || pauseMs === undefined || waitMs === undefined || waitMs > maxRetryAfterMs) {
          throw await this.refusal(response, attempt, waitMs);
        }
        discard(response);
        await this.pause(waitMs, attempt);
      } catch (error) {
        if (!isQuickFault(error) || pauseMs === undefined) throw error;
        await this.pause(pauseMs, attempt);
      }
    }
  }

  /** One that says for how long it wants to be left alone is. */
  private async refusal(response: TransportResponse, attempt: Attempt, waitMs: number | undefined): Promise<UpstreamRefusal> {
    const refusal = await refusalOf(response, attempt.missing);
    if (waitMs !== undefined && waitMs > maxRetryAfterMs && (refusal.status === 429 || refusal.status === 503)) {
      this.standings.holdOff(attempt.endpoint, attempt.credentials, refusal, waitMs);
    }
    return refusal;
  }

  private async pause(waitMs: number, attempt: Attempt): Promise<void> {
    await sleep(waitMs * (0.8 + Math.random() * 0.4), undefined, attempt.signal === undefined ? {} : { signal: attempt.signal });
  }

  /** Sends with what authorization is known to be wanted, learns from a 401, and sends once more. */
  private async authorized(attempt: Attempt): Promise<Answer> {
    const known = this.challenges.get(attempt.endpoint.base);
    const first = known === undefined ? undefined : await this.authorizationFor(attempt, known, attempt.scopes);
    const isStream = attempt.body !== undefined && !Buffer.isBuffer(attempt.body);
    // Another repository there may be open to everybody; but a stream can be sent only once.
    if (first === undefined && isStream && known !== undefined) assertAuthorized(attempt, known);
    const answer = await this.followed(attempt, first?.header);
    const { response } = answer;
    if (response.statusCode !== 401 || answer.url.origin !== attempt.url.origin) return answer;
    const challenges = parseChallenges(challengeHeader(response));
    if (challenges.length === 0) return answer;
    this.challenges.set(attempt.endpoint.base, challenges);
    if (first?.request !== undefined) this.tokens.forget(first.request);
    // A stream has been sent already, in part or whole.
    if (isStream) return answer;
    const second = await this.authorizationFor(attempt, challenges, unionOfScopes(attempt.scopes, challenges));
    if (second === undefined) assertAuthorized(attempt, challenges);
    if (second === undefined || second.header === first?.header) return answer;
    discard(response);
    return this.followed(attempt, second.header);
  }

  /** The header for the best challenge we can meet; undefined when none is wanted, or none can be met. */
  private async authorizationFor(
    attempt: Attempt,
    challenges: readonly Challenge[],
    scopes: readonly string[],
  ): Promise<{ header: string; request?: TokenRequest } | undefined> {
    const { credentials, endpoint } = attempt;
    if (challenges.length === 0) return undefined;
    if (credentials.kind === 'registryToken') return { header: `Bearer ${credentials.token}` };
    const bearer = challenges.find((challenge) => challenge.scheme === 'bearer');
    if (bearer !== undefined) {
      const request = { endpoint, challenge: bearer, scopes, credentials };
      return { header: `Bearer ${await this.tokens.bearer(request)}`, request };
    }
    if (credentials.kind !== 'password' || !wantsBasic(challenges)) return undefined;
    return { header: basicAuthorization(credentials.username, credentials.password) };
  }

  /** Follows redirects of reads. The authorization goes to the origin it is for and to no other. */
  private async followed(attempt: Attempt, authorization: string | undefined): Promise<Answer> {
    let url = attempt.url;
    for (let hop = 0; ; hop++) {
      const own = url.origin === attempt.url.origin;
      const response = await this.sendOnce({ ...attempt, url }, own ? authorization : undefined);
      const { location } = response.headers;
      const reads = attempt.method === 'GET' || attempt.method === 'HEAD';
      if (!reads || location === undefined || ![301, 302, 303, 307, 308].includes(response.statusCode)) {
        return { response, endpoint: attempt.endpoint, url };
      }
      discard(response);
      if (hop >= maxRedirects) throw new UpstreamAway(`Get "${attempt.url}": stopped after ${maxRedirects} redirects`, { status: 502 });
      url = redirectTarget(location, url);
    }
  }

  private async sendOnce(attempt: Attempt, authorization: string | undefined): Promise<TransportResponse> {
    const { endpoint, url } = attempt;
    const request: TransportRequest = {
      method: attempt.method,
      url,
      headers: {
        'user-agent': userAgent,
        ...attempt.headers,
        ...(Buffer.isBuffer(attempt.body) ? { 'content-length': String(attempt.body.length) } : {}),
        ...(authorization === undefined ? {} : { authorization }),
      },
      ...(url.host === endpoint.host ? connectionOf(endpoint) : strangersConnection(endpoint)),
      ...(attempt.body === undefined ? {} : { body: attempt.body }),
      ...(attempt.signal === undefined ? {} : { signal: attempt.signal }),
    };
    const startedAt = performance.now();
    try {
      const response = await this.sender.send(request);
      if (url.host === endpoint.host) this.standings.onAnswer(endpoint, response.headers);
      this.observer.onAnswer(url.host, attempt.method, response.statusCode, performance.now() - startedAt, response);
      return response;
    } catch (error) {
      attempt.signal?.throwIfAborted();
      this.observer.onFailure(url.host, attempt.method);
      // dockerd asks for /v2/ before anything else, so that is the URL its users know from such a message.
      const asked = url.origin === attempt.url.origin ? `${endpoint.base}/v2/` : `${url.origin}${url.pathname}`;
      throw new UpstreamAway(`Get "${asked}": ${goErrorText(error, url.host)}`, {
        status: error instanceof UpstreamTimeout ? 504 : 502,
        cause: error,
      });
    }
  }
}

function wantsBasic(challenges: readonly Challenge[]): boolean {
  return challenges.some((challenge) => challenge.scheme === 'basic');
}

function assertAuthorized(attempt: Attempt, challenges: readonly Challenge[]): void {
  if (!wantsBasic(challenges)) return;
  throw new DistributionError('UNAUTHORIZED', `${goMethod(attempt.method)} "${attempt.url}": no basic auth credentials`);
}

function challengeHeader(response: TransportResponse): string | undefined {
  return response.headersDistinct['www-authenticate']?.join(', ');
}

function scopesOf(request: Pick<UpstreamRequest, 'repository' | 'method'>, writes: boolean): string[] {
  const actions = request.method === 'DELETE' ? 'delete,pull,push' : writes ? 'pull,push' : 'pull';
  return [`repository:${request.repository.name}:${actions}`];
}

/** Our own scopes and the challenge's; GitLab and others name more than the repository. */
function unionOfScopes(own: readonly string[], challenges: readonly Challenge[]): string[] {
  const asked = challenges.find((challenge) => challenge.scheme === 'bearer')?.parameters.scope ?? '';
  // A scope of the same repository is contained in ours already, and asking twice confuses some token servers.
  const resources = new Set(own.map((scope) => scope.slice(0, scope.lastIndexOf(':'))));
  const more = asked.split(' ').filter((scope) => scope !== '' && !resources.has(scope.slice(0, scope.lastIndexOf(':'))));
  return [...own, ...more].sort();
}

/** Where a redirect leads. Never from outside to this machine's own addresses, and never from TLS to plain text on one host. */
function redirectTarget(location: string, from: URL): URL {
  let url: URL;
  try {
    url = new URL(location, from);
  } catch (cause) {
    throw new UpstreamAway(`Get "${from}": failed to parse Location header`, { status: 502, cause });
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    throw new UpstreamAway(`Get "${from}": unsupported protocol scheme "${url.protocol.slice(0, -1)}"`, { status: 502 });
  }
  if (isLocalAddress(url.hostname) && !isLocalAddress(from.hostname)) {
    throw new UpstreamAway(`Get "${from}": refusing a redirect to ${url.host}`, { status: 502 });
  }
  if (from.protocol === 'https:' && url.protocol === 'http:' && url.hostname === from.hostname) url.protocol = 'https:';
  return url;
}

function isQuickFault(error: unknown): boolean {
  const cause = error instanceof UpstreamAway ? error.cause : undefined;
  return cause instanceof Error && quickNetworkFaults.has((cause as NodeJS.ErrnoException).code ?? '');
}

/** Retry-After in milliseconds: seconds, or a date. */
export function retryAfterMs(header: string | undefined): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d{1,9}$/.test(header)) return Number(header) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}

function goMethod(method: string): string {
  return method.charAt(0) + method.slice(1).toLowerCase();
}
