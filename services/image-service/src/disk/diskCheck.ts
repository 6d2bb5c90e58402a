/**
 * The whole check of the disk (`flotilla doctor --disk`): each blob is hashed, each layer extracted anew from its blob beside the one that is
 * there and compared with it, and what no record knows is named. Repairing removes what is damaged, so that a pull or load brings it again,
 * and puts a layer that is extracted anew in the place of a damaged one, unless a container stands on it.
 */
import { createReadStream, existsSync, lstatSync } from 'node:fs';
import { join } from 'node:path';
import { errorMessage } from '@flotilla/errors';
import { type Digest, DigestVerifier } from '@flotilla/oci';
import { layerDigest } from '../contentStore.ts';
import type { LayerRecord } from '../image.ts';
import type { ImageStore } from '../imageStore.ts';
import type { TransferWorkers } from '../layers/transferWorkers.ts';
import { treeSize } from '../treeSize.ts';
import { differenceOf } from './compareTrees.ts';

export interface DiskFinding {
  readonly kind: 'blob' | 'layer' | 'snapshot' | 'download' | 'summary';
  readonly name: string;
  readonly detail: string;
  readonly repaired: boolean;
  /** Nobody's: harmless but for the space. */
  readonly orphan: boolean;
  readonly sizeBytes: number;
}

export interface DiskCheckOptions {
  readonly store: ImageStore;
  readonly workers: TransferWorkers;
  readonly maxLayerBytes: number;
  readonly repair: boolean;
  /** Look at these alone, which a power cut may have spoiled: nothing runs on them yet, so what cannot be mended goes. */
  readonly suspects?: ReadonlySet<Digest>;
  readonly signal: AbortSignal;
}

/** What is younger may be work of another replica. */
const settledMs = 60_000;

export async function* checkDisk(options: DiskCheckOptions): AsyncGenerator<DiskFinding> {
  const check = new DiskCheck(options);
  let [checked, wrong, repaired] = [0, 0, 0];
  const steps = [check.blobs(), check.layers(), ...(options.suspects === undefined ? [check.orphans()] : [])];
  for (const step of steps) {
    for await (const finding of step) {
      if (finding === 'sound') checked++;
      else {
        wrong++;
        if (finding.repaired) repaired++;
        yield finding;
      }
    }
  }
  await options.store.content.emptyTrash();
  const detail = `${checked} blobs and layers are sound, ${wrong} findings, ${repaired} of them repaired`;
  yield { kind: 'summary', name: '', detail, repaired: false, orphan: false, sizeBytes: 0 };
}

class DiskCheck {
  private readonly options: DiskCheckOptions;
  private readonly store: ImageStore;
  private readonly damaged = new Set<Digest>();
  private inUse: ReturnType<ImageStore['inUse']> | undefined;

  constructor(options: DiskCheckOptions) {
    this.options = options;
    this.store = options.store;
  }

  /** Hashes every blob that is there, and names those that are not. */
  async *blobs(): AsyncGenerator<DiskFinding | 'sound'> {
    const { content } = this.store;
    for (const algorithm of ['sha256', 'sha512'] as const) {
      for (const name of content.list(`blobs/${algorithm}`)) {
        this.options.signal.throwIfAborted();
        const digest: Digest = `${algorithm}:${name}`;
        if (!this.isAskedFor(digest)) continue;
        const sizeBytes = content.blobSize(digest) ?? 0;
        const fault = await this.blobFault(digest);
        if (fault === undefined) {
          yield 'sound';
          continue;
        }
        this.damaged.add(digest);
        const release = this.store.holds.has(digest);
        if (this.options.repair && !release) content.discardBlob(digest);
        const repaired = this.options.repair && !release;
        yield { kind: 'blob', name: digest, detail: fault, repaired, orphan: false, sizeBytes };
      }
    }
    for (const digest of this.store.inUse().blobs) {
      if (!this.isAskedFor(digest)) continue;
      if (this.damaged.has(digest) || content.hasBlob(digest) || !this.isRequired(digest)) continue;
      yield {
        kind: 'blob',
        name: digest,
        detail: 'is missing: pull or load its image again',
        repaired: false,
        orphan: false,
        sizeBytes: 0,
      };
    }
  }

  private isAskedFor(digest: Digest): boolean {
    return this.options.suspects?.has(digest) ?? true;
  }

  /** Configs are in the records as well, and an index' other platforms were never here. */
  private isRequired(digest: Digest): boolean {
    if (this.store.get(digest) !== undefined) return false;
    const layers = [...this.store.layers.values()].filter((layer) => layer.blobs.some((blob) => blob.digest === digest));
    if (layers.length > 0) return layers.some((layer) => !layer.blobs.some((blob) => this.store.content.hasBlob(blob.digest)));
    return this.store.manifests.get(digest) !== undefined;
  }

