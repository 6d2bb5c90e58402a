/** The gRPC service Images: decodes, calls, encodes. */
import type { Socket } from 'node:net';
import type { ImagesService, ProgressLine } from '@flotilla/contracts/flotilla/image/v1/images';
import type { ProgressMessage } from '@flotilla/engine-api';
import { errorMessage, InvalidParameter } from '@flotilla/errors';
import { type Digest, formatPlatform, parseReference, withTag } from '@flotilla/oci';
import type { Handlers, Logger } from '@flotilla/service-kit';
import { encodeLine, lastWord, type ServeStream, type TicketServer, writeAll, writeOutput } from '@flotilla/streams';
import type { Committer } from '../commit.ts';
import type { ImageStore } from '../imageStore.ts';
import type { Importer } from '../import.ts';
import { imageHistory, imagePlatform, inspectImage, requirePlatform } from '../inspect.ts';
import { withProgress } from '../lineQueue.ts';
import { listImages } from '../list.ts';
import type { Loader } from '../load.ts';
import { localManifest } from '../localManifest.ts';
import { imageDescriptor, manifestSummaries } from '../manifestSummaries.ts';
import { parseRepository } from '../names.ts';
import { failure } from '../progress.ts';
import type { Pruner } from '../prune.ts';
import { type Puller, pullReference } from '../pull.ts';
import { type Pusher, pushReference } from '../push.ts';
import type { Remover } from '../remove.ts';
import { saveImages, selectImages } from '../save.ts';
import { platformOrHost, toFilters, toJson, toPlatform } from './convert.ts';

export interface ImageParts {
  readonly store: ImageStore;
  readonly puller: Puller;
  readonly pusher: Pusher;
  readonly loader: Loader;
  readonly importer: Importer;
  readonly committer: Committer;
  readonly remover: Remover;
  readonly pruner: Pruner;
  readonly tickets: TicketServer;
  readonly logger: Logger;
}

