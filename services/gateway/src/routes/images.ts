/** Routes of images. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { containerConfig } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import type { Router } from 'express';
import { type Backends, long, read } from '../backends.ts';
import { type Copies, copyKey, documentBytes } from '../copies.ts';
import { olderThan, versionOf } from '../http/apiVersion.ts';
import { optionalJson } from '../http/body.ts';
import { filtersOf, toProto, withFilter } from '../http/filters.ts';
import { boolean, integer, query, text } from '../http/query.ts';
import { clientGone, sendEmpty, sendJson } from '../http/respond.ts';
import { shimImageInspect, shimImageList } from '../shims/images.ts';
import { mapMessages, sendLines } from '../streams/progress.ts';
import { openRemote } from '../streams/remote.ts';
import { exchange, redeem, sendRepeatable } from '../streams/transfer.ts';
import { name } from './parameters.ts';

export function imageRoutes(router: Router, { containers, images, registries }: Backends, copies: Copies): void {
  router.get(/^\/images\/json$/, async (request, response) => {
    let filters = filtersOf(request);
    const legacy = text(request, 'filter');
    if (legacy !== '' && olderThan(request, '1.41')) filters = withFilter(filters, 'reference', legacy);
    const list = async (): Promise<Uint8Array> => {
      const { imagesJson } = await images.list(
        {
          all: boolean(request, 'all'),
          filters: toProto(filters),
          sharedSize: !olderThan(request, '1.42') && boolean(request, 'shared-size'),
          digests: boolean(request, 'digests'),
          manifests: !olderThan(request, '1.47') && boolean(request, 'manifests'),
        },
        read,
      );
      return documentBytes(shimImageList(imagesJson, versionOf(request)));
    };
    // `until` ages.
    const plain = !filters.has('until');
    sendJson(response, 200, plain ? await copies.images.read(copyKey(request), list) : await list());
  });

  router.get(/^\/images\/search$/, async (request, response) => {
    const limit = integer(request, 'limit') ?? 0;
    if (limit < 0 || limit > 100) throw new InvalidParameter(`limit ${limit} is outside the range of [1, 100]`);
    const filters: { [name: string]: string } = Object.create(null);
    for (const [filter, values] of filtersOf(request)) {
      if (!['is-automated', 'is-official', 'stars'].includes(filter)) throw new InvalidParameter(`invalid filter '${filter}'`);
      if (values[0] !== undefined) filters[filter] = values[0];
    }
    const { resultsJson } = await registries.search({ term: text(request, 'term'), limit, filters, registryAuth: registryAuth(request) });
    sendJson(response, 200, resultsJson);
  });

  router.get(/^\/images\/get$/, async (request, response) => {
    await save(
      request,
      response,
      query(request)
        .getAll('names')
        .flatMap((names) => names.split(','))
        .filter((each) => each !== ''),
    );
  });
  router.get(/^\/images\/(?<name>.*)\/get$/, async (request, response) => {
    await save(request, response, [name(request)]);
  });

  async function save(request: IncomingMessage, response: ServerResponse, names: string[]): Promise<void> {
    const signal = clientGone(response);
    const asked = { images: names, platform: platform(request, '1.48') };
    await sendRepeatable(response, async (deadlineMs) => {
      const { ticket } = await images.save(asked, { ...read, deadlineMs, signal });
      return { stream: await redeem(ticket, signal), headers: { 'Content-Type': 'application/x-tar' } };
    });
  }

  router.get(/^\/images\/(?<name>.*)\/json$/, async (request, response) => {
    const manifests = !olderThan(request, '1.48') && boolean(request, 'manifests');
    const wanted = platform(request, '1.49');
    if (manifests && wanted !== '') {
      throw new InvalidParameter('conflicting options: manifests and platform options cannot both be set');
    }
    const inspect = async (): Promise<Uint8Array> => {
      const { imageJson } = await images.inspect({ image: name(request), manifests, platform: wanted }, read);
      return documentBytes(shimImageInspect(imageJson, versionOf(request)));
    };
    sendJson(response, 200, await copies.images.read(copyKey(request), inspect));
  });

  router.get(/^\/images\/(?<name>.*)\/history$/, async (request, response) => {
    const { historyJson } = await images.history({ image: name(request), platform: platform(request, '1.48') }, read);
    sendJson(response, 200, historyJson);
  });

  router.post(/^\/images\/create$/, async (request, response) => {
    // `pull -a` may send a name that ends in a colon.
    const reference = text(request, 'fromImage').replace(/:$/, '');
    const signal = clientGone(response);
    if (reference !== '') {
      request.resume();
      const tag = text(request, 'tag');
      const lines = images.pull(
        {
          reference,
          tag,
          allTags: tag === '' && isNameOnly(reference),
          platform: platform(request, '1.32'),
          registryAuth: registryAuth(request),
        },
        { signal },
      );
      await sendLines(
        response,
        mapMessages(lines, (line) => line.json),
        signal,
      );
      return;
    }
    const source = text(request, 'fromSrc');
    if (source === '') throw new InvalidParameter('either fromImage or fromSrc must be given');
    const archive = source === '-' ? request : await openRemote(source, signal);
    const { ticket } = await images.import(
      {
        repository: text(request, 'repo'),
        tag: text(request, 'tag'),
        message: text(request, 'message'),
        changes: query(request).getAll('changes'),
        platform: platform(request, '1.32'),
      },
      { ...long, signal },
    );
    await exchange(archive, response, await redeem(ticket, signal), 'application/json');
  });

  router.post(/^\/images\/load$/, async (request, response) => {
    const signal = clientGone(response);
    const { ticket } = await images.load(
      { quiet: boolean(request, 'quiet', true), platform: platform(request, '1.48') },
      { ...long, signal },
    );
    await exchange(request, response, await redeem(ticket, signal), 'application/json');
  });

  router.post(/^\/images\/prune$/, async (request, response) => {
    const { itemsJson, spaceReclaimed } = await images.prune({ filters: toProto(filtersOf(request)) }, long);
    const deleted = itemsJson.length === 0 ? 'null' : Buffer.from(itemsJson.buffer, itemsJson.byteOffset, itemsJson.length).toString();
    sendJson(response, 200, Buffer.from(`{"ImagesDeleted":${deleted === '[]' ? 'null' : deleted},"SpaceReclaimed":${spaceReclaimed}}`));
  });

  router.post(/^\/images\/(?<name>.*)\/push$/, async (request, response) => {
    const signal = clientGone(response);
    request.resume();
    const lines = images.push(
      {
        reference: name(request),
        tag: text(request, 'tag'),
        platform: platform(request, '1.46'),
        registryAuth: registryAuth(request),
      },
      { signal },
    );
    await sendLines(
      response,
      mapMessages(lines, (line) => line.json),
      signal,
    );
  });

  router.post(/^\/images\/(?<name>.*)\/tag$/, async (request, response) => {
    await images.tag({ image: name(request), repository: text(request, 'repo'), tag: text(request, 'tag') });
    sendEmpty(response, 201);
  });

  router.delete(/^\/images\/(?<name>.*)$/, async (request, response) => {
    if (name(request).trim() === '') throw new InvalidParameter('image name cannot be blank');
    const { itemsJson } = await images.remove(
      {
        image: name(request),
        force: boolean(request, 'force'),
        noPrune: boolean(request, 'noprune'),
        platforms: olderThan(request, '1.50')
          ? []
          : query(request)
              .getAll('platforms')
              .filter((each) => each !== ''),
      },
      long,
    );
    sendJson(response, 200, itemsJson);
  });

  router.post(/^\/commit$/, async (request, response) => {
    const config = await optionalJson(request, containerConfig);
    const { id } = await containers.commit(
      {
        container: text(request, 'container'),
        repository: text(request, 'repo'),
        tag: text(request, 'tag'),
        comment: text(request, 'comment'),
        author: text(request, 'author'),
        pause: boolean(request, 'pause', true),
        changes: query(request).getAll('changes'),
        configJson: Object.keys(config).length === 0 ? Buffer.alloc(0) : Buffer.from(JSON.stringify(config)),
      },
      long,
    );
    sendJson(response, 201, { Id: id });
  });
}

function registryAuth(request: IncomingMessage): string {
  const header = request.headers['x-registry-auth'];
  return typeof header === 'string' ? header : '';
}

/** Platforms came to each operation in a version of its own; since 1.48 they may be JSON documents. */
function platform(request: IncomingMessage, since: string): string {
  if (olderThan(request, since)) return '';
  if (query(request).getAll('platform').length > 1) {
    throw new InvalidParameter('multiple platform parameters are not supported in this API version; use API version 1.52 or later');
  }
  return text(request, 'platform');
}

/** A name with neither tag nor digest means all tags; the CLI says `latest` itself. */
function isNameOnly(reference: string): boolean {
  return !reference.includes('@') && reference.lastIndexOf(':') <= reference.lastIndexOf('/');
}
