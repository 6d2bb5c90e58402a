/** The Distribution API: requests to domain calls, answers to headers and bodies. @see OCI distribution-spec v1.1 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { maxManifestBytes } from '@flotilla/oci';
import type { Asker } from '../access.ts';
import type { Blobs } from '../blobs.ts';
import { type Credentials, credentialsFromAuthorization, credentialsFromHeader } from '../credentials.ts';
import { DistributionError } from '../distributionError.ts';
import type { Manifests, ServedManifest } from '../manifests.ts';
import type { Metrics } from '../metrics.ts';
import type { PassThrough } from '../passThrough.ts';
import { type ManifestReference, ownRegistry, parseRoute, type Repository, type Route, referenceText } from '../route.ts';
import type { Uploads } from '../uploads.ts';
import type { TransportResponse } from '../upstream/transport.ts';
import { allow, blobHeaders, type Exchange, pick, readRequest, sendJson, sendManifest, serveBlob } from './exchange.ts';
import type { OwnDistribution } from './ownDistribution.ts';
import type { OwnElsewhere } from './ownElsewhere.ts';

export interface DistributionParts {
  readonly manifests: Manifests;
  readonly blobs: Blobs;
  readonly uploads: Uploads;
  readonly passThrough: PassThrough;
  /** Answers for the repositories that are stored here. */
  readonly own: OwnDistribution;
  /** None: they are always stored here. */
  readonly ownElsewhere?: OwnElsewhere;
  readonly metrics: Metrics;
  readonly ownPrefixes: ReadonlySet<string>;
  /** Milliseconds for which a tag counts without asking the upstream, unless the client says `Cache-Control: no-cache`. */
  readonly tagMaxAgeMs: number;
}

export class Distribution {
  private readonly parts: DistributionParts;

  constructor(parts: DistributionParts) {
    this.parts = parts;
  }

  /** Answers a request below `/v2/`. @returns false when it is no path of this API. @throws DistributionError */
  async handle(request: IncomingMessage, response: ServerResponse, signal: AbortSignal): Promise<boolean> {
    response.setHeader('docker-distribution-api-version', 'registry/2.0');
    const [path = '', search = ''] = (request.url ?? '').split('?', 2);
    const query = new URLSearchParams(search);
    const route = parseRoute(path, query.get('ns') ?? undefined, this.parts.ownPrefixes);
    if (route === undefined) return false;
    const credentials = credentialsOf(request);
    await this.dispatch(route, { request, response, query, credentials, signal });
    return true;
  }

  private dispatch(route: Route, exchange: Exchange): Promise<void> {
    const { own, ownElsewhere } = this.parts;
    const elsewhere = ownElsewhere?.isHere === false ? ownElsewhere : undefined;
    if (route.kind === 'catalog') return elsewhere === undefined ? own.catalog(exchange) : elsewhere.pass(exchange);
    if ('repository' in route && route.repository.registry === ownRegistry) {
      if (elsewhere === undefined) return own.handle(route, exchange);
      if (!elsewhere.isRead(route, exchange)) return elsewhere.pass(exchange);
    }
    switch (route.kind) {
      case 'base':
        return this.base(exchange);
      case 'manifest':
        return this.manifest(route.repository, route.reference, exchange);
      case 'blob':
        return this.blob(route, exchange);
      case 'upload':
        return this.upload(route.repository, route.id, exchange);
      case 'tags':
        return this.list(route.repository, 'tags/list', exchange);
      case 'referrers':
        return this.list(route.repository, `referrers/${route.digest}`, exchange);
    }
  }

  private async base({ request, response }: Exchange): Promise<void> {
    allow(request, ['GET', 'HEAD']);
    sendJson(response, 200, {});
  }

  private async manifest(repository: Repository, reference: ManifestReference, exchange: Exchange): Promise<void> {
    const { request, response, credentials } = exchange;
    switch (allow(request, ['GET', 'HEAD', 'PUT', 'DELETE'])) {
      case 'PUT':
        return this.putManifest(repository, reference, exchange);
      case 'DELETE':
        await this.parts.passThrough.remove({ repository, credentials }, `manifests/${referenceText(reference)}`, 'MANIFEST_UNKNOWN');
        await this.parts.manifests.forget({ repository, credentials }, reference);
        response.writeHead(202, { 'content-length': '0' }).end();
        return;
      case 'HEAD':
        return this.sendManifest(
          await this.parts.manifests.head({ repository, reference, credentials, maxAgeMs: this.maxAge(request) }),
          exchange,
        );
      default:
        return this.sendManifest(
          await this.parts.manifests.get({ repository, reference, credentials, maxAgeMs: this.maxAge(request) }),
          exchange,
        );
    }
  }

  private sendManifest(manifest: ServedManifest, exchange: Exchange): void {
    if (manifest.warning !== undefined) this.parts.metrics.onStale();
    if (manifest.origin !== undefined) this.parts.metrics.onManifest(manifest.origin);
    sendManifest(manifest, exchange);
  }

  private maxAge(request: IncomingMessage): number {
    return /\bno-cache\b|\bmax-age=0\b/.test(request.headers['cache-control'] ?? '') ? 0 : this.parts.tagMaxAgeMs;
  }

