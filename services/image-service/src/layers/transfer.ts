/**
 * Brings one layer: its bytes from a file or over HTTP into the ingest file, hashed and unpacked as they pass. Runs in this thread for small layers and
 * in a worker for large ones (transferWorker.ts). A download that was cut off goes on where it stopped: what is on disk already passes through the
 * hashes and the unpacker first, then the rest is asked for by Range.
 */
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { type Digest, DigestVerifier } from '@flotilla/oci';
import { tryLockFile } from '@flotilla/syscalls';
import { type BlobSource, openBlob, RegistryError } from '../registry/distribution.ts';
import { LayerUnpacker, type UnpackedLayer, type UnpackJob } from './unpacker.ts';

export interface TransferJob {
  /** The file that holds the blob, or will. */
  readonly path: string;
  /** What the whole blob must be; absent for a file that is known good. */
  readonly blob?: { readonly digest: Digest; readonly sizeBytes: number };
  /** Where the bytes come from; absent: the file is whole. */
  readonly source?: BlobSource;
  /** Absent: only download. */
  readonly unpack?: UnpackJob;
}

export type TransferProgress =
  | { readonly step: 'downloading' | 'extracting'; readonly current: number; readonly total: number }
  | { readonly step: 'verifying' | 'downloaded' }
  | { readonly step: 'retrying'; readonly seconds: number };

/** The blob is not what its digest says. */
export class BlobMismatch extends Error {
  override readonly name = 'BlobMismatch';
}

const readBytes = 1024 * 1024;
const reportEveryMs = 100;
const maxAttempts = 5;

export async function transfer(
  job: TransferJob,
  report: (progress: TransferProgress) => void,
  signal: AbortSignal,
): Promise<UnpackedLayer | undefined> {
  let unpacker: LayerUnpacker | undefined;
  const fd = openSync(
    job.path,
    job.source === undefined ? constants.O_RDONLY : constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW,
    0o600,
  );
  try {
    if (job.source !== undefined && !tryLockFile(fd)) throw new BlobBusy(job.path);
    // The blob itself takes its room too, however large a manifest says that it is.
    const comingBytes = job.source === undefined ? 0 : Math.max(0, (job.blob?.sizeBytes ?? 0) - fstatSync(fd).size);
    if (job.unpack !== undefined) unpacker = new LayerUnpacker(job.unpack, comingBytes);
    const reading = new Reading(job, fd, unpacker, report, signal);
    await reading.fromFile();
    if (job.source !== undefined) await reading.fromSource(job.source);
    reading.verify();
    return await unpacker?.finish();
  } catch (error) {
    unpacker?.abandon();
    // Bytes that lie are of no use to a later attempt.
    if (error instanceof BlobMismatch) unlinkSync(job.path);
    throw error;
  } finally {
    closeSync(fd);
  }
}

/** Another process is downloading this blob to the same place. */
export class BlobBusy extends Error {
  override readonly name = 'BlobBusy';
}

class Reading {
  private readonly job: TransferJob;
  private readonly fd: number;
  private readonly unpacker: LayerUnpacker | undefined;
  private readonly report: (progress: TransferProgress) => void;
  private readonly signal: AbortSignal;
  private readonly verifier: DigestVerifier | undefined;
  private readonly total: number;
  private position = 0;
  private reportedAtMs = 0;

  constructor(
    job: TransferJob,
    fd: number,
    unpacker: LayerUnpacker | undefined,
    report: (progress: TransferProgress) => void,
    signal: AbortSignal,
  ) {
    this.job = job;
    this.fd = fd;
    this.unpacker = unpacker;
    this.report = report;
    this.signal = signal;
    this.verifier = job.blob === undefined ? undefined : new DigestVerifier(job.blob.digest);
    this.total = job.blob?.sizeBytes ?? fstatSync(fd).size;
  }

