/**
 * Runs transfers: small ones in this thread, for a thread costs more than they do; large ones in worker threads, so that hashing and writing
 * hundreds of megabytes never keeps a request waiting. Workers end when they have had nothing to do for a while, and give their memory back.
 */
import { Worker } from 'node:worker_threads';
import { Cancelled, System, Unavailable } from '@flotilla/errors';
import { RegistryError } from '../adapters/distribution.ts';
import { LayerContentError } from '../contentError.ts';
import { type TransferJob, type TransferProgress, transfer } from './transfer.ts';
import { describeFailure, type TransferFailure, type WorkerReply, type WorkerRequest } from './transferWorker.ts';
import type { UnpackedLayer } from './unpacker.ts';

export const inThreadBytes: number = 2 * 1024 * 1024;
const idleMs = 5_000;

interface Idle {
  readonly worker: Worker;
  readonly timer: NodeJS.Timeout;
}

export class TransferWorkers {
  private readonly idle: Idle[] = [];
  private readonly all = new Set<Worker>();

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
    if (sizeBytes > inThreadBytes) return this.inWorker(job, report, signal);
    try {
      return await transfer(job, report, signal);
    } catch (error) {
      throw asError(describeFailure(error, signal), error);
    }
  }

  private inWorker(
    job: TransferJob,
    report: (progress: TransferProgress) => void,
    signal: AbortSignal,
  ): Promise<UnpackedLayer | undefined> {
    const worker = this.take();
    const post = (request: WorkerRequest): void => worker.postMessage(request);
    return new Promise((resolve, reject) => {
      const abort = (): void => post({ kind: 'abort' });
      const settle = (): void => {
        signal.removeEventListener('abort', abort);
        // Not removeAllListeners: it would also take Node's own, and the worker would never be heard again.
        worker.off('message', onMessage).off('error', died).off('exit', died);
      };
      const onMessage = (reply: WorkerReply): void => {
        if (reply.kind === 'progress') {
          report(reply.progress);
          return;
        }
        settle();
        this.rest(worker);
        if (reply.kind === 'done') resolve(reply.layer);
        else reject(asError(reply.failure));
      };
      const died = (cause: unknown): void => {
        settle();
        this.all.delete(worker);
        reject(new System('a layer worker ended', { cause }));
      };
      worker.on('message', onMessage).on('error', died).on('exit', died);
      signal.addEventListener('abort', abort, { once: true });
      post({ kind: 'start', job });
      if (signal.aborted) abort();
    });
  }

  private take(): Worker {
    const idle = this.idle.pop();
    if (idle !== undefined) {
      clearTimeout(idle.timer);
      idle.worker.ref();
      return idle.worker;
    }
    const worker = new Worker(new URL('./transferWorker.ts', import.meta.url), {
      resourceLimits: { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 8 },
    });
    this.all.add(worker);
    // One that fails while it has nothing to do is only missed.
    worker.on('error', () => this.all.delete(worker));
    return worker;
  }

  private rest(worker: Worker): void {
    worker.unref();
    const timer = setTimeout(() => {
      const at = this.idle.findIndex((each) => each.worker === worker);
      if (at >= 0) this.idle.splice(at, 1);
      void this.end(worker);
    }, idleMs).unref();
    this.idle.push({ worker, timer });
  }

  private async end(worker: Worker): Promise<void> {
    this.all.delete(worker);
    await worker.terminate();
  }

  async stop(): Promise<void> {
    for (const { timer } of this.idle.splice(0)) clearTimeout(timer);
    await Promise.all([...this.all].map((worker) => this.end(worker)));
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
