/**
 * Pushing: the blobs a registry lacks, then the manifest, byte for byte as it came, so that digests are the same there. A blob that the registry
 * has in another repository is mounted from there instead of sent.
 */
import { createReadStream, createWriteStream } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { InvalidParameter, NotFound } from '@flotilla/errors';
import {
  type Digest,
  DigestVerifier,
  familiarName,
  familiarString,
  isForeignLayerType,
  mediaTypes,
  parseReference,
  type Reference,
  repositoryName,
  shortDigest,
  withDefaultTag,
  withTag,
} from '@flotilla/oci';
import { imageEvent } from './events.ts';
import type { BlobReference, Image } from './image.ts';
import type { ImageStore } from './imageStore.ts';
import { type LocalManifest, localManifest, makeManifest } from './localManifest.ts';
import { sameRepository } from './names.ts';
import { bar, message, type ProgressSink, step } from './progress.ts';
import type { WithRegistry } from './registry/distribution.ts';
import { type Answer, RegistryError, readBody, refusal, send } from './registry/distribution.ts';
import { pushError } from './registry/errors.ts';

/** The tags a push means: one, or every tag of a repository when none is said. @throws NotFound in dockerd's words. */
export function pushReferences(store: ImageStore, name: string, tag: string): Reference[] {
  const reference = parseReference(name);
  if (reference.digest !== undefined) throw new InvalidParameter('cannot push a digest reference');
  const wanted = tag === '' ? reference : withTag(reference, tag);
  if (wanted.tag !== undefined) {
    if (store.resolve(wanted) === undefined) throw new NotFound(`An image does not exist locally with the tag: ${familiarName(wanted)}`);
    return [wanted];
  }
  const all = [...store.all()].flatMap((image) => store.references(image.id));
  const tags = all.filter((each) => each.digest === undefined && sameRepository(each, reference));
  if (tags.length === 0) throw new NotFound(`An image does not exist locally with the tag: ${familiarName(reference)}`);
  return tags;
}

export class Pusher {
  private readonly store: ImageStore;
  private readonly registry: WithRegistry;
  private readonly maxConcurrent: number;

  constructor(options: { store: ImageStore; registry: WithRegistry; maxConcurrent: number }) {
    this.store = options.store;
    this.registry = options.registry;
    this.maxConcurrent = options.maxConcurrent;
  }

  async push(tag: Reference, registryAuth: string, sink: ProgressSink, signal: AbortSignal): Promise<void> {
    const reference = withDefaultTag(tag);
    const image = this.store.resolve(reference);
    if (image === undefined) throw new NotFound(`An image does not exist locally with the tag: ${familiarName(reference)}`);
    const release = this.store.holds.hold([image.id, ...image.layers]);
    try {
      sink(message(`The push refers to repository [${repositoryName(reference)}]`));
      const manifest = await this.compressed(image, await localManifest(this.store, image), sink);
      // Begun again as a whole when registry-proxy goes away: what has arrived is found there.
      await this.registry(async (address) => {
        const remote = new Upload(address, reference, registryAuth, signal);
        await this.uploadAll(image, manifest, remote, sink);
        await remote.putManifest(manifest, reference.tag ?? 'latest');
      }, signal);
      const size = manifest.bytes.length;
      sink(message(`${reference.tag}: digest: ${manifest.digest} size: ${size}`));
      sink({ progressDetail: {}, aux: { Tag: reference.tag, Digest: manifest.digest, Size: size } });
      await this.record(image, manifest, reference);
    } catch (error) {
      throw error instanceof RegistryError ? pushError(error) : error;
    } finally {
      await release();
    }
  }

  /** Layers made here are plain tars: they are compressed once, and stay so. */
  private async compressed(image: Image, manifest: LocalManifest, sink: ProgressSink): Promise<LocalManifest> {
    if (manifest.layers.every((layer) => layer.mediaType !== mediaTypes.ociLayer && layer.mediaType !== mediaTypes.dockerLayer))
      return manifest;
    // A manifest that came from elsewhere is sent as it is, plain layers and all.
    if (this.store.manifests.get(manifest.digest) !== undefined) return manifest;
    const layers: LocalManifest['layers'][number][] = [];
    for (const layer of manifest.layers) {
      if (layer.mediaType !== mediaTypes.ociLayer) {
        layers.push(layer);
        continue;
      }
      sink(step('Preparing', shortDigest(layer.diffId)));
      layers.push({ ...(await this.compress(layer)), diffId: layer.diffId });
    }
    return makeManifest(image, layers);
  }