  /** Passes on what the file holds already. */
  async fromFile(): Promise<void> {
    if (fstatSync(this.fd).size > this.total) ftruncateSync(this.fd, 0);
    const buffers = [Buffer.allocUnsafe(readBytes), Buffer.allocUnsafe(readBytes)];
    for (let turn = 0; ; turn++) {
      this.signal.throwIfAborted();
      // The decoder works on the last buffer in another thread while this one is filled.
      const buffer = buffers[turn % 2] ?? Buffer.alloc(0);
      const length = readSync(this.fd, buffer, 0, buffer.length, this.position);
      if (length === 0) return;
      await this.take(buffer.subarray(0, length), this.job.source === undefined ? 'extracting' : 'downloading');
      await new Promise(setImmediate);
    }
  }

  async fromSource(source: BlobSource): Promise<void> {
    let attempt = 1;
    while (this.position < this.total) {
      const before = this.position;
      try {
        await this.download(source);
      } catch (error) {
        this.signal.throwIfAborted();
        if (error instanceof RegistryError && error.code === 'DIGEST_INVALID') throw this.mismatch(error);
        if (!isPassing(error)) throw error;
        // registry-proxy gives the last byte to nobody before the digest has been verified: stuck there twice, the upstream lies.
        if (this.position === this.total - 1 && before === this.position) throw this.mismatch(error);
        // A connection that brought something was worth a try of its own.
        if (this.position > before) attempt = 1;
        if (attempt >= maxAttempts) throw error;
        for (let seconds = attempt; seconds > 0; seconds--) {
          this.report({ step: 'retrying', seconds });
          await pause(1000, undefined, { signal: this.signal });
        }
        attempt++;
      }
    }
  }

  private async download(source: BlobSource): Promise<void> {
    const { body, offset } = await openBlob(source, this.position, this.signal);
    let skip = this.position - offset;
    for await (let chunk of body as AsyncIterable<Buffer>) {
      if (skip > 0) {
        const drop = Math.min(skip, chunk.length);
        skip -= drop;
        chunk = chunk.subarray(drop);
      }
      if (chunk.length === 0) continue;
      if (this.position + chunk.length > this.total)
        throw new BlobMismatch(`blob is longer than the ${this.total} bytes its descriptor says`);
      for (let at = 0; at < chunk.length; ) at += writeSync(this.fd, chunk, at, chunk.length - at, this.position + at);
      await this.take(chunk, 'downloading');
    }
    if (this.position < this.total) throw new RegistryError('unexpected EOF', { passing: true });
  }

  private async take(chunk: Buffer, step: 'downloading' | 'extracting'): Promise<void> {
    this.verifier?.update(chunk);
    this.position += chunk.length;
    const now = performance.now();
    if (now - this.reportedAtMs >= reportEveryMs || this.position === this.total) {
      this.reportedAtMs = now;
      this.report({ step, current: this.position, total: this.total });
    }
    await this.unpacker?.write(chunk);
  }

  private mismatch(cause?: unknown): BlobMismatch {
    return new BlobMismatch(`filesystem layer verification failed for digest ${this.job.blob?.digest}`, { cause });
  }

  verify(): void {
    if (this.job.source === undefined && this.job.blob === undefined) return;
    this.report({ step: 'verifying' });
    if (this.position !== this.total) throw new BlobMismatch(`blob has ${this.position} bytes, not ${this.total}`);
    if (this.verifier?.verified() === false) {
      throw this.mismatch();
    }
    this.report({ step: 'downloaded' });
    if (this.unpacker !== undefined) this.report({ step: 'extracting', current: this.total, total: this.total });
  }
}

function isPassing(error: unknown): boolean {
  if (error instanceof RegistryError) return error.passing;
  // Anything that happened to the connection; our own errors are classes of ours.
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'string' &&
    /^(ECONN|EPIPE|ETIMEDOUT|ERR_STREAM|UND_)/.test(error.code)
  );
}