export function imageHandlers(parts: ImageParts): Handlers<typeof ImagesService> {
  const { store, puller, pusher, loader, importer, committer, remover, pruner, tickets, logger } = parts;

  const describe = (error: unknown): ProgressMessage => {
    logger.debug({ error }, 'failed after the first line');
    return failure(errorMessage(error));
  };
  async function* lines(work: (push: (line: ProgressMessage) => void) => Promise<void>): AsyncGenerator<ProgressLine> {
    for await (const line of withProgress(work, describe)) yield { json: toJson(line) };
  }
  /** Serves an upload that is answered by lines on the same stream. */
  const upload =
    (work: (input: AsyncIterable<Buffer>, push: (line: ProgressMessage) => void, signal: AbortSignal) => Promise<void>) =>
    async (stream: Socket, signal: AbortSignal): Promise<void> => {
      // Leaving the input early must not end the stream: the answer has still to go out on it.
      const input: AsyncIterable<Buffer> = stream.iterator({ destroyOnReturn: false });
      const answers = withProgress((push) => work(input, push, signal), describe);
      try {
        for await (const line of answers) await writeAll(stream, encodeLine(line));
      } catch (error) {
        if (signal.aborted) return;
        await writeAll(stream, encodeLine(describe(error)));
      }
      await writeAll(stream, lastWord);
    };

  return {
    pull(request, call) {
      const reference = pullReference(request.reference, request.tag);
      const platform = platformOrHost(request.platform);
      const platformAsked = request.platform !== '';
      const { registryAuth } = request;
      return lines(async (push) => {
        const wantsAll = request.allTags && reference.tag === undefined && reference.digest === undefined;
        const tags = wantsAll ? await puller.tags(reference, registryAuth, call.signal) : undefined;
        const wanted = tags === undefined ? [reference] : tags.map((tag) => withTag(reference, tag));
        for (const each of wanted) await puller.pull({ reference: each, platform, platformAsked, registryAuth }, push, call.signal);
      });
    },

    push(request, call) {
      const reference = pushReference(request.reference, request.tag);
      return lines(async (push) => {
        await store.fresh();
        await pusher.push(reference, request.registryAuth, push, call.signal);
      });
    },

    async list(request) {
      await store.fresh();
      const filters = toFilters(request.filters);
      const images = listImages(store, { all: request.all, filters, sharedSize: request.sharedSize });
      if (!request.manifests) return { imagesJson: toJson(images) };
      const withManifests = images.map(async (summary) => {
        const image = store.get(summary.Id as Digest);
        if (image === undefined) return summary;
        return { ...summary, Descriptor: imageDescriptor(store, image), Manifests: await manifestSummaries(store, image) };
      });
      return { imagesJson: toJson(await Promise.all(withManifests)) };
    },

    async inspect(request) {
      await store.fresh();
      const image = store.find(request.image);
      requirePlatform(image, toPlatform(request.platform), request.image);
      const inspected = { ...inspectImage(store, image), Descriptor: imageDescriptor(store, image) };
      return { imageJson: toJson(request.manifests ? { ...inspected, Manifests: await manifestSummaries(store, image) } : inspected) };
    },

    async history(request) {
      await store.fresh();
      const image = store.find(request.image);
      requirePlatform(image, toPlatform(request.platform), request.image);
      return { historyJson: toJson(imageHistory(store, image)) };
    },

    async tag(request) {
      await store.fresh();
      const image = store.find(request.image);
      const repository = parseRepository(request.repository);
      await store.tag(image, withTag(repository, request.tag || repository.tag || 'latest'));
      return {};
    },

    async remove(request) {
      await store.fresh();
      const { items } = await remover.remove(request.image, { force: request.force, pruneParents: !request.noPrune });
      return { itemsJson: toJson(items) };
    },

    async prune(request, call) {
      await store.fresh();
      const { items, freedBytes } = await pruner.prune(toFilters(request.filters), call.signal);
      return { itemsJson: toJson(items), spaceReclaimed: BigInt(freedBytes) };
    },

    async counts() {
      await store.fresh();
      return { images: [...store.all()].length, layersSize: BigInt(store.layersSize()) };
    },

    async load(request) {
      const platform = platformOrHost(request.platform);
      const ticket = tickets.issue(upload((input, push, signal) => loader.load(input, { quiet: request.quiet, platform }, push, signal)));
      return { ticket };
    },

    async save(request) {
      await store.fresh();
      const selected = await selectImages(store, request.images);
      for (const { image } of selected) requirePlatform(image, toPlatform(request.platform), image.id);
      const serve: ServeStream = (stream, signal) => saveImages(store, selected, (bytes) => writeOutput(stream, bytes), signal);
      return { ticket: tickets.issue(serve, { outputOnly: true, inPieces: true }) };
    },

    async import(request) {
      const options = importer.check(request, platformOrHost(request.platform));
      const ticket = tickets.issue(upload((input, push, signal) => importer.import(input, options, push, signal)));
      return { ticket };
    },

    async commit(request, call) {
      await store.fresh();
      return { id: await committer.commit(request, call.signal) };
    },

    async resolve(request) {
      await store.fresh();
      if (request.image === '') throw new InvalidParameter('no image is named');
      const image = store.find(request.image);
      requirePlatform(image, toPlatform(request.platform), request.image);
      const descendantIds = request.withDescendants ? store.descendants(image.id) : [];
      if (request.idOnly) {
        return { id: image.id, configJson: Buffer.alloc(0), platform: '', manifestDescriptorJson: Buffer.alloc(0), descendantIds };
      }
      return {
        id: image.id,
        descendantIds,
        configJson: Buffer.from(image.record.config),
        platform: formatPlatform(imagePlatform(image)),
        manifestDescriptorJson: await manifestDescriptor(store, image.id, request.image),
      };
    },
  };
}

/** The manifest a container's image came by; nothing for an image that came without one. */
async function manifestDescriptor(store: ImageStore, id: string, name: string): Promise<Buffer> {
  const image = store.find(id);
  const manifests = [...store.manifests.values()].filter((manifest) => manifest.imageId === image.id);
  if (manifests.length === 0) return Buffer.alloc(0);
  const asked = name.includes('@') ? parseReference(name).digest : undefined;
  const { digest, mediaType, bytes } = await localManifest(store, image, asked);
  return toJson({ mediaType, digest, size: bytes.length, platform: imagePlatform(image) });
}
