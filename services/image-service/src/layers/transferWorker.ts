/** The worker's side of transferWorkers.ts: one transfer at a time, its progress and its end as messages. */
import { parentPort } from 'node:worker_threads';
import { errorMessage } from '@flotilla/errors';
import { RegistryError } from '../adapters/distribution.ts';
import { BlobBusy, BlobMismatch, type TransferJob, type TransferProgress, transfer } from './transfer.ts';
import { isLayerFault } from './treeBuilder.ts';
import type { UnpackedLayer } from './unpacker.ts';

export type WorkerRequest = { readonly kind: 'start'; readonly job: TransferJob } | { readonly kind: 'abort' };

/** What went wrong, in a form that passes between threads. */
export interface TransferFailure {
  readonly fault: 'layer' | 'blob' | 'busy' | 'registry' | 'aborted' | 'system';
  readonly message: string;
  readonly code: string;
  readonly status: number;
}

export type WorkerReply =
  | { readonly kind: 'progress'; readonly progress: TransferProgress }
  | { readonly kind: 'done'; readonly layer: UnpackedLayer | undefined }
  | { readonly kind: 'failed'; readonly failure: TransferFailure };

export function describeFailure(error: unknown, signal: AbortSignal): TransferFailure {
  const message = errorMessage(error);
  if (signal.aborted) return { fault: 'aborted', message, code: '', status: 0 };
  if (error instanceof BlobMismatch) return { fault: 'blob', message, code: '', status: 0 };
  if (error instanceof BlobBusy) return { fault: 'busy', message, code: '', status: 0 };
  if (error instanceof RegistryError) return { fault: 'registry', message, code: error.code, status: error.status };
  if (isLayerFault(error)) return { fault: 'layer', message, code: '', status: 0 };
  return { fault: 'system', message, code: '', status: 0 };
}

const port = parentPort;
if (port !== null) {
  let abort = new AbortController();
  const reply = (message: WorkerReply): void => port.postMessage(message);
  port.on('message', (request: WorkerRequest) => {
    if (request.kind === 'abort') {
      abort.abort();
      return;
    }
    abort = new AbortController();
    const { signal } = abort;
    transfer(request.job, (progress) => reply({ kind: 'progress', progress }), signal).then(
      (layer) => reply({ kind: 'done', layer }),
      (error: unknown) => reply({ kind: 'failed', failure: describeFailure(error, signal) }),
    );
  });
}
