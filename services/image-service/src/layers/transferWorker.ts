/**
 * The worker's side of transferWorkers.ts: transfers, each with its progress and its end as messages. What it imports is loaded again in every
 * worker: nothing that drags gRPC in (as @flotilla/errors does).
 */
import { parentPort } from 'node:worker_threads';
import { RegistryError } from '../registry/distribution.ts';
import { BlobBusy, BlobMismatch, type TransferJob, type TransferProgress, transfer } from './transfer.ts';
import { isLayerFault } from './treeBuilder.ts';
import type { UnpackedLayer } from './unpacker.ts';

export type WorkerRequest =
  | { readonly kind: 'start'; readonly id: number; readonly job: TransferJob }
  | { readonly kind: 'abort'; readonly id: number };

/** What went wrong, in a form that passes between threads. */
export interface TransferFailure {
  readonly fault: 'layer' | 'blob' | 'busy' | 'registry' | 'aborted' | 'system';
  readonly message: string;
  readonly code: string;
  readonly status: number;
}

export type WorkerReply =
  | { readonly kind: 'progress'; readonly id: number; readonly progress: TransferProgress }
  | { readonly kind: 'done'; readonly id: number; readonly layer: UnpackedLayer | undefined }
  | { readonly kind: 'failed'; readonly id: number; readonly failure: TransferFailure };

export function describeFailure(error: unknown, signal: AbortSignal): TransferFailure {
  const message = error instanceof Error ? error.message : String(error);
  if (signal.aborted) return { fault: 'aborted', message, code: '', status: 0 };
  if (error instanceof BlobMismatch) return { fault: 'blob', message, code: '', status: 0 };
  if (error instanceof BlobBusy) return { fault: 'busy', message, code: '', status: 0 };
  if (error instanceof RegistryError) return { fault: 'registry', message, code: error.code, status: error.status };
  if (isLayerFault(error)) return { fault: 'layer', message, code: '', status: 0 };
  return { fault: 'system', message, code: '', status: 0 };
}

const port = parentPort;
if (port !== null) {
  const running = new Map<number, AbortController>();
  const reply = (message: WorkerReply): void => port.postMessage(message);
  port.on('message', (request: WorkerRequest) => {
    const { id } = request;
    if (request.kind === 'abort') {
      running.get(id)?.abort();
      return;
    }
    const abort = new AbortController();
    running.set(id, abort);
    transfer(request.job, (progress) => reply({ kind: 'progress', id, progress }), abort.signal)
      .then(
        (layer) => reply({ kind: 'done', id, layer }),
        (error: unknown) => reply({ kind: 'failed', id, failure: describeFailure(error, abort.signal) }),
      )
      .finally(() => running.delete(id));
  });
}
