/**
 * The header Authorization that an upstream wants: Bearer tokens from its token server, or Basic. Tokens are kept in memory until shortly
 * before they expire, each for its own credentials and scopes.
 *
 * @see https://distribution.github.io/distribution/spec/auth/token/ and /spec/auth/oauth/
 */
import { errorMessage } from '@flotilla/errors';
import { type Credentials, credentialsKey } from '../credentials.ts';
import { DistributionError, UpstreamAway } from '../distributionError.ts';
import type { Challenge } from './challenge.ts';
import { connectionOf } from './connection.ts';
import { type Endpoint, isLocalAddress } from './endpoints.ts';
import { goErrorText, UpstreamTimeout } from './goErrors.ts';
import { refusalOf } from './refusal.ts';
import { readBody, type Sender } from './transport.ts';

export interface Grant {
  /** For the header Authorization; without the scheme. */
  readonly token: string;
  /** milliseconds since the epoch. */
  readonly expiresAt: number;
  /** An identity token, when one was asked for and given. */
  readonly refreshToken?: string;
}

export interface TokenRequest {
  readonly endpoint: Endpoint;
  readonly challenge: Challenge;
  /** `repository:library/busybox:pull`; sorted. */
  readonly scopes: readonly string[];
  readonly credentials: Credentials;
  /** Ask for an identity token too (log-in). */
  readonly offline?: boolean;
  readonly signal?: AbortSignal;
}

const clientId = 'docker';
const maxAnswerBytes = 1024 * 1024;
/** What the specification says of an answer without `expires_in`. */
const defaultLifetimeSeconds = 60;
const maxTokens = 10_000;

export class Tokens {
  private readonly sender: Sender;
  private readonly secret: Buffer;
  private readonly grants = new Map<string, Grant>();
  private readonly inFlight = new Map<string, Promise<Grant>>();

  constructor(sender: Sender, secret: Buffer) {
    this.sender = sender;
    this.secret = secret;
  }

  /** A token for a Bearer challenge: from memory, from a request under way, or from the token server. */
  async bearer(request: TokenRequest): Promise<string> {
    const key = this.key(request);
    const known = this.grants.get(key);
    if (known !== undefined && known.expiresAt > Date.now()) return known.token;
    let pending = this.inFlight.get(key);
    if (pending === undefined) {
      // Others may wait for it, so one caller's leaving does not end it.
      const { signal: _, ...shared } = request;
      pending = this.fetch(shared).finally(() => this.inFlight.delete(key));
      this.inFlight.set(key, pending);
    }
    const grant = await pending;
    if (this.grants.size >= maxTokens) this.dropExpired();
    this.grants.set(key, grant);
    return grant.token;
  }

  /** The upstream no longer takes this token. */
  forget(request: TokenRequest): void {
    this.grants.delete(this.key(request));
  }

  private key(request: TokenRequest): string {
    const { realm = '', service = '' } = request.challenge.parameters;
    return JSON.stringify([request.endpoint.base, realm, service, request.scopes, credentialsKey(request.credentials, this.secret)]);
  }

  private dropExpired(): void {
    const now = Date.now();
    for (const [key, grant] of this.grants) if (grant.expiresAt <= now) this.grants.delete(key);
    if (this.grants.size >= maxTokens) this.grants.clear();
  }

  /** Asks the token server. @throws UpstreamRefusal with its own words; UpstreamAway. */
  async fetch(request: TokenRequest): Promise<Grant> {
    const url = realmOf(request);
    const { credentials } = request;
    const answer = credentials.kind === 'identityToken' ? await this.post(url, request, credentials.token) : await this.get(url, request);
    return grantOf(answer, credentials.kind === 'identityToken' ? credentials.token : undefined);
  }

  private async get(realm: URL, request: TokenRequest): Promise<unknown> {
    const url = new URL(realm);
    const { service } = request.challenge.parameters;
    if (service !== undefined) url.searchParams.set('service', service);
    for (const scope of request.scopes) url.searchParams.append('scope', scope);
    const headers: Record<string, string> = {};
    if (request.credentials.kind === 'password') {
      const { username, password } = request.credentials;
      url.searchParams.set('account', username);
      if (request.offline) {
        url.searchParams.set('offline_token', 'true');
        url.searchParams.set('client_id', clientId);
      }
      headers.authorization = basicAuthorization(username, password);
    }
    return this.exchange('GET', url, headers, undefined, request);
  }

