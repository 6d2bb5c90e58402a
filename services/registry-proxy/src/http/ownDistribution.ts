/** The Distribution API for the repositories that are stored here. */
import { type Digest, isDigest, maxManifestBytes } from '@flotilla/oci';
import { DistributionError } from '../distributionError.ts';
import type { OwnRepositories, Page } from '../own/ownRepositories.ts';
import type { OwnUploads } from '../own/ownUploads.ts';
import { type ManifestReference, parseRepository, type Route } from '../route.ts';
import { allow, blobHeaders, type Exchange, readRequest, sendJson, sendManifest, serveBlob } from './exchange.ts';

type ContentRoute = Exclude<Route, { kind: 'base' | 'catalog' }>;

export class OwnDistribution {
  private readonly repositories: OwnRepositories;
  private readonly uploads: OwnUploads;
  private readonly prefixes: ReadonlySet<string>;

  constructor(parts: { repositories: OwnRepositories; uploads: OwnUploads; prefixes: ReadonlySet<string> }) {
    this.repositories = parts.repositories;
    this.uploads = parts.uploads;
    this.prefixes = parts.prefixes;
  }

  /** @throws DistributionError */
  async handle(route: ContentRoute, exchange: Exchange): Promise<void> {
    const { name } = route.repository;
    switch (route.kind) {
      case 'manifest':
        return this.manifest(name, route.reference, exchange);
      case 'blob':
        return this.blob(name, route.digest, exchange);
      case 'upload':
        return route.id === undefined ? this.beginUpload(name, exchange) : this.upload(name, route.id, exchange);
      case 'tags': {
        allow(exchange.request, ['GET', 'HEAD']);
        const page = await this.repositories.tags(name, exchange.query);
        return sendPage(exchange, { name, tags: page.items }, page, `/v2/${name}/tags/list`);
      }
      case 'referrers':
        return this.referrers(name, route.digest, exchange);
    }
  }

  async catalog(exchange: Exchange): Promise<void> {
    allow(exchange.request, ['GET', 'HEAD']);
    const page = await this.repositories.catalog(exchange.query);
    sendPage(exchange, { repositories: page.items }, page, '/v2/_catalog');
  }

  private async manifest(name: string, reference: ManifestReference, exchange: Exchange): Promise<void> {
    const { request, response } = exchange;
    switch (allow(request, ['GET', 'HEAD', 'PUT', 'DELETE'])) {
      case 'DELETE':
        await this.repositories.removeManifest(name, reference);
        response.writeHead(202, { 'content-length': '0' }).end();
        return;
      case 'PUT': {
        const mediaType = request.headers['content-type'];
        if (mediaType === undefined || mediaType.length > 255)
          throw new DistributionError('MANIFEST_INVALID', 'manifest invalid: no content type');
        const tags = 'digest' in reference ? exchange.query.getAll('tag') : [];
        const bytes = await readRequest(request, maxManifestBytes);
        const put = await this.repositories.putManifest(name, reference, tags, mediaType, bytes);
        response.writeHead(201, {
          'content-length': '0',
          location: `/v2/${name}/manifests/${put.digest}`,
          'docker-content-digest': put.digest,
          ...(put.subject === undefined ? {} : { 'oci-subject': put.subject }),
          ...(tags.length === 0 ? {} : { 'oci-tag': tags }),
        });
        response.end();
        return;
      }
      default:
        return sendManifest(await this.repositories.manifest(name, reference), exchange);
    }
  }

  private async blob(name: string, digest: Digest, exchange: Exchange): Promise<void> {
    const { request, response } = exchange;
    switch (allow(request, ['GET', 'HEAD', 'DELETE'])) {
      case 'DELETE':
        await this.repositories.removeBlob(name, digest);
        response.writeHead(202, { 'content-length': '0' }).end();
        return;
      case 'HEAD': {
        const size = await this.repositories.blobSize(name, digest);
        response.writeHead(200, { ...blobHeaders(digest), 'content-length': size }).end();
        return;
      }
      default:
        await serveBlob(await this.repositories.openBlob(name, digest), digest, undefined, exchange);
    }
  }

  /** An upload of its own, one in this very request, or a blob of another repository. */
  private async beginUpload(name: string, exchange: Exchange): Promise<void> {
    const { request, query } = exchange;
    allow(request, ['POST']);
    const mount = query.get('mount');
    const from = query.get('from');
    if (mount !== null && from !== null) {
      const digest = digestOf(mount);
      const source = parseRepository(from, undefined, this.prefixes);
      if (source.registry === '' && (await this.repositories.mount(name, digest, source.name))) return blobCreated(name, digest, exchange);
    }
    const whole = query.get('digest');
    const digest = whole === null ? undefined : digestOf(whole);
    const id = await this.uploads.begin(name);
    if (digest === undefined) return uploadAccepted(name, id, 0, exchange);
    await this.uploads.append(name, id, request, undefined);
    await this.uploads.finish(name, id, digest);
    blobCreated(name, digest, exchange);
  }

  private async upload(name: string, id: string, exchange: Exchange): Promise<void> {
    const { request, response, query } = exchange;
    const range = request.headers['content-range'];
    switch (allow(request, ['PATCH', 'PUT', 'GET', 'HEAD', 'DELETE'])) {
      case 'PATCH':
        return uploadAccepted(name, id, await this.uploads.append(name, id, request, range), exchange);
      case 'PUT': {
        const digest = digestOf(query.get('digest') ?? '');
        await this.uploads.append(name, id, request, range);
        await this.uploads.finish(name, id, digest);
        return blobCreated(name, digest, exchange);
      }
      case 'DELETE':
        await this.uploads.cancel(name, id);
        response.writeHead(204).end();
        return;
      default: {
        const size = await this.uploads.size(name, id);
        response.writeHead(204, uploadHeaders(name, id, size)).end();
      }
    }
  }

  private async referrers(name: string, digest: Digest, exchange: Exchange): Promise<void> {
    allow(exchange.request, ['GET', 'HEAD']);
    const artifactType = exchange.query.get('artifactType') ?? undefined;
    sendJson(exchange.response, 200, await this.repositories.referrers(name, digest, artifactType), {
      'content-type': 'application/vnd.oci.image.index.v1+json',
      ...(artifactType === undefined ? {} : { 'oci-filters-applied': 'artifactType' }),
    });
  }
}

function digestOf(text: string): Digest {
  if (isDigest(text)) return text;
  throw new DistributionError('DIGEST_INVALID', 'provided digest did not match uploaded content', { detail: text.slice(0, 150) });
}

function uploadHeaders(name: string, id: string, size: number): Record<string, string> {
  return { location: `/v2/${name}/blobs/uploads/${id}`, range: `0-${Math.max(0, size - 1)}`, 'docker-upload-uuid': id };
}

function uploadAccepted(name: string, id: string, size: number, { response }: Exchange): void {
  response.writeHead(202, { ...uploadHeaders(name, id, size), 'content-length': '0' }).end();
}

function blobCreated(name: string, digest: Digest, { response }: Exchange): void {
  response.writeHead(201, { location: `/v2/${name}/blobs/${digest}`, 'docker-content-digest': digest, 'content-length': '0' }).end();
}

function sendPage({ response, query }: Exchange, document: object, page: Page, path: string): void {
  const next = page.last === undefined ? undefined : new URLSearchParams({ n: query.get('n') ?? '', last: page.last });
  sendJson(response, 200, document, next === undefined ? {} : { link: `<${path}?${next}>; rel="next"` });
}
