/**
 * Runs transfers: small ones in this thread, for a thread costs more than they do; large ones in worker threads, so that hashing and writing
 * hundreds of megabytes never keeps a request waiting. A worker runs several transfers at a time (decompression has threads of its own), so there are
 * fewer workers than processors. Workers end when they have had nothing to do for a while, and give their memory back.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { Cancelled, System, Unavailable } from '@flotilla/errors';
import { LayerContentError } from '../contentError.ts';
import { RegistryError } from '../registry/distribution.ts';
import { type TransferJob, type TransferProgress, transfer } from './transfer.ts';
import { describeFailure, type TransferFailure, type WorkerReply, type WorkerRequest } from './transferWorker.ts';
import type { UnpackedLayer } from './unpacker.ts';

const inThreadBytes = 2 * 1024 * 1024;
const idleMs = 10_000;
const maxWorkers = Math.max(1, Math.min(3, availableParallelism() - 1));

interface Waiting {
  readonly report: (progress: TransferProgress) => void;
  readonly resolve: (layer: UnpackedLayer | undefined) => void;
  readonly reject: (error: Error) => void;
}

export class TransferWorkers {
  private readonly workers = new Set<LayerWorker>();

  /**
   * Brings a layer.
   *
   * @param sizeBytes - how much work it is.
   * @throws LayerContentError for what is wrong with the content; RegistryError; Cancelled; System.
   */
  async run(
    job: TransferJob,
    sizeBytes: number,
    report: (progress: TransferProgress) => void,
    signal: AbortSignal,
  ): Promise<UnpackedLayer | undefined> {
    if (sizeBytes > inThreadBytes) return this.pick().run(job, report, signal);
    try {
      return await transfer(job, report, signal);
    } catch (error) {
      throw asError(describeFailure(error, signal), error);
    }
  }

  /** The worker with the least to do; a new one while there may be more and none is free. */
  private pick(): LayerWorker {
    const [least] = [...this.workers].sort((a, b) => a.load - b.load);
    if (least !== undefined && (least.load === 0 || this.workers.size >= maxWorkers)) return least;
    const worker = new LayerWorker((ended) => this.workers.delete(ended));
    this.workers.add(worker);
    return worker;
  }

  async stop(): Promise<void> {
    await Promise.all([...this.workers].map((worker) => worker.end()));
  }
}

/** One worker thread and the transfers it runs. */
class LayerWorker {
  private readonly worker: Worker;
  private readonly onEnd: (worker: LayerWorker) => void;
  private readonly waiting = new Map<number, Waiting>();
  private nextId = 1;
  private idle: NodeJS.Timeout | undefined;

  constructor(onEnd: (worker: LayerWorker) => void) {
    this.onEnd = onEnd;
    this.worker = new Worker(new URL('./transferWorker.ts', import.meta.url), { resourceLimits: { maxOldGenerationSizeMb: 128 } });
    this.worker.on('message', (reply: WorkerReply) => this.hear(reply));
    this.worker.on('error', (error) => this.died(error));
    this.worker.on('exit', () => this.died(undefined));
  }

  get load(): number {
    return this.waiting.size;
  }

  run(job: TransferJob, report: Waiting['report'], signal: AbortSignal): Promise<UnpackedLayer | undefined> {
    const id = this.nextId++;
    const post = (request: WorkerRequest): void => this.worker.postMessage(request);
    clearTimeout(this.idle);
    this.worker.ref();
    const abort = (): void => post({ kind: 'abort', id });
    signal.addEventListener('abort', abort, { once: true });
    return new Promise<UnpackedLayer | undefined>((resolve, reject) => {
      this.waiting.set(id, { report, resolve, reject });
      post({ kind: 'start', id, job });
      if (signal.aborted) abort();
    }).finally(() => signal.removeEventListener('abort', abort));
  }

  private hear(reply: WorkerReply): void {
    const waiting = this.waiting.get(reply.id);
    if (reply.kind === 'progress') {
      waiting?.report(reply.progress);
      return;
    }
    this.waiting.delete(reply.id);
    if (this.waiting.size === 0) {
      this.worker.unref();
      this.idle = setTimeout(() => void this.end(), idleMs).unref();
    }
    if (reply.kind === 'done') waiting?.resolve(reply.layer);
    else waiting?.reject(asError(reply.failure));
  }

  private died(cause: unknown): void {
    this.onEnd(this);
    for (const { reject } of this.waiting.values()) reject(new System('a layer worker ended', { cause }));
    this.waiting.clear();
  }

  async end(): Promise<void> {
    clearTimeout(this.idle);
    this.onEnd(this);
    await this.worker.terminate();
  }
}

function asError(failure: TransferFailure, cause?: unknown): Error {
  const options = cause === undefined ? {} : { cause };
  switch (failure.fault) {
    case 'layer':
    case 'blob':
      return new LayerContentError(failure.message, options);
    case 'busy':
      return new Unavailable(failure.message, options);
    case 'registry':
      return new RegistryError(failure.message, { code: failure.code, status: failure.status, ...options });
    case 'aborted':
      return new Cancelled('context canceled', options);
    case 'system':
      return new System(failure.message, options);
  }
}
