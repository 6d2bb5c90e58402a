/** `docker login`: are these credentials good for that registry? In dockerd's order of attempts and in its words. */
import type { AuthConfig } from '@flotilla/engine-api';
import { InvalidParameter, System, Unauthorized } from '@flotilla/errors';
import { http } from '@flotilla/service-kit/http';
import { anonymous, type Credentials, credentialsFromAuthConfig } from './credentials.ts';
import { UpstreamRefusal } from './distributionError.ts';
import { type Challenge, parseChallenges } from './upstream/challenge.ts';
import { connectionOf } from './upstream/connection.ts';
import type { Endpoint, Endpoints } from './upstream/endpoints.ts';
import { goErrorText } from './upstream/goErrors.ts';
import { basicAuthorization, type Tokens } from './upstream/tokens.ts';
import { discard, type Sender, type TransportResponse } from './upstream/transport.ts';

export interface LoginResult {
  readonly status: string;
  /** To keep instead of the password, when the registry gave one. */
  readonly identityToken: string;
}

export class Login {
  private readonly sender: Sender;
  private readonly endpoints: Endpoints;
  private readonly tokens: Tokens;

  constructor(parts: { sender: Sender; endpoints: Endpoints; tokens: Tokens }) {
    this.sender = parts.sender;
    this.endpoints = parts.endpoints;
    this.tokens = parts.tokens;
  }

  /** @throws Unauthorized for wrong credentials, System when the registry cannot be asked, InvalidParameter for a bad address. */
  async check(config: AuthConfig, signal: AbortSignal): Promise<LoginResult> {
    const credentials = credentialsFromAuthConfig(config);
    let failure: unknown;
    // Never a mirror: these are the upstream's credentials.
    for (const endpoint of await this.endpoints.of(registryOf(config.serveraddress), 'push')) {
      try {
        const identityToken = await this.tryEndpoint(endpoint, credentials, signal);
        return { status: 'Login Succeeded', identityToken: identityToken ?? '' };
      } catch (error) {
        signal.throwIfAborted();
        // It has answered, so there is no other way to it to be tried.
        if (!(error instanceof System) || error.cause === undefined) throw error;
        failure = error;
      }
    }
    throw failure;
  }

  private async tryEndpoint(endpoint: Endpoint, credentials: Credentials, signal: AbortSignal): Promise<string | undefined> {
    const url = new URL(`${endpoint.base}/v2/`);
    const ping = await this.get(url, endpoint, undefined, signal);
    discard(ping);
    const challenges = parseChallenges(ping.headersDistinct['www-authenticate']?.join(', '));
    if (ping.statusCode !== 401) return this.verdict(ping, url);
    const answer = await this.authorize(url, endpoint, challenges, credentials, signal);
    const response = await this.get(url, endpoint, answer?.header, signal);
    discard(response);
    this.verdict(response, url);
    return answer?.identityToken;
  }

  private verdict(response: TransportResponse, url: URL): undefined {
    if (response.statusCode === 200) return undefined;
    const { statusCode } = response;
    throw new System(`login attempt to ${url} failed with status: ${statusCode} ${http.STATUS_CODES[statusCode] ?? ''}`);
  }

  private async authorize(
    url: URL,
    endpoint: Endpoint,
    challenges: readonly Challenge[],
    credentials: Credentials,
    signal: AbortSignal,
  ): Promise<{ header: string; identityToken?: string } | undefined> {
    const bearer = challenges.find((challenge) => challenge.scheme === 'bearer');
    if (bearer !== undefined) {
      try {
        const grant = await this.tokens.fetch({ endpoint, challenge: bearer, scopes: [], credentials, offline: true, signal });
        return { header: `Bearer ${grant.token}`, ...(grant.refreshToken === undefined ? {} : { identityToken: grant.refreshToken }) };
      } catch (error) {
        if (!(error instanceof UpstreamRefusal)) throw new System(`Get "${url}": ${(error as Error).message}`, { cause: error });
        const words = `Get "${url}": ${error.code === 'UNAUTHORIZED' ? 'unauthorized: ' : ''}${error.message}`;
        throw error.status === 401 ? new Unauthorized(words, { cause: error }) : new System(words, { cause: error });
      }
    }
    const basic = challenges.some((challenge) => challenge.scheme === 'basic');
    if (basic && credentials.kind === 'password') return { header: basicAuthorization(credentials.username, credentials.password) };
    if (basic && credentials === anonymous) throw new System(`Get "${url}": no basic auth credentials`);
    return undefined;
  }

  private async get(url: URL, endpoint: Endpoint, authorization: string | undefined, signal: AbortSignal): Promise<TransportResponse> {
    try {
      const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
      return await this.sender.send({ method: 'GET', url, headers, ...connectionOf(endpoint), signal });
    } catch (error) {
      signal.throwIfAborted();
      throw new System(`Get "${url}": ${goErrorText(error, url.host)}`, { cause: error });
    }
  }
}

/** The registry that a server address names: `https://index.docker.io/v1/`, `localhost:5000`, nothing. */
function registryOf(serverAddress: string | undefined): string {
  if (serverAddress === undefined || serverAddress === '') return 'docker.io';
  const text = /^https?:\/\//.test(serverAddress) ? serverAddress : `https://${serverAddress}`;
  if (!URL.canParse(text)) throw new InvalidParameter(`unable to parse server address: parse "${text}": invalid URL`);
  // As written: URL drops a port that is the scheme's own, which the key of credentials and endpoints keeps.
  const host = /^https?:\/\/(?:[^/@]*@)?([^/?#]+)/.exec(text)?.[1] ?? '';
  return host === 'index.docker.io' || host === 'registry-1.docker.io' || host === 'docker.io' ? 'docker.io' : host;
}
