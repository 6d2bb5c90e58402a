/**
 * Fetching one blob, once, for everybody who wants it. The bytes go to a partial file; followers read that file as it grows, each at its
 * own pace, so the slowest of them, or one that leaves, holds up nobody. A cut connection, a stall or a restart of the proxy goes on by
 * Range where the file ends.
 *
 * The last byte is given to nobody before the digest has been verified: a lying upstream's blob never looks whole to a client.
 */
import { createHash, type Hash } from 'node:crypto';
import { constants, type FileHandle, open, rm } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorMessage } from '@flotilla/errors';
import { type Digest, digestAlgorithm, digestHex } from '@flotilla/oci';
import type { Logger } from '@flotilla/service-kit';
import { DistributionError, isUpstreamAway, UpstreamAway } from '../distributionError.ts';
import { batches } from './batches.ts';
import type { BlobStore } from './blobStore.ts';

/** Where a blob can be had: a repository, with somebody's credentials. */
export interface BlobSource {
  /** Repository and credentials in one, by which followers are told apart. */
  readonly key: string;
  /** `docker.io/library/busybox` */
  readonly repository: string;
  /** Asks for the blob, from this byte on. @throws DistributionError; one of status 416 when there is nothing after it. */
  fetch(from: number): Promise<FetchedBody>;
}

export interface FetchedBody {
  readonly body: Readable;
  /** The first byte's place in the blob: 0 when the upstream ignored the range. */
  readonly from: number;
  /** Bytes of the whole blob, when the upstream says so. */
  readonly sizeBytes: number | undefined;
}

export interface FillSettings {
  /** Pauses between attempts that brought no byte, milliseconds. */
  readonly retryPausesMs: readonly number[];
  /** Bytes above which a blob is refused. */
  readonly maxBlobBytes: number;
}

interface Waiter {
  readonly wake: () => void;
  readonly fail: (error: unknown) => void;
  readonly generation: number;
}

const rereadBytes = 1024 * 1024;
/** What may gather from upstream while the disk is at work. */
const batchBytes = 4 * 1024 * 1024;

export class BlobFill {
  readonly digest: Digest;
  /** Settles when the upstream has accepted the first request, or refused it. */
  readonly opened: Promise<void>;
  /** Settles when the blob is complete in the store, or cannot be had. */
  readonly finished: Promise<void>;
  private readonly store: BlobStore;
  private readonly settings: FillSettings;
  private readonly logger: Logger;
  private readonly sources: BlobSource[];
  private readonly waiters = new Set<Waiter>();
  private file: FileHandle | undefined;
  private users = 1;
  private hash: Hash;
  /** The frontier: bytes that followers may read, but for the last. */
  private written = 0;
  private size: number | undefined;
  private complete = false;
  private failure: unknown;
  /** Goes up when bytes that were already handed out turn out to be others. */
  private generation = 0;
  private resumed = false;
  private isOpen = false;
  /** Bytes that came from upstream in this run. */
  fetchedBytes = 0;
  private readonly resolveOpened: () => void;
  private readonly rejectOpened: (error: unknown) => void;

  constructor(digest: Digest, source: BlobSource, parts: { store: BlobStore; settings: FillSettings; logger: Logger }) {
    this.digest = digest;
    this.sources = [source];
    this.store = parts.store;
    this.settings = parts.settings;
    this.logger = parts.logger;
    this.hash = createHash(digestAlgorithm(digest));
    const opened = Promise.withResolvers<void>();
    this.opened = opened.promise;
    this.resolveOpened = opened.resolve;
    this.rejectOpened = opened.reject;
    this.opened.catch(() => undefined);
    this.finished = this.run();
    this.finished.catch(() => undefined);
  }

  /** Bytes of the whole blob, once the upstream has said. */
  get sizeBytes(): number | undefined {
    return this.size;
  }

  /** Whether this repository and these credentials are already known to be let in. */
  isFedBy(key: string): boolean {
    return this.sources.some((source) => source.key === key);
  }

  /** Another place to go on from, should the first fail. */
  addSource(source: BlobSource): void {
    if (!this.isFedBy(source.key)) this.sources.push(source);
  }

  /** A reader of the growing file. */
  follow(): FollowedBlob {
    this.users++;
    return new FollowedBlob(this, this.generation);
  }

  private async run(): Promise<void> {
    try {
      await this.openPartial();
      await this.fetchAll();
      await this.finish();
    } catch (error) {
      this.fail(error);
      throw error;
    } finally {
      await this.release();
    }
  }