  private async blobFault(digest: Digest): Promise<string | undefined> {
    const verifier = new DigestVerifier(digest);
    try {
      const stream = createReadStream(this.store.content.blobPath(digest), { highWaterMark: 1024 * 1024 });
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        this.options.signal.throwIfAborted();
        verifier.update(chunk);
      }
    } catch (error) {
      this.options.signal.throwIfAborted();
      // Removed since it was listed.
      if (!existsSync(this.store.content.blobPath(digest))) return undefined;
      return `cannot be read: ${errorMessage(error)}`;
    }
    return verifier.verified() ? undefined : 'is not what its digest says: pull or load its image again';
  }

  async *layers(): AsyncGenerator<DiskFinding | 'sound'> {
    for (const layer of [...this.store.layers.values()]) {
      this.options.signal.throwIfAborted();
      if (!this.isAskedFor(layer.diffId)) continue;
      const release = this.store.holds.hold([layer.diffId, ...layer.blobs.map((blob) => blob.digest)]);
      try {
        yield await this.layer(layer);
      } finally {
        await release();
      }
    }
  }

  private async layer(layer: LayerRecord): Promise<DiskFinding | 'sound'> {
    const { content } = this.store;
    const found = (detail: string, repaired = false): DiskFinding => ({
      kind: 'layer',
      name: layer.diffId,
      detail,
      repaired,
      orphan: false,
      sizeBytes: layer.sizeBytes,
    });
    const blob = layer.blobs.find((each) => !this.damaged.has(each.digest) && content.hasBlob(each.digest, each.sizeBytes));
    if (blob === undefined) return found('has no sound blob to be compared with: pull or load its image again', this.giveUp(layer.diffId));
    const fresh = content.newLayerDirectory();
    try {
      const unpack = { root: fresh.diff, diffId: layer.diffId, maxBytes: this.options.maxLayerBytes };
      const job = { path: content.blobPath(blob.digest), unpack };
      const unpacked = await this.options.workers.run(job, blob.sizeBytes, () => undefined, this.options.signal);
      const isThere = content.hasLayer(layer.diffId) && existsSync(content.layerPath(layer.diffId));
      const difference = isThere ? await differenceOf(content.layerPath(layer.diffId), fresh.diff, this.options.signal) : 'is missing';
      if (difference === undefined && (await content.layerSize(layer.diffId)) !== undefined) return 'sound';
      const detail = difference ?? 'has lost its size';
      if (!this.options.repair) return found(detail);
      if (this.options.suspects === undefined && isThere) {
        if (this.store.recordsAreLost) return found(`${detail}: records are lost, and containers may stand on it`);
        if (this.hasContainers(layer.diffId)) return found(`${detail}: remove the containers that stand on it, then repair`);
      }
      return found(detail, await this.replace(layer.diffId, fresh.path, unpacked?.sizeBytes ?? layer.sizeBytes));
    } catch (error) {
      this.options.signal.throwIfAborted();
      return found(`cannot be extracted from ${blob.digest}: ${errorMessage(error)}`, this.giveUp(layer.diffId));
    } finally {
      content.discard(fresh.path);
    }
  }

  private async replace(diffId: Digest, path: string, sizeBytes: number): Promise<boolean> {
    await this.store.change(async () => {
      this.store.content.discardLayer(diffId);
      await this.store.content.commitLayer(path, diffId, sizeBytes);
    });
    return true;
  }

  /** Takes away a layer of which nobody can say whether it is whole. */
  private giveUp(diffId: Digest): boolean {
    if (this.options.suspects === undefined) return false;
    this.store.content.discardLayer(diffId);
    return true;
  }

  private hasContainers(diffId: Digest): boolean {
    for (const snapshot of this.store.snapshots.values()) if (snapshot.layers.includes(diffId)) return true;
    return false;
  }

  /** What no record knows and nobody works on. It stays while records are lost: containers may run on it. */
  async *orphans(): AsyncGenerator<DiskFinding> {
    const { content, snapshots } = this.store;
    for (const name of content.list('layers')) {
      const path = join(content.root, 'layers', name);
      const digest = layerDigest(name);
      if (name.startsWith('.new-'))
        yield* this.orphan(
          'layer',
          name,
          path,
          () => true,
          () => content.discard(path),
        );
      else
        yield* this.orphan(
          'layer',
          digest,
          path,
          () => this.isFree(digest),
          () => content.discardLayer(digest),
        );
    }
    for (const algorithm of ['sha256', 'sha512'] as const) {
      for (const name of content.list(`blobs/${algorithm}`)) {
        const digest: Digest = `${algorithm}:${name}`;
        yield* this.orphan(
          'blob',
          digest,
          content.blobPath(digest),
          () => this.isFree(digest),
          () => void content.discardBlob(digest),
        );
      }
    }
    for (const name of content.list('ingest')) {
      const path = join(content.root, 'ingest', name);
      yield* this.orphan(
        'download',
        name,
        path,
        () => true,
        () => content.discard(path),
      );
    }
    for (const key of content.list('snapshots')) {
      const path = content.snapshotPaths(key).root;
      yield* this.orphan(
        'snapshot',
        key,
        path,
        () => snapshots.get(key) === undefined,
        () => content.discardSnapshot(key),
      );
    }
  }

  private isFree(digest: Digest): boolean {
    this.inUse ??= this.store.inUse();
    return !this.inUse.layers.has(digest) && !this.inUse.blobs.has(digest) && !this.store.holds.has(digest);
  }

  private async *orphan(
    kind: DiskFinding['kind'],
    name: string,
    path: string,
    isFree: () => boolean,
    discard: () => void,
  ): AsyncGenerator<DiskFinding> {
    if (!isSettled(path) || !isFree()) return;
    const sizeBytes = await treeSize(path);
    // Somebody may have found a use for it meanwhile: looked at anew where nobody can register an image beside it.
    const repaired =
      this.options.repair &&
      !this.store.recordsAreLost &&
      (await this.store.change(async () => {
        this.inUse = undefined;
        if (!isSettled(path) || !isFree()) return false;
        discard();
        return true;
      }));
    yield { kind, name, detail: 'is known to no record', repaired, orphan: true, sizeBytes };
  }
}

function isSettled(path: string): boolean {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return stat !== undefined && Date.now() - stat.mtimeMs > settledMs;
}