  private async compress(layer: BlobReference & { diffId: Digest }): Promise<BlobReference> {
    const { content } = this.store;
    const path = content.newIngestPath('push');
    const verifier = new DigestVerifier();
    const hashing = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        verifier.update(chunk);
        done(null, chunk);
      },
    });
    try {
      await pipeline(
        createReadStream(content.blobPath(layer.digest), { highWaterMark: 512 * 1024 }),
        createGzip({ level: 4, chunkSize: 256 * 1024 }),
        hashing,
        createWriteStream(path, { mode: 0o600 }),
      );
      const blob = { digest: verifier.digest(), sizeBytes: verifier.sizeBytes, mediaType: mediaTypes.ociLayerGzip };
      content.adoptBlob(path, blob.digest);
      return blob;
    } finally {
      await rm(path, { force: true });
    }
  }

  private async uploadAll(image: Image, manifest: LocalManifest, remote: Upload, sink: ProgressSink): Promise<void> {
    const layers = [...new Map(manifest.layers.map((layer) => [layer.digest, layer])).values()].filter(
      (layer) => !isForeignLayerType(layer.mediaType),
    );
    for (const layer of layers) sink(step('Preparing', shortDigest(layer.diffId)));
    const pending = [...layers];
    const one = async (): Promise<void> => {
      for (let layer = pending.shift(); layer !== undefined; layer = pending.shift()) {
        const sources = (this.store.layers.get(layer.diffId)?.sources ?? []).flatMap((source) => {
          const [digest, repository] = source.split(' ');
          return digest === layer?.digest && repository !== undefined ? [repository] : [];
        });
        await remote.blob(layer, this.store.content.blobPath(layer.digest), shortDigest(layer.diffId), sources, sink);
      }
    };
    await Promise.all(Array.from({ length: this.maxConcurrent }, one));
    await remote.bytes(manifest.config, Buffer.from(image.record.config));
  }

  /** Remembers the digest the image has there, and where its blobs are. */
  private async record(image: Image, manifest: LocalManifest, reference: Reference): Promise<void> {
    if (this.store.get(image.id) === undefined) {
      // Removed while it was pushed: it does not come back.
      await this.store.announce([imageEvent('push', familiarString(reference), familiarName(reference), image)]);
      return;
    }
    await this.store.content.writeBlob(manifest.digest, manifest.bytes);
    const repository = repositoryName(reference);
    const records = manifest.layers.map(({ diffId, ...blob }) => {
      const known = this.store.layers.get(diffId);
      return { diffId, sizeBytes: known?.sizeBytes ?? 0, blobs: [blob], sources: [`${blob.digest} ${repository}`] };
    });
    const { digest, mediaType, bytes, config } = manifest;
    await this.store.register({
      id: image.id,
      config: image.record.config,
      references: [{ domain: reference.domain, path: reference.path, digest }],
      manifests: [
        {
          digest,
          mediaType,
          sizeBytes: bytes.length,
          imageId: image.id,
          blobs: [config, ...manifest.layers.map(({ diffId: _diffId, ...blob }) => blob)],
        },
      ],
      layers: records,
      events: (made) => [imageEvent('push', familiarString(reference), familiarName(reference), made)],
    });
  }
}

/** One repository to push to, at the registry-proxy. */
class Upload {
  private readonly address: string;
  private readonly reference: Reference;
  private readonly headers: Readonly<Record<string, string>>;
  private readonly signal: AbortSignal;

  constructor(address: string, reference: Reference, registryAuth: string, signal: AbortSignal) {
    this.address = address;
    this.reference = reference;
    this.signal = signal;
    this.headers = registryAuth === '' ? {} : { 'X-Registry-Auth': registryAuth };
  }

  private path(rest: string): string {
    return `/v2/${repositoryName(this.reference)}/${rest}`;
  }