  private async post(url: URL, request: TokenRequest, refreshToken: string): Promise<unknown> {
    const form = new URLSearchParams({ grant_type: 'refresh_token', refresh_token: refreshToken, client_id: clientId });
    const { service } = request.challenge.parameters;
    if (service !== undefined) form.set('service', service);
    if (request.scopes.length > 0) form.set('scope', request.scopes.join(' '));
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    return this.exchange('POST', url, headers, Buffer.from(form.toString()), request);
  }

  private async exchange(
    method: 'GET' | 'POST',
    url: URL,
    headers: Record<string, string>,
    body: Buffer | undefined,
    request: TokenRequest,
  ): Promise<unknown> {
    const { endpoint, signal } = request;
    const fault = (error: unknown): UpstreamAway =>
      new UpstreamAway(`${method === 'GET' ? 'Get' : 'Post'} "${url}": ${goErrorText(error, url.host)}`, {
        status: error instanceof UpstreamTimeout ? 504 : 502,
        cause: error,
      });
    const response = await this.sender
      .send({
        method,
        url,
        headers: body === undefined ? headers : { ...headers, 'content-length': String(body.length) },
        ...connectionOf(endpoint),
        ...(body === undefined ? {} : { body }),
        ...(signal === undefined ? {} : { signal }),
      })
      .catch((error: unknown) => Promise.reject(fault(error)));
    if (response.statusCode < 200 || response.statusCode > 299) throw await refusalOf(response, 'NAME_UNKNOWN');
    try {
      return JSON.parse((await readBody(response, maxAnswerBytes)).toString('utf8'));
    } catch (error) {
      throw new UpstreamAway(`unable to decode token response: ${errorMessage(error)}`, { status: 502, cause: error });
    }
  }
}

/** Where tokens come from. A realm that would carry a password in clear from an endpoint spoken to by TLS is refused. */
function realmOf(request: TokenRequest): URL {
  const text = request.challenge.parameters.realm;
  if (text === undefined) throw new UpstreamAway('no realm specified for token auth challenge', { status: 502 });
  let url: URL;
  try {
    url = new URL(text);
  } catch (cause) {
    throw new UpstreamAway(`invalid token auth challenge realm: ${text.slice(0, 200)}`, { status: 502, cause });
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    throw new UpstreamAway(`invalid token auth challenge realm: ${text.slice(0, 200)}`, { status: 502 });
  }
  const clear = url.protocol === 'http:' && request.endpoint.verifyTls && !isLocalAddress(url.hostname);
  if (clear && request.credentials.kind !== 'anonymous') {
    throw new DistributionError('UNAUTHORIZED', `refusing to send credentials in clear to ${url.origin}`);
  }
  return url;
}

export function basicAuthorization(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

/** Reads a token server's answer. @throws UpstreamAway when there is no token in it. */
function grantOf(answer: unknown, oldRefreshToken: string | undefined): Grant {
  const fields = typeof answer === 'object' && answer !== null ? (answer as Record<string, unknown>) : {};
  const token = [fields.access_token, fields.token].find((each) => typeof each === 'string' && each !== '');
  if (typeof token !== 'string' || /[\r\n]/.test(token)) {
    throw new UpstreamAway('authorization server did not include a token in the response', { status: 502 });
  }
  const seconds = typeof fields.expires_in === 'number' && fields.expires_in > 0 ? fields.expires_in : defaultLifetimeSeconds;
  // A tenth early, at most 30 s: the request that carries it takes its time too.
  const lifetimeMs = seconds * 1000 - Math.min(seconds * 100, 30_000);
  const refreshToken = typeof fields.refresh_token === 'string' ? fields.refresh_token : oldRefreshToken;
  return { token, expiresAt: Date.now() + lifetimeMs, ...(refreshToken === undefined ? {} : { refreshToken }) };
}
