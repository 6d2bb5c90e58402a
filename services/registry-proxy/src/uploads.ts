/**
 * Pushing through: uploads, manifests and deletions go to the upstream as they come, streamed. The place an upstream gives an upload is
 * handed to the client inside a signed id, so the proxy keeps no state of it, and nobody can make the proxy send to a place of their own
 * choosing.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Readable } from 'node:stream';
import type { Asker } from './access.ts';
import { DistributionError, UpstreamAway } from './distributionError.ts';
import { type Repository, repositoryKey } from './route.ts';
import type { Endpoint } from './upstream/endpoints.ts';
import type { TransportResponse } from './upstream/transport.ts';
import type { Upstream, UpstreamAnswer } from './upstream/upstream.ts';

/** What a client sends beside the path. */
export interface UploadRequest extends Asker {
  readonly method: 'POST' | 'PATCH' | 'PUT' | 'GET' | 'HEAD' | 'DELETE';
  readonly query: URLSearchParams;
  /** content-type, content-length, content-range of the client's. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Readable;
  readonly signal: AbortSignal;
}

export interface UploadAnswer {
  readonly response: TransportResponse;
  /** The id of the upload to go on with, when there is one. */
  readonly id?: string;
}

interface UploadPlace {
  readonly repository: string;
  readonly endpoint: Endpoint;
  readonly url: URL;
}

const uploadUnknown = (): DistributionError => new DistributionError('BLOB_UPLOAD_UNKNOWN', 'blob upload unknown to registry');

export class Uploads {
  private readonly upstream: Upstream;
  private readonly key: Buffer;
  private readonly othersKeys: () => readonly Buffer[];

  /** @param parts.othersKeys - of replicas on other data roots: an upload that was begun there may go on here. */
  constructor(parts: { upstream: Upstream; key: Buffer; othersKeys?: () => readonly Buffer[] }) {
    this.upstream = parts.upstream;
    this.key = parts.key;
    this.othersKeys = parts.othersKeys ?? (() => []);
  }

  /** Begins an upload, mounts a blob of another repository, or does the whole in one request. */
  async begin(request: UploadRequest): Promise<UploadAnswer> {
    const { repository, query } = request;
    const upstreamQuery = new URLSearchParams(query);
    upstreamQuery.delete('ns');
    const from = query.get('from');
    const mounted = from === null ? undefined : withoutRegistry(from, repository.registry);
    if (mounted !== undefined) upstreamQuery.set('from', mounted);
    const search = upstreamQuery.toString();
    const answer = await this.upstream.request({
      repository,
      credentials: request.credentials,
      method: 'POST',
      path: `blobs/uploads/${search === '' ? '' : `?${search}`}`,
      // A POST without a body says so.
      headers: request.body === undefined ? { ...request.headers, 'content-length': '0' } : request.headers,
      ...(request.body === undefined ? {} : { body: request.body }),
      ...(mounted === undefined ? {} : { extraScopes: [`repository:${mounted}:pull`] }),
      missing: 'NAME_UNKNOWN',
      signal: request.signal,
    });
    return this.answered(repository, answer);
  }

  /** Goes on with an upload: a chunk, the end, its state, or giving up. */
  async proceed(id: string, request: UploadRequest): Promise<UploadAnswer> {
    const place = this.open(id, request.repository);
    const url = new URL(place.url);
    const digest = request.query.get('digest');
    if (digest !== null) url.searchParams.set('digest', digest);
    const answer = await this.upstream.requestAt(url, place.endpoint, {
      repository: request.repository,
      credentials: request.credentials,
      method: request.method,
      headers: request.headers,
      ...(request.body === undefined ? {} : { body: request.body }),
      missing: 'BLOB_UPLOAD_UNKNOWN',
      signal: request.signal,
    });
    return this.answered(request.repository, answer);
  }

  private answered(repository: Repository, answer: UpstreamAnswer): UploadAnswer {
    const { response, endpoint, url } = answer;
    const { location } = response.headers;
    if (response.statusCode === 201 || location === undefined) return { response };
    return { response, id: this.seal({ repository: repositoryKey(repository), endpoint, url: uploadLocation(location, url, endpoint) }) };
  }

  private seal(place: UploadPlace): string {
    const { base, host, verifyTls } = place.endpoint;
    const content = Buffer.from(JSON.stringify([place.repository, base, host, verifyTls, place.url.href])).toString('base64url');
    return `${content}.${sign(this.key, content)}`;
  }

  private open(id: string, repository: Repository): UploadPlace {
    const [content = '', signature = ''] = id.split('.');
    const given = Buffer.from(signature);
    const isBy = (key: Buffer): boolean => {
      const expected = Buffer.from(sign(key, content));
      return given.length === expected.length && timingSafeEqual(given, expected);
    };
    if (![this.key, ...this.othersKeys()].some(isBy)) throw uploadUnknown();
    const [name, base, host, verifyTls, href] = JSON.parse(Buffer.from(content, 'base64url').toString('utf8')) as [
      string,
      string,
      string,
      boolean,
      string,
    ];
    if (name !== repositoryKey(repository)) throw uploadUnknown();
    return { repository: name, endpoint: { base, host, mirror: false, verifyTls }, url: new URL(href) };
  }
}

/** What signs the places of uploads that are begun on a data root. */
export function uploadKeyOf(secret: Buffer): Buffer {
  return createHmac('sha256', secret).update('uploads').digest();
}

function sign(key: Buffer, content: string): string {
  return createHmac('sha256', key).update(`upload ${content}`).digest('base64url');
}

/** The name below the registry, when a client wrote it in full. */
function withoutRegistry(name: string, registry: string): string {
  return name.startsWith(`${registry}/`) ? name.slice(registry.length + 1) : name;
}

/** Where the upload goes on. A registry behind a TLS proxy may call itself http; credentials do not follow it there. */
function uploadLocation(location: string, from: URL, endpoint: Endpoint): URL {
  let url: URL;
  try {
    url = new URL(location, from);
  } catch (cause) {
    throw new UpstreamAway('failed to parse Location header of the upload', { status: 502, cause });
  }
  if (url.hostname === from.hostname && from.protocol === 'https:') url.protocol = 'https:';
  if (url.origin !== new URL(endpoint.base).origin) {
    throw new UpstreamAway(`the registry moved the upload to another host: ${url.host}`, { status: 502 });
  }
  return url;
}