  private request(
    method: string,
    path: string,
    options: { headers?: Readonly<Record<string, string>>; body?: Buffer | NodeJS.ReadableStream } = {},
  ): Promise<Answer> {
    return send(this.address, {
      method,
      path,
      headers: { ...this.headers, ...options.headers },
      ...(options.body === undefined ? {} : { body: options.body as Buffer }),
      signal: this.signal,
    });
  }

  private async has(digest: Digest): Promise<boolean> {
    const answer = await this.request('HEAD', this.path(`blobs/${digest}`));
    answer.body.resume();
    if (answer.status === 200) return true;
    if (answer.status === 404) return false;
    throw new RegistryError(`received unexpected HTTP status: ${answer.status}`, { status: answer.status });
  }

  /** A layer: found there, mounted from another repository of the same registry, or sent. */
  async blob(layer: BlobReference, path: string, id: string, sources: readonly string[], sink: ProgressSink): Promise<void> {
    if (await this.has(layer.digest)) {
      sink(step('Layer already exists', id));
      return;
    }
    const prefix = `${this.reference.domain}/`;
    const from = sources
      .map((source) => (source.startsWith(prefix) ? source.slice(prefix.length) : ''))
      .find((source) => source !== '' && source !== this.reference.path);
    const location = await this.start(layer.digest, from);
    if (location === undefined) {
      sink(step(`Mounted from ${from}`, id));
      return;
    }
    const { size } = await stat(path);
    const file = createReadStream(path, { highWaterMark: 512 * 1024 });
    let sent = 0;
    let reportedAtMs = 0;
    file.on('data', (chunk) => {
      sent += chunk.length;
      const now = performance.now();
      if (now - reportedAtMs < 100 && sent < size) return;
      reportedAtMs = now;
      sink(bar('Pushing', id, sent, size));
    });
    await this.finish(location, layer.digest, size, file);
    sink(step('Pushed', id));
  }

  /** A small blob at hand. */
  async bytes(blob: BlobReference, content: Buffer): Promise<void> {
    if (await this.has(blob.digest)) return;
    const location = await this.start(blob.digest, undefined);
    if (location !== undefined) await this.finish(location, blob.digest, content.length, content);
  }

  /** Begins an upload. @returns where to send it; undefined when the blob was mounted. */
  private async start(digest: Digest, from: string | undefined): Promise<string | undefined> {
    const query = from === undefined ? '' : `?mount=${encodeURIComponent(digest)}&from=${encodeURIComponent(from)}`;
    const answer = await this.request('POST', this.path(`blobs/uploads/${query}`), { headers: { 'Content-Length': '0' } });
    if (answer.status === 201) {
      answer.body.resume();
      return undefined;
    }
    if (answer.status !== 202) throw await refusal(answer);
    answer.body.resume();
    return this.location(answer);
  }

  /** Where an answer says to go on, as a path here: the proxy speaks for the registry. */
  private location(answer: Answer): string {
    const location = answer.headers.location;
    if (location === undefined) throw new RegistryError('the registry did not say where to upload to');
    const url = new URL(location, 'http://registry-proxy');
    return url.pathname + url.search;
  }

  private async finish(location: string, digest: Digest, size: number, body: Buffer | NodeJS.ReadableStream): Promise<void> {
    const patched = await this.request('PATCH', location, {
      headers: { 'Content-Type': 'application/octet-stream', 'Content-Length': `${size}` },
      body,
    });
    if (patched.status !== 202 && patched.status !== 204) throw await refusal(patched);
    patched.body.resume();
    const next = this.location(patched);
    const answer = await this.request('PUT', `${next}${next.includes('?') ? '&' : '?'}digest=${encodeURIComponent(digest)}`, {
      headers: { 'Content-Length': '0' },
    });
    if (answer.status !== 201 && answer.status !== 204) throw await refusal(answer);
    answer.body.resume();
  }

  async putManifest(manifest: LocalManifest, tag: string): Promise<void> {
    const answer = await this.request('PUT', this.path(`manifests/${tag}`), {
      headers: { 'Content-Type': manifest.mediaType, 'Content-Length': `${manifest.bytes.length}` },
      body: manifest.bytes,
    });
    if (answer.status < 200 || answer.status > 299) throw await refusal(answer);
    await readBody(answer, 64 * 1024);
  }
}
