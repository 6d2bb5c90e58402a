/**
 * Brings layers into the store, each once however many pulls want it at the same time, a few at a time (`max-concurrent-downloads`). A
 * download goes on while anybody waits for it, and stops when the last one has left; what it brought stays for the next attempt.
 */
import { rm } from 'node:fs/promises';
import { Cancelled, isUnavailable } from '@flotilla/errors';
import type { Digest } from '@flotilla/oci';
import { LayerContentError } from './contentError.ts';
import type { ContentStore } from './contentStore.ts';
import type { BlobReference, LayerRecord } from './image.ts';
import type { TransferProgress } from './layers/transfer.ts';
import type { TransferWorkers } from './layers/transferWorkers.ts';
import type { BlobSource } from './registry/distribution.ts';

export interface LayerWanted {
  readonly diffId: Digest;
  readonly blob: BlobReference;
}

/** Runs work on where a layer's blob can be read; again when that place has gone. */
export type WithSource = <T>(work: (source: BlobSource) => Promise<T>) => Promise<T>;

export type LayerProgress = TransferProgress | { readonly step: 'waiting' | 'started' };

interface Task {
  readonly done: Promise<LayerRecord>;
  readonly abort: AbortController;
  readonly listeners: Set<(progress: LayerProgress) => void>;
  last: LayerProgress;
  waiters: number;
}

export class LayerFetcher {
  private readonly content: ContentStore;
  private readonly workers: TransferWorkers;
  private readonly maxLayerBytes: number;
  private readonly slots: Slots;
  private readonly tasks = new Map<Digest, Task>();
  /** Downloads under way, those given up among them until they have let go of their files. */
  private readonly running = new Map<Digest, Promise<void>>();

  constructor(options: { content: ContentStore; workers: TransferWorkers; maxConcurrent: number; maxLayerBytes: number }) {
    this.content = options.content;
    this.workers = options.workers;
    this.maxLayerBytes = options.maxLayerBytes;
    this.slots = new Slots(options.maxConcurrent);
  }

  /** @throws LayerContentError, RegistryError, Cancelled … as the transfer does. */
  async fetch(
    wanted: LayerWanted,
    source: WithSource,
    report: (progress: LayerProgress) => void,
    signal: AbortSignal,
  ): Promise<LayerRecord> {
    signal.throwIfAborted();
    const task = this.tasks.get(wanted.diffId) ?? this.begin(wanted, source);
    task.waiters++;
    task.listeners.add(report);
    report(task.last);
    const { promise: left, reject } = Promise.withResolvers<never>();
    const leave = (): void => reject(new Cancelled('context canceled'));
    signal.addEventListener('abort', leave, { once: true });
    try {
      return await Promise.race([task.done, left]);
    } finally {
      signal.removeEventListener('abort', leave);
      task.listeners.delete(report);
      task.waiters--;
      if (task.waiters === 0) {
        // Nobody may join a download that is being stopped.
        if (this.tasks.get(wanted.diffId) === task) this.tasks.delete(wanted.diffId);
        task.abort.abort();
      }
    }
  }

  private begin(wanted: LayerWanted, source: WithSource): Task {
    const abort = new AbortController();
    const { promise, resolve, reject } = Promise.withResolvers<LayerRecord>();
    const task: Task = { done: promise, abort, listeners: new Set(), last: { step: 'started' }, waiters: 0 };
    this.tasks.set(wanted.diffId, task);
    const report = (progress: LayerProgress): void => {
      task.last = progress;
      for (const listener of task.listeners) listener(progress);
    };
    const before = this.running.get(wanted.diffId);
    const run = this.slots
      .run(abort.signal, { waiting: () => report({ step: 'waiting' }) }, async () => {
        await before;
        return source((at) => this.download(wanted, at, report, abort.signal));
      })
      .then(resolve, reject)
      .then(() => {
        if (this.tasks.get(wanted.diffId) === task) this.tasks.delete(wanted.diffId);
        if (this.running.get(wanted.diffId) === run) this.running.delete(wanted.diffId);
      });
    this.running.set(wanted.diffId, run);
    promise.catch(() => undefined);
    return task;
  }

  /** Resolves when downloads of these layers that nobody waits for have ended. */
  async settled(diffIds: readonly Digest[]): Promise<void> {
    await Promise.all(diffIds.map((diffId) => (this.tasks.has(diffId) ? undefined : this.running.get(diffId))));
  }

  private async download(
    { diffId, blob }: LayerWanted,
    source: BlobSource,
    report: (progress: LayerProgress) => void,
    signal: AbortSignal,
  ): Promise<LayerRecord> {
    const path = this.content.downloadPath(blob.digest);
    const whole = this.content.hasBlob(blob.digest, blob.sizeBytes);
    try {
      return await this.bring({ diffId, blob, path: whole ? this.content.blobPath(blob.digest) : path, whole, source, report, signal });
    } catch (error) {
      if (error instanceof LayerContentError) {
        await rm(path, { force: true });
        if (whole) this.content.discardBlob(blob.digest);
        throw error;
      }
      if (!isUnavailable(error)) throw error;
      // Another replica downloads to the same place: do it beside it rather than wait for a process that may be stuck.
      const own = this.content.newIngestPath('download');
      try {
        return await this.bring({ diffId, blob, path: own, whole: false, source, report, signal });
      } finally {
        await rm(own, { force: true });
      }
    }
  }

  private async bring(options: {
    diffId: Digest;
    blob: BlobReference;
    path: string;
    whole: boolean;
    source: BlobSource;
    report: (progress: LayerProgress) => void;
    signal: AbortSignal;
  }): Promise<LayerRecord> {
    const { diffId, blob, path, whole } = options;
    const directory = this.content.newLayerDirectory();
    try {
      const unpacked = await this.workers.run(
        {
          path,
          blob: { digest: blob.digest, sizeBytes: blob.sizeBytes },
          ...(whole ? {} : { source: options.source }),
          unpack: { root: directory.diff, diffId, maxBytes: this.maxLayerBytes },
        },
        blob.sizeBytes,
        options.report,
        options.signal,
      );
      const sizeBytes = unpacked?.sizeBytes ?? 0;
      if (!whole) this.content.adoptBlob(path, blob.digest);
      await this.content.commitLayer(directory.path, diffId, sizeBytes);
      return { diffId, sizeBytes, blobs: [blob] };
    } catch (error) {
      this.content.discard(directory.path);
      void this.content.emptyTrash();
      throw error;
    }
  }
}

/** A number of places; who finds none waits, in order. */
class Slots {
  private free: number;
  private readonly waiting: (() => void)[] = [];

  constructor(count: number) {
    this.free = count;
  }

  async run<T>(signal: AbortSignal, { waiting }: { waiting: () => void }, work: () => Promise<T>): Promise<T> {
    if (this.free > 0) this.free--;
    else {
      const turn = new Promise<void>((resolve) => this.waiting.push(resolve));
      // Later than now, so that every layer has been named before one of them is said to wait.
      setImmediate(waiting);
      await turn;
    }
    try {
      if (signal.aborted) throw new Cancelled('context canceled');
      return await work();
    } finally {
      const next = this.waiting.shift();
      if (next === undefined) this.free++;
      else next();
    }
  }
}
