/** `docker search`: the old index API of Docker Hub, or of the registry a term begins with. */
import type { SearchResult } from '@flotilla/engine-api';
import { InvalidParameter, System, Unauthorized } from '@flotilla/errors';
import type { Credentials } from './credentials.ts';
import { connectionOf } from './upstream/connection.ts';
import type { Endpoint, Endpoints } from './upstream/endpoints.ts';
import { goErrorText } from './upstream/goErrors.ts';
import { basicAuthorization } from './upstream/tokens.ts';
import { discard, readBody, type Sender, type TransportResponse } from './upstream/transport.ts';

export interface SearchRequest {
  readonly term: string;
  /** 1 to 100; undefined: the index's own default. */
  readonly limit: number | undefined;
  readonly filters: Readonly<Record<string, string>>;
  readonly credentials: Credentials;
}

const maxAnswerBytes = 4 * 1024 * 1024;
const hubIndex = 'index.docker.io';

export class Search {
  private readonly sender: Sender;
  private readonly endpoints: Endpoints;

  constructor(parts: { sender: Sender; endpoints: Endpoints }) {
    this.sender = parts.sender;
    this.endpoints = parts.endpoints;
  }

  /** @throws InvalidParameter for a term, limit or filter that cannot be; System when the index does not answer. */
  async find(request: SearchRequest, signal: AbortSignal): Promise<SearchResult[]> {
    const wanted = filterOf(request.filters);
    const { limit } = request;
    if (limit !== undefined && (limit < 1 || limit > 100)) throw new InvalidParameter(`limit ${limit} is outside the range of [1, 100]`);
    const { registry, term } = splitTerm(request.term);
    const answer = await this.ask(registry, `/v1/search?q=${encodeURIComponent(term)}&n=${limit ?? 25}`, request.credentials, signal);
    return resultsOf(answer).filter(wanted);
  }

  private async ask(registry: string, path: string, credentials: Credentials, signal: AbortSignal): Promise<unknown> {
    let failure: unknown;
    const endpoints: Endpoint[] =
      registry === 'docker.io'
        ? [{ base: `https://${hubIndex}`, host: hubIndex, mirror: false, verifyTls: true }]
        : await this.endpoints.of(registry, 'push');
    for (const endpoint of endpoints) {
      const url = new URL(`${endpoint.base}${path}`);
      try {
        return await this.read(await this.get(url, endpoint, credentials, signal));
      } catch (error) {
        signal.throwIfAborted();
        failure = error;
      }
    }
    throw failure;
  }

  private async get(url: URL, endpoint: Endpoint, credentials: Credentials, signal: AbortSignal): Promise<TransportResponse> {
    const headers: Record<string, string> = { 'x-docker-token': 'true' };
    if (credentials.kind === 'password') headers.authorization = basicAuthorization(credentials.username, credentials.password);
    try {
      return await this.sender.send({ method: 'GET', url, headers, ...connectionOf(endpoint), signal });
    } catch (error) {
      throw new System(`Get "${url}": ${goErrorText(error, url.host)}`, { cause: error });
    }
  }

  private async read(response: TransportResponse): Promise<unknown> {
    if (response.statusCode !== 200) {
      discard(response);
      if (response.statusCode === 401) throw new Unauthorized('unauthorized: authentication required');
      throw new System(`Unexpected status code ${response.statusCode}`);
    }
    try {
      return JSON.parse((await readBody(response, maxAnswerBytes)).toString('utf8'));
    } catch (cause) {
      throw new System('error decoding registry search results', { cause });
    }
  }
}

/** `host/term` asks that host. */
function splitTerm(text: string): { registry: string; term: string } {
  if (/^https?:\/\//.test(text)) throw new InvalidParameter('invalid repository name: repository name should not contain scheme');
  const slash = text.indexOf('/');
  const first = text.slice(0, Math.max(slash, 0));
  const isHost = slash > 0 && (/[.:]/.test(first) || first === 'localhost');
  if (!isHost) return { registry: 'docker.io', term: text };
  if (!/^(?:[a-zA-Z0-9.-]+|\[[0-9a-fA-F:]+\])(?::\d{1,5})?$/.test(first)) throw new InvalidParameter(`invalid registry host: ${first}`);
  const hub = first === 'docker.io' || first === hubIndex;
  return { registry: hub ? 'docker.io' : first, term: text.slice(slash + 1) };
}

function resultsOf(answer: unknown): SearchResult[] {
  const results = typeof answer === 'object' && answer !== null ? (answer as { results?: unknown }).results : undefined;
  if (!Array.isArray(results)) return [];
  return results.flatMap((each): SearchResult[] => {
    if (typeof each !== 'object' || each === null) return [];
    const { name, description, star_count, is_official, is_automated } = each as Record<string, unknown>;
    if (typeof name !== 'string') return [];
    return [
      {
        star_count: typeof star_count === 'number' ? star_count : 0,
        is_official: is_official === true,
        name,
        is_automated: is_automated === true,
        description: typeof description === 'string' ? description : '',
      },
    ];
  });
}

/** @throws InvalidParameter in dockerd's words. */
function filterOf(filters: Readonly<Record<string, string>>): (result: SearchResult) => boolean {
  const checks: ((result: SearchResult) => boolean)[] = [];
  for (const [name, value] of Object.entries(filters)) {
    const invalid = new InvalidParameter(`invalid filter '${name}=${value}'`);
    switch (name) {
      case 'is-official':
      case 'is-automated': {
        if (!['true', 'false', '1', '0'].includes(value)) throw invalid;
        const expected = value === 'true' || value === '1';
        checks.push((result) => (name === 'is-official' ? result.is_official : result.is_automated) === expected);
        break;
      }
      case 'stars': {
        if (!/^\d{1,9}$/.test(value)) throw invalid;
        checks.push((result) => result.star_count >= Number(value));
        break;
      }
      default:
        throw new InvalidParameter(`invalid filter '${name}'`);
    }
  }
  return (result) => checks.every((check) => check(result));
}
