/** Importing: a root file system's tar becomes an image of one layer. */
import { closeSync, openSync, writeSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import type { ImportImageRequest } from '@flotilla/contracts/flotilla/image/v1/images';
import { InvalidParameter } from '@flotilla/errors';
import {
  type ContainerDefaults,
  familiarString,
  type Platform,
  parseReference,
  type Reference,
  sniffCompression,
  withDefaultTag,
  withTag,
} from '@flotilla/oci';
import { decompressed } from './archive/decompress.ts';
import { applyChanges } from './changes.ts';
import { rfc3339Nano } from './clock.ts';
import { imageEvent } from './events.ts';
import { readImage } from './image.ts';
import type { ImageStore } from './imageStore.ts';
import { makeConfig, type NewLayers } from './newImage.ts';
import type { ProgressSink } from './progress.ts';
import { makeRoom, roomIn } from './room.ts';

export interface ImportOptions {
  readonly reference: Reference | undefined;
  readonly message: string;
  readonly defaults: ContainerDefaults;
  readonly platform: Platform;
}

export class Importer {
  private readonly store: ImageStore;
  private readonly newLayers: NewLayers;
  private readonly maxLayerBytes: number;

  constructor(options: { store: ImageStore; newLayers: NewLayers; maxLayerBytes: number }) {
    this.store = options.store;
    this.newLayers = options.newLayers;
    this.maxLayerBytes = options.maxLayerBytes;
  }

  /** Everything that can be refused before the upload. @throws InvalidParameter; Forbidden for a name that is not the caller's. */
  check(request: ImportImageRequest, platform: Platform): ImportOptions {
    if (platform.os !== 'linux') throw new InvalidParameter('operating system is not supported');
    const reference = newReference(request.repository, request.tag);
    if (reference !== undefined) this.store.requireName(reference);
    return {
      reference,
      message: request.message || 'Imported from -',
      defaults: applyChanges({}, request.changes),
      platform,
    };
  }

  async import(source: AsyncIterable<Buffer>, options: ImportOptions, sink: ProgressSink, signal: AbortSignal): Promise<void> {
    await makeRoom(this.store.content);
    const path = this.store.content.newIngestPath('import');
    try {
      const sizeBytes = await this.receive(source, path);
      const layer = await this.newLayers.make(path, sizeBytes, signal);
      try {
        const created = rfc3339Nano();
        const { id, config } = makeConfig({
          defaults: options.defaults,
          diffIds: [layer.record.diffId],
          history: [{ created, comment: options.message }],
          platform: options.platform,
          comment: options.message,
          created,
        });
        if (options.reference !== undefined) this.store.requireName(options.reference, readImage({ id, config, sizeBytes: 0 }));
        await this.store.content.writeBlob(id, Buffer.from(config));
        await this.store.register({
          id,
          config,
          references: options.reference === undefined ? [] : [options.reference],
          manifests: [],
          layers: [layer.record],
          events: (image) => [
            ...(options.reference === undefined ? [] : [imageEvent('tag', image.id, familiarString(options.reference), image)]),
            imageEvent('import', image.id, image.id, image),
          ],
        });
        sink({ status: id });
      } finally {
        await layer.release();
      }
    } finally {
      await rm(path, { force: true });
    }
  }

  /** Spools the upload as a layer blob may be: gzip and zstd as they came, other compressions undone. */
  private async receive(source: AsyncIterable<Buffer>, path: string): Promise<number> {
    const maxBytes = Math.min(this.maxLayerBytes, roomIn(this.store.content.root));
    const fd = openSync(path, 'wx', 0o600);
    let size = 0;
    try {
      for await (const chunk of await asLayer(source)) {
        size += chunk.length;
        if (size > maxBytes) throw new InvalidParameter('no space left on device for the import');
        for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at, chunk.length - at);
      }
    } finally {
      closeSync(fd);
    }
    return size;
  }
}

async function asLayer(source: AsyncIterable<Buffer>): Promise<AsyncIterable<Buffer>> {
  const iterator = source[Symbol.asyncIterator]();
  const first = await iterator.next();
  const rest: AsyncIterable<Buffer> = {
    async *[Symbol.asyncIterator]() {
      try {
        if (first.done !== true) yield first.value;
        for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value;
      } finally {
        await iterator.return?.();
      }
    },
  };
  const compression = first.done === true ? 'none' : sniffCompression(first.value);
  return compression === 'xz' || compression === 'bzip2' ? (await decompressed(rest)).plain : rest;
}

/** The name of an image made here, if any. @throws InvalidParameter */
export function newReference(repository: string, tag: string): Reference | undefined {
  if (repository === '') return undefined;
  const reference = parseReference(repository);
  if (reference.digest !== undefined) throw new InvalidParameter('cannot import digest reference');
  return tag === '' ? withDefaultTag(reference) : withTag(reference, tag);
}