  private async openPartial(): Promise<void> {
    const file = await open(this.store.partialPath(this.digest), constants.O_RDWR | constants.O_CREAT, 0o600);
    this.file = file;
    const { size } = await file.stat();
    const buffer = Buffer.allocUnsafe(Math.min(size, rereadBytes));
    for (let at = 0; at < size; ) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) break;
      this.hash.update(buffer.subarray(0, bytesRead));
      at += bytesRead;
      this.written = at;
    }
    this.resumed = this.written > 0;
  }

  /** Attempts until every byte is there; progress gives new patience, a source that definitely refuses is left for the next. */
  private async fetchAll(): Promise<void> {
    let idleAttempts = 0;
    let current = 0;
    for (;;) {
      const before = this.fetchedBytes;
      try {
        const source = this.sources[current];
        if (source === undefined) throw new UpstreamAway('no source left', { status: 502 });
        if (await this.fetchFrom(source)) return;
        throw new UpstreamAway('unexpected EOF', { status: 502 });
      } catch (error) {
        if (this.fetchedBytes > before) idleAttempts = 0;
        const pauseMs = this.settings.retryPausesMs[idleAttempts++];
        const another = current + 1 < this.sources.length;
        if (isVerdict(error) || (!this.isOpen && !another)) throw error;
        if (!isTransient(error) || pauseMs === undefined) {
          if (!another) throw error;
          current++;
          idleAttempts = 0;
        } else {
          this.logger.info({ digest: this.digest, written: this.written, reason: errorMessage(error) }, 'blob interrupted, going on');
          await sleep(pauseMs);
        }
      }
    }
  }

  /** One request. @returns whether every byte is there. */
  private async fetchFrom(source: BlobSource): Promise<boolean> {
    let fetched: FetchedBody;
    try {
      fetched = await source.fetch(this.written);
    } catch (error) {
      if (!(error instanceof DistributionError) || error.status !== 416 || this.written === 0) throw error;
      return this.endOfRange();
    }
    const { body, from, sizeBytes } = fetched;
    try {
      if (sizeBytes !== undefined && sizeBytes > this.settings.maxBlobBytes) throw tooLarge(sizeBytes);
      this.size = sizeBytes;
      this.resolveOpened();
      this.isOpen = true;
      if (from === this.written) await this.append(body);
      else if (from === 0) await this.overwrite(body);
      else throw new UpstreamAway('the upstream answered another range than was asked for', { status: 502 });
    } finally {
      body.destroy();
    }
    return this.size === undefined || this.written >= this.size;
  }

  /** Nothing after what we have: it was whole already, or it is something else. */
  private endOfRange(): boolean {
    if (this.hash.copy().digest('hex') !== digestHex(this.digest)) {
      this.startOver();
      return false;
    }
    this.size = this.written;
    this.resolveOpened();
    this.isOpen = true;
    return true;
  }

  private startOver(): void {
    this.hash = createHash(digestAlgorithm(this.digest));
    this.written = 0;
    this.resumed = false;
    this.disown();
  }

  private async append(body: Readable): Promise<void> {
    for await (const batch of batches(body, batchBytes)) {
      this.written += await this.put(batch, this.written);
      this.wake();
    }
  }

  /** The upstream ignored the range: write over what is there, and see whether it is the same. */
  private async overwrite(body: Readable): Promise<void> {
    const before = { length: this.written, digest: this.hash.digest('hex') };
    this.hash = createHash(digestAlgorithm(this.digest));
    let at = 0;
    for await (const batch of batches(body, batchBytes)) {
      for (const part of splitAt(batch, before.length - at)) {
        at += await this.put(part, at);
        if (at !== before.length) continue;
        if (this.hash.copy().digest('hex') !== before.digest) this.disown();
        this.resumed = false;
      }
      if (at > this.written) {
        this.written = at;
        this.wake();
      }
    }
    if (at < before.length) {
      // Cut again before it came to where we were. What is before `at` may be new, the rest is old.
      this.written = at;
      this.disown();
    }
  }

  /** Writes chunks at a place of the file. @returns how many bytes that was. */
  private async put(chunks: readonly Buffer[], at: number): Promise<number> {
    const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    if (at + length > (this.size ?? this.settings.maxBlobBytes)) {
      throw this.size === undefined ? tooLarge(at + length) : await this.lie('the upstream sent more bytes than it said');
    }
    for (const chunk of chunks) this.hash.update(chunk);
    this.fetchedBytes += length;
    await writeAll(this.handle(), chunks, at, length);
    return length;
  }

  private handle(): FileHandle {
    if (this.file === undefined) throw new Error('the partial file is not open');
    return this.file;
  }

  /** Everything has arrived: verify, let followers have the last byte, keep it. */
  private async finish(): Promise<void> {
    if (this.hash.digest('hex') !== digestHex(this.digest)) {
      if (!this.resumed) throw await this.lie('the content does not match its digest');
      // The start was from an earlier run, and may have been damaged since: once more, from nothing.
      this.startOver();
      await this.handle().truncate(0);
      await this.fetchAll();
      return this.finish();
    }
    // An earlier run may have left more than there is.
    await this.handle().truncate(this.written);
    this.size = this.written;
    this.complete = true;
    this.wake();
    const sources = new Set(this.sources.slice(0, 1).map((source) => source.repository));
    await this.store.commit(this.digest, this.handle(), this.store.partialPath(this.digest), this.written, [...sources]);
  }

  /** Nothing of it is kept. */
  private async lie(what: string): Promise<DistributionError> {
    await rm(this.store.partialPath(this.digest), { force: true });
    this.logger.warn({ digest: this.digest, repository: this.sources[0]?.repository, what }, 'upstream lied, nothing kept');
    return new DistributionError('DIGEST_INVALID', `${what}: ${this.digest}`, { status: 502 });
  }

  private fail(error: unknown): void {
    this.failure = error;
    this.rejectOpened(error);
    for (const waiter of this.waiters) waiter.fail(error);
    this.waiters.clear();
  }

  /** Bytes that were handed out are not those of the blob: their readers are cut. */
  private disown(): void {
    this.generation++;
    for (const waiter of this.waiters) {
      if (waiter.generation < this.generation) {
        this.waiters.delete(waiter);
        waiter.fail(otherBytes());
      }
    }
  }

  private wake(): void {
    for (const waiter of this.waiters) waiter.wake();
    this.waiters.clear();
  }

  private limit(): number {
    if (this.complete) return this.written;
    return Math.min(this.written, Math.max(0, (this.size ?? this.written) - 1));
  }

  /** Waits until there are bytes after `position`. @returns how far one may read; `position` itself at the end. */
  async availableTo(position: number, generation: number, signal: AbortSignal | undefined): Promise<number> {
    for (;;) {
      if (this.failure !== undefined) throw this.failure;
      if (generation !== this.generation) throw otherBytes();
      const limit = this.limit();
      if (limit > position || this.complete) return limit;
      signal?.throwIfAborted();
      await new Promise<void>((resolve, reject) => {
        const leave = (): void => {
          this.waiters.delete(waiter);
          reject(signal?.reason);
        };
        const settled = (then: () => void) => (): void => {
          signal?.removeEventListener('abort', leave);
          then();
        };
        const waiter: Waiter = { wake: settled(resolve), fail: (error) => settled(() => reject(error))(), generation };
        this.waiters.add(waiter);
        signal?.addEventListener('abort', leave, { once: true });
      });
    }
  }

  async readAt(buffer: Buffer, length: number, position: number): Promise<number> {
    return (await this.handle().read(buffer, 0, length, position)).bytesRead;
  }

  /** The file is closed when the fill and its last follower are done with it. */
  async release(): Promise<void> {
    this.users--;
    if (this.users === 0) await this.file?.close();
  }
}