  private async putManifest(repository: Repository, reference: ManifestReference, exchange: Exchange): Promise<void> {
    const { request, response, credentials } = exchange;
    const mediaType = request.headers['content-type'];
    if (mediaType === undefined) throw new DistributionError('MANIFEST_INVALID', 'manifest invalid: no content type');
    const bytes = await readRequest(request, maxManifestBytes);
    const answer = await this.parts.manifests.push({ repository, credentials }, reference, mediaType, bytes);
    response.writeHead(201, {
      'content-length': '0',
      location: `/v2/${pathOf(repository)}/manifests/${answer.digest}`,
      'docker-content-digest': answer.digest,
      ...(answer.subject === undefined ? {} : { 'oci-subject': answer.subject }),
    });
    response.end();
  }

  private async blob(route: Route & { kind: 'blob' }, exchange: Exchange): Promise<void> {
    const { request, response, credentials } = exchange;
    const { repository, digest } = route;
    switch (allow(request, ['GET', 'HEAD', 'DELETE'])) {
      case 'DELETE':
        await this.parts.passThrough.remove({ repository, credentials }, `blobs/${digest}`, 'BLOB_UNKNOWN');
        response.writeHead(202, { 'content-length': '0' }).end();
        return;
      case 'HEAD': {
        const { sizeBytes, warning } = await this.parts.blobs.size({ repository, digest, credentials });
        response.writeHead(200, { ...blobHeaders(digest, warning), ...(sizeBytes === undefined ? {} : { 'content-length': sizeBytes }) });
        response.end();
        return;
      }
      default:
        return this.getBlob({ repository, credentials }, route, exchange);
    }
  }

  private async getBlob(asker: Asker, route: Route & { kind: 'blob' }, exchange: Exchange): Promise<void> {
    const { metrics } = this.parts;
    const { reader, warning, origin } = await this.parts.blobs.open({ ...asker, digest: route.digest });
    metrics.onBlob(origin);
    if (warning !== undefined) metrics.onStale();
    metrics.onSent(await serveBlob(reader, route.digest, warning, exchange));
  }

  private async upload(repository: Repository, id: string | undefined, exchange: Exchange): Promise<void> {
    const { request, response, credentials, query, signal } = exchange;
    const method = allow(request, id === undefined ? ['POST'] : ['PATCH', 'PUT', 'GET', 'HEAD', 'DELETE']);
    const headers = pick(request.headers, ['content-type', 'content-length', 'content-range', 'transfer-encoding']);
    const hasBody = headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
    const upload = { repository, credentials, query, method, headers, signal, ...(hasBody ? { body: request } : {}) };
    const answer = id === undefined ? await this.parts.uploads.begin(upload) : await this.parts.uploads.proceed(id, upload);
    const { response: upstream } = answer;
    const digest = upstream.headers['docker-content-digest'] ?? query.get('digest') ?? query.get('mount');
    const location =
      answer.id === undefined
        ? upstream.statusCode === 201 && `/v2/${pathOf(repository)}/blobs/${digest}`
        : `/v2/${pathOf(repository)}/blobs/uploads/${answer.id}`;
    response.writeHead(upstream.statusCode, {
      ...pick(upstream.headers, ['range', 'docker-upload-uuid', 'docker-content-digest', 'oci-chunk-min-length']),
      ...(location === false ? {} : { location }),
      ...(upstream.statusCode === 204 ? {} : { 'content-length': '0' }),
    });
    response.end();
    upstream.resume();
  }

  private async list(repository: Repository, path: string, exchange: Exchange): Promise<void> {
    const { request, response, credentials, query } = exchange;
    allow(request, ['GET', 'HEAD']);
    const upstream = await this.parts.passThrough.list({ repository, credentials }, path, query);
    const next = nextPage(upstream, `/v2/${pathOf(repository)}/${path}`);
    response.writeHead(200, {
      ...pick(upstream.headers, ['content-type', 'content-length', 'oci-filters-applied']),
      ...(next === undefined ? {} : { link: next }),
    });
    if (request.method === 'HEAD') {
      upstream.destroy();
      response.end();
    } else await pipeline(upstream, response);
  }
}

/** Where a repository is found here, whichever way it was asked for. */
function pathOf(repository: Repository): string {
  return `${repository.registry}/${repository.name}`;
}

function credentialsOf(request: IncomingMessage): Credentials {
  const header = request.headers['x-registry-auth'];
  const own = credentialsFromHeader(Array.isArray(header) ? header[0] : header);
  return own.kind === 'anonymous' ? credentialsFromAuthorization(request.headers.authorization) : own;
}

/** The Link to the next page, with our own path. */
function nextPage(upstream: TransportResponse, path: string): string | undefined {
  const header = upstream.headers.link;
  const target = /^\s*<([^>]{1,2000})>\s*;\s*rel="?next"?/.exec(typeof header === 'string' ? header : '')?.[1];
  if (target === undefined || !URL.canParse(target, 'http://upstream')) return undefined;
  return `<${path}${new URL(target, 'http://upstream').search}>; rel="next"`;
}
