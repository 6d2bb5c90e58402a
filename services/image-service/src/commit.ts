/** Committing: a container's writable layer becomes the top layer of a new image. */
import { closeSync, constants, lstatSync, openSync, readlinkSync, readSync, writeSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { CommitImageRequest } from '@flotilla/contracts/flotilla/image/v1/images';
import { NotFound, System } from '@flotilla/errors';
import { type ContainerDefaults, familiarString } from '@flotilla/oci';
import { lgetxattr, llistxattr, splitDevice } from '@flotilla/syscalls';
import { applyChanges, defaultsFromJson, mergeDefaults } from './changes.ts';
import { rfc3339Nano } from './clock.ts';
import { imageEvent } from './events.ts';
import type { Image, LayerRecord, SnapshotRecord } from './image.ts';
import type { ImageStore } from './imageStore.ts';
import { newReference } from './import.ts';
import { imagePlatform } from './inspect.ts';
import type { TransferWorkers } from './layers/transferWorkers.ts';
import { makeConfig, makeLayer } from './newImage.ts';
import type { EntryType, TarEntry } from './tar/header.ts';
import { encodeHeader, padding, plainEntry, trailer } from './tar/writer.ts';

export class Committer {
  private readonly store: ImageStore;
  private readonly workers: TransferWorkers;
  private readonly maxLayerBytes: number;

  constructor(options: { store: ImageStore; workers: TransferWorkers; maxLayerBytes: number }) {
    this.store = options.store;
    this.workers = options.workers;
    this.maxLayerBytes = options.maxLayerBytes;
  }

  /** @returns the new image's id. @throws NotFound for an unknown snapshot; InvalidParameter for changes that make no sense. */
  async commit(request: CommitImageRequest, signal: AbortSignal): Promise<string> {
    const snapshot = this.store.snapshots.get(request.snapshotKey);
    if (snapshot === undefined) throw new NotFound(`No such snapshot: ${request.snapshotKey}`);
    const base = this.store.get(snapshot.imageId);
    const reference = newReference(request.repository, request.tag);
    const own = defaultsFromJson(request.containerConfigJson) ?? base?.config.config ?? {};
    const defaults = applyChanges(mergeDefaults(defaultsFromJson(request.configJson) ?? {}, own), request.changes);
    const release = this.store.holds.hold(snapshot.layers);
    try {
      const top = await this.layerOf(snapshot, signal);
      const releaseTop = this.store.holds.hold([top.diffId, ...top.blobs.map((blob) => blob.digest)]);
      try {
        const image = await this.register({ request, snapshot, base, top, defaults, reference });
        return image.id;
      } finally {
        await releaseTop();
      }
    } finally {
      await release();
    }
  }

  private async register(parts: {
    request: CommitImageRequest;
    snapshot: SnapshotRecord;
    base: Image | undefined;
    top: LayerRecord;
    defaults: ContainerDefaults;
    reference: ReturnType<typeof newReference>;
  }): Promise<Image> {
    const { request, snapshot, base, top, defaults, reference } = parts;
    const created = rfc3339Nano();
    const step = {
      created,
      ...(request.author === '' ? {} : { author: request.author }),
      created_by: (defaults.Cmd ?? []).join(' '),
      ...(request.comment === '' ? {} : { comment: request.comment }),
    };
    const { id, config } = makeConfig({
      defaults,
      diffIds: [...snapshot.layers, top.diffId],
      history: [...(base?.config.history ?? []), step],
      platform: base === undefined ? { os: 'linux', architecture: '' } : imagePlatform(base),
      author: request.author,
      comment: request.comment,
      created,
    });
    await this.store.content.writeBlob(id, Buffer.from(config));
    const below = snapshot.layers.map((diffId) => {
      const layer = this.store.layers.get(diffId);
      if (layer === undefined) throw new System(`layer ${diffId} is missing`);
      return layer;
    });
    return this.store.register({
      id,
      config,
      references: reference === undefined ? [] : [reference],
      manifests: [],
      layers: [...below, top],
      ...(base === undefined ? {} : { parent: base.id }),
      events: (image) => (reference === undefined ? [] : [imageEvent('tag', image.id, familiarString(reference), image)]),
    });
  }

  private async layerOf(snapshot: SnapshotRecord, signal: AbortSignal): Promise<LayerRecord> {
    const path = this.store.content.newIngestPath('commit');
    try {
      const sizeBytes = await writeLayerTar(this.store.content.snapshotPaths(snapshot.key).upperDir, path, signal);
      return await makeLayer({ store: this.store, workers: this.workers, maxLayerBytes: this.maxLayerBytes, path, sizeBytes, signal });
    } finally {
      await rm(path, { force: true });
    }
  }
}

/** Overlay's upper directory as a layer's tar: character devices 0/0 and opaque directories become whiteouts. @returns its bytes. */
async function writeLayerTar(upper: string, path: string, signal: AbortSignal): Promise<number> {
  const writer = new LayerTarWriter(upper, path);
  try {
    await writer.directory('', signal);
    return writer.finish();
  } finally {
    writer.close();
  }
}

const types: Readonly<Record<number, EntryType>> = {
  [constants.S_IFREG]: 'file',
  [constants.S_IFDIR]: 'directory',
  [constants.S_IFLNK]: 'symlink',
  [constants.S_IFCHR]: 'character',
  [constants.S_IFBLK]: 'block',
  [constants.S_IFIFO]: 'fifo',
};

class LayerTarWriter {
  private readonly root: string;
  private readonly fd: number;
  private readonly inodes = new Map<bigint, string>();
  private readonly buffer = Buffer.allocUnsafe(256 * 1024);
  private written = 0;

  constructor(root: string, path: string) {
    this.root = root;
    this.fd = openSync(path, 'wx', 0o600);
  }

  async directory(relative: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const names = (await readdir(join(this.root, relative))).sort();
    if (relative !== '' && isOpaque(join(this.root, relative)))
      this.write(encodeHeader(plainEntry({ name: `${relative}/.wh..wh..opq`, type: 'file' })));
    for (const name of names) {
      const path = relative === '' ? name : `${relative}/${name}`;
      if (this.entry(relative, name, path)) await this.directory(path, signal);
    }
  }

  /** Writes one entry; answers whether it is a directory to descend into. */
  private entry(parent: string, name: string, path: string): boolean {
    const absolute = join(this.root, path);
    const stat = lstatSync(absolute, { bigint: true, throwIfNoEntry: false });
    const type = stat === undefined ? undefined : types[Number(stat.mode) & constants.S_IFMT];
    // Sockets have no place in a tar; what vanished meanwhile was deleted.
    if (stat === undefined || type === undefined) return false;
    if (type === 'character' && stat.rdev === 0n) {
      this.write(encodeHeader(plainEntry({ name: `${parent === '' ? '' : `${parent}/`}.wh.${name}`, type: 'file' })));
      return false;
    }
    const device = splitDevice(stat.rdev);
    const entry: TarEntry = {
      name: type === 'directory' ? `${path}/` : path,
      type,
      linkName: type === 'symlink' ? readlinkSync(absolute) : '',
      mode: Number(stat.mode) & 0o7777,
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      sizeBytes: type === 'file' ? Number(stat.size) : 0,
      mtimeNs: stat.mtimeNs,
      devMajor: type === 'character' || type === 'block' ? device.major : 0,
      devMinor: type === 'character' || type === 'block' ? device.minor : 0,
      xattrs: attributes(absolute),
    };
    if (type === 'file' && stat.nlink > 1n) {
      const first = this.inodes.get(stat.ino);
      if (first !== undefined) {
        this.write(encodeHeader({ ...entry, type: 'link', linkName: first, sizeBytes: 0 }));
        return false;
      }
      this.inodes.set(stat.ino, path);
    }
    this.write(encodeHeader(entry, { exactTime: true }));
    if (type === 'file') this.content(absolute, entry.sizeBytes);
    return type === 'directory';
  }

  private content(path: string, size: number): void {
    const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      let left = size;
      while (left > 0) {
        const length = readSync(file, this.buffer, 0, Math.min(left, this.buffer.length), null);
        // A file that shrank under a running container: its header has been written, so zeros fill it up.
        if (length === 0) this.buffer.fill(0);
        const piece = this.buffer.subarray(0, length === 0 ? Math.min(left, this.buffer.length) : length);
        this.write(piece);
        left -= piece.length;
      }
      this.write(padding(size));
    } finally {
      closeSync(file);
    }
  }

  private write(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) at += writeSync(this.fd, bytes, at, bytes.length - at);
    this.written += bytes.length;
  }

  finish(): number {
    this.write(trailer);
    return this.written;
  }

  close(): void {
    closeSync(this.fd);
  }
}

function isOpaque(path: string): boolean {
  return lgetxattr(path, 'trusted.overlay.opaque')?.toString() === 'y';
}

function attributes(path: string): Map<string, Buffer> {
  const found = new Map<string, Buffer>();
  for (const name of llistxattr(path)) {
    // What docker keeps of a layer: capabilities and the users' own.
    if (name !== 'security.capability' && !name.startsWith('user.')) continue;
    if (name.startsWith('user.overlay.')) continue;
    const value = lgetxattr(path, name);
    if (value !== undefined) found.set(name, value);
  }
  return found;
}