/** A follower's view of a fill. */
export class FollowedBlob {
  private readonly fill: BlobFill;
  private readonly generation: number;
  private closed = false;

  constructor(fill: BlobFill, generation: number) {
    this.fill = fill;
    this.generation = generation;
  }

  get sizeBytes(): number | undefined {
    return this.fill.sizeBytes;
  }

  available(position: number, signal?: AbortSignal): Promise<number> {
    return this.fill.availableTo(position, this.generation, signal);
  }

  read(buffer: Buffer, length: number, position: number): Promise<number> {
    return this.fill.readAt(buffer, length, position);
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.fill.release();
  }
}

/** A batch in two, where the second begins `length` bytes later; in one when it is not reached, or was before. */
function splitAt(batch: readonly Buffer[], length: number): (readonly Buffer[])[] {
  let rest = length;
  for (const [index, chunk] of batch.entries()) {
    if (rest <= 0) break;
    if (chunk.length >= rest) {
      return [
        [...batch.slice(0, index), chunk.subarray(0, rest)],
        [chunk.subarray(rest), ...batch.slice(index + 1)],
      ];
    }
    rest -= chunk.length;
  }
  return [batch];
}

async function writeAll(file: FileHandle, chunks: readonly Buffer[], at: number, length: number): Promise<void> {
  const { bytesWritten } = await file.writev([...chunks], at);
  if (bytesWritten === length) return;
  // A short write: the disk is nearly full, or a signal came.
  const rest = Buffer.concat(chunks, length).subarray(bytesWritten);
  for (let done = 0; done < rest.length; ) {
    done += (await file.write(rest, done, rest.length - done, at + bytesWritten + done)).bytesWritten;
  }
}

function tooLarge(sizeBytes: number): DistributionError {
  return new DistributionError('SIZE_INVALID', `blob of ${sizeBytes} bytes is larger than this proxy takes`, { status: 502 });
}

function otherBytes(): DistributionError {
  return new DistributionError('DIGEST_INVALID', 'the upstream changed what it sends', { status: 502 });
}

/** An end that no other attempt can better. */
function isVerdict(error: unknown): boolean {
  return error instanceof DistributionError && (error.code === 'DIGEST_INVALID' || error.code === 'SIZE_INVALID');
}

/** A cut body, a stall, an ill upstream: worth another attempt. Errors of our own disk are not. */
function isTransient(error: unknown): boolean {
  if (error instanceof DistributionError) return isUpstreamAway(error);
  const code = (error as NodeJS.ErrnoException).code ?? '';
  return !['ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'EACCES'].includes(code);
}
