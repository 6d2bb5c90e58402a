/**
 * Fetching one blob, once, for everybody who wants it. The bytes go to a partial file; followers read that file as it grows, each at its
 * own pace, so the slowest of them, or one that leaves, holds up nobody. A cut connection, a stall or a restart of the proxy goes on by
 * Range where the file ends. Where another replica is at it already, this one follows that one's file, and takes over when it dies.
 *
 * The last byte is given to nobody before the digest has been verified: a lying upstream's blob never looks whole to a client.
 */
import { createHash, type Hash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorMessage } from '@flotilla/errors';
import { type Digest, digestAlgorithm, digestHex } from '@flotilla/oci';
import type { Logger } from '@flotilla/service-kit';
import { DistributionError, isUpstreamAway, UpstreamAway } from '../distributionError.ts';
import { batches } from './batches.ts';
import type { BlobStore } from './blobStore.ts';
import { FollowedBlob, Frontier } from './frontier.ts';
import { PartialFile } from './partialFile.ts';

/** Where a blob can be had: a repository, with somebody's credentials. */
export interface BlobSource {
  /** Repository and credentials in one, by which followers are told apart. */
  readonly key: string;
  /** `docker.io/library/busybox` */
  readonly repository: string;
  /** Asks for the blob, from this byte on. @throws DistributionError; one of status 416 when there is nothing after it. */
  fetch(from: number): Promise<FetchedBody>;
  /** Asks whether it may be had, and how many bytes it has, if the upstream says. @throws DistributionError */
  check(): Promise<number | undefined>;
}

export interface FetchedBody {
  readonly body: Readable;
  /** The first byte's place in the blob: 0 when the upstream ignored the range. */
  readonly from: number;
  /** Bytes of the whole blob, when the upstream says so. */
  readonly sizeBytes: number | undefined;
  /** Who sent it: `https://registry-1.docker.io`. */
  readonly origin: string;
  /** Notes that it was not the blob. @returns whether somebody else may be asked. */
  readonly disown: (reason: string) => boolean;
}

export interface FillSettings {
  /** Pauses between attempts that brought no byte, milliseconds. */
  readonly retryPausesMs: readonly number[];
  /** Bytes above which a blob is refused. */
  readonly maxBlobBytes: number;
  /** Told of bytes that came from outside. */
  readonly onFetched?: (bytes: number) => void;
}

/** What may gather from upstream while the disk is at work. */
const batchBytes = 4 * 1024 * 1024;
/** How often another replica's file is looked at. */
const lookMs = 25;

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
  private readonly frontier = new Frontier();
  private hash: Hash;
  /** Whether the file began in an earlier run, and may have been damaged since. */
  private resumed = false;
  private isOpen = false;
  private fetchedBytes = 0;
  /** Who sent what is in the file, as far as this run knows: one alone can be blamed. */
  private readonly origins = new Map<string, FetchedBody['disown']>();
  private readonly resolveOpened: () => void;
  private readonly rejectOpened: (error: unknown) => void;

  constructor(digest: Digest, source: BlobSource, parts: { store: BlobStore; settings: FillSettings; logger: Logger }) {
    this.digest = digest;
    this.sources = [source];
    this.store = parts.store;
    this.settings = parts.settings;
    this.logger = parts.logger;
    this.hash = this.newHash();
    const opened = Promise.withResolvers<void>();
    this.opened = opened.promise;
    this.resolveOpened = opened.resolve;
    this.rejectOpened = opened.reject;
    this.opened.catch(() => undefined);
    this.finished = this.run();
    this.finished.catch(() => undefined);
  }

  private newHash(): Hash {
    return createHash(digestAlgorithm(this.digest));
  }

  /** Whether every byte has arrived and was verified; it may still be on its way into the store. */
  get isVerified(): boolean {
    return this.frontier.isDone;
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
    return new FollowedBlob(this.frontier);
  }

  private async run(): Promise<void> {
    try {
      const file = await this.takeFile();
      if (file === undefined) return;
      try {
        await this.fetchAll();
        await this.finish();
      } finally {
        this.file.unlock();
      }
    } catch (error) {
      this.rejectOpened(error);
      this.frontier.fail(error);
      throw error;
    } finally {
      await this.frontier.release();
    }
  }

  private get file(): PartialFile {
    return this.frontier.file;
  }

  /** Gets hold of the partial file. Undefined when another replica has completed the blob meanwhile. */
  private async takeFile(): Promise<PartialFile | undefined> {
    for (;;) {
      const file = await PartialFile.open(this.store.partialPath(this.digest));
      this.frontier.useFile(file);
      const state = (await file.lock()) ? 'ours' : await this.followOther(file);
      if (state === 'complete') return undefined;
      if (state === 'gone') continue;
      if (await this.isThereMeanwhile(file)) return undefined;
      await this.reread();
      return file;
    }
  }

  /** Whether another replica has completed the blob since it was looked for, so that the file is a new one for nothing. */
  private async isThereMeanwhile(file: PartialFile): Promise<boolean> {
    if ((await file.size()) > 0) return false;
    const sizeBytes = await this.store.find(this.digest);
    const whole = sizeBytes === undefined ? undefined : await this.store.openAsFile(this.digest);
    if (sizeBytes === undefined || whole === undefined) return false;
    await file.remove();
    this.frontier.useFile(whole);
    await this.letIn();
    this.frontier.complete(sizeBytes);
    return true;
  }

  private async reread(): Promise<void> {
    this.hash = this.newHash();
    const written = await this.file.reread((chunk) => this.hash.update(chunk));
    this.frontier.setWritten(written);
    this.resumed = written > 0;
  }

  /** Follows the file that another replica writes, until it is complete, or ours because that replica died, or gone. */
  private async followOther(file: PartialFile): Promise<'complete' | 'ours' | 'gone'> {
    await this.letIn();
    this.logger.debug({ digest: this.digest }, 'following another replica');
    for (;;) {
      const current = await file.isCurrent();
      this.frontier.setWritten(await file.size());
      if (!current) {
        const sizeBytes = await this.store.find(this.digest);
        if (sizeBytes === undefined) return 'gone';
        this.frontier.complete(sizeBytes);
        return 'complete';
      }
      if (await file.lock()) return 'ours';
      await sleep(lookMs);
    }
  }

  /** Another replica asked for its own client; ours has to be let in too. */
  private async letIn(): Promise<void> {
    if (this.isOpen) return;
    this.frontier.setSize(await this.firstSource().check());
    this.open();
  }

  private firstSource(): BlobSource {
    const [source] = this.sources;
    if (source === undefined) throw new UpstreamAway('no source left', { status: 502 });
    return source;
  }

  private open(): void {
    this.isOpen = true;
    this.resolveOpened();
  }

  /** Attempts until every byte is there; progress gives new patience, a source that definitely refuses is left for the next. */
  private async fetchAll(): Promise<void> {
    let idleAttempts = 0;
    let current = 0;
    for (;;) {
      const before = this.fetchedBytes;
      try {
        if (await this.fetchFrom(this.sources[current] ?? this.firstSource())) return;
        throw new UpstreamAway('unexpected EOF', { status: 502 });
      } catch (error) {
        if (this.fetchedBytes > before) idleAttempts = 0;
        const pauseMs = this.settings.retryPausesMs[idleAttempts++];
        const another = current + 1 < this.sources.length;
        if (isVerdict(error) || (!this.isOpen && !another)) throw error;
        if (isTransient(error) && pauseMs !== undefined) {
          this.logger.info({ digest: this.digest, written: this.frontier.written, reason: errorMessage(error) }, 'blob interrupted');
          await sleep(pauseMs);
        } else if (another) {
          current++;
          idleAttempts = 0;
        } else throw error;
      }
    }
  }

  /** One request. @returns whether every byte is there. */
  private async fetchFrom(source: BlobSource): Promise<boolean> {
    const { written } = this.frontier;
    let fetched: FetchedBody;
    try {
      fetched = await source.fetch(written);
    } catch (error) {
      if (!(error instanceof DistributionError) || error.status !== 416 || written === 0) throw error;
      return this.endOfRange();
    }
    const { body, from, sizeBytes, origin, disown } = fetched;
    this.origins.set(origin, disown);
    try {
      if (sizeBytes !== undefined && sizeBytes > this.settings.maxBlobBytes) throw tooLarge(sizeBytes);
      this.frontier.setSize(sizeBytes);
      this.open();
      if (from === written) await this.append(body);
      else if (from === 0) await this.overwrite(body);
      else throw new UpstreamAway('the upstream answered another range than was asked for', { status: 502 });
    } finally {
      body.destroy();
    }
    return sizeBytes === undefined || this.frontier.written >= sizeBytes;
  }

  /** Nothing after what we have: it was whole already, or it is something else. */
  private async endOfRange(): Promise<boolean> {
    if (this.hash.copy().digest('hex') !== digestHex(this.digest)) {
      await this.startOver();
      return false;
    }
    this.frontier.setSize(this.frontier.written);
    this.open();
    return true;
  }

  /** In a new file, so that whoever follows the old one, in whatever process, sees that it is no good. */
  private async startOver(): Promise<void> {
    await this.file.remove();
    const file = await PartialFile.open(this.store.partialPath(this.digest));
    this.frontier.disown();
    this.frontier.useFile(file);
    if (!(await file.lock())) throw new UpstreamAway('another replica has begun the blob anew', { status: 502 });
    this.hash = this.newHash();
    this.resumed = false;
    this.origins.clear();
  }

  private async append(body: Readable): Promise<void> {
    for await (const batch of batches(body, batchBytes)) {
      const { written } = this.frontier;
      this.frontier.setWritten(written + (await this.put(batch, written)));
    }
  }

  /** The upstream ignored the range: write over what is there, and see whether it is the same. */
  private async overwrite(body: Readable): Promise<void> {
    const before = { length: this.frontier.written, digest: this.hash.digest('hex') };
    this.hash = this.newHash();
    let at = 0;
    for await (const batch of batches(body, batchBytes)) {
      for (const part of splitAt(batch, before.length - at)) {
        at += await this.put(part, at);
        if (at !== before.length) continue;
        this.resumed = false;
        if (this.hash.copy().digest('hex') !== before.digest) {
          await this.startOver();
          throw new UpstreamAway('the blob has changed', { status: 502 });
        }
      }
      if (at > this.frontier.written) this.frontier.setWritten(at);
    }
    // Cut again before it came to where we were: the start is new, the rest is old, and the next attempt begins in between.
    if (at < before.length) await this.reread();
  }

  /** Writes chunks at a place of the file. @returns how many bytes that was. */
  private async put(chunks: readonly Buffer[], at: number): Promise<number> {
    const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    const { sizeBytes } = this.frontier;
    if (sizeBytes === undefined && at + length > this.settings.maxBlobBytes) throw tooLarge(at + length);
    if (sizeBytes !== undefined && at + length > sizeBytes) {
      await this.discredit('the upstream sent more bytes than it said');
      throw new UpstreamAway('the upstream sent more bytes than it said', { status: 502 });
    }
    for (const chunk of chunks) this.hash.update(chunk);
    this.fetchedBytes += length;
    this.settings.onFetched?.(length);
    await this.file.write(chunks, at, length);
    return length;
  }

  /** Everything has arrived: verify, let followers have the last byte, keep it. */
  private async finish(): Promise<void> {
    if (this.hash.digest('hex') !== digestHex(this.digest)) {
      await this.discredit('the content does not match its digest');
      await this.fetchAll();
      return this.finish();
    }
    const { written } = this.frontier;
    // An earlier run may have left more than there is.
    await this.file.truncate(written);
    this.frontier.complete(written);
    await this.store.commit(this.digest, this.file, written, [this.firstSource().repository]);
  }

  /** What has come is not the blob: begun again where somebody else can be asked. @throws DIGEST_INVALID where nobody can. */
  private async discredit(what: string): Promise<void> {
    if (!this.mayStartOver(what)) throw await this.lie(what);
    await this.startOver();
  }

  /** Whether the fault may be another's than the only one there is to ask. */
  private mayStartOver(what: string): boolean {
    if (this.resumed || this.origins.size > 1) return true;
    const [disown] = this.origins.values();
    return disown?.(`${what}: ${this.digest}`) === true;
  }

  /** Nothing of it is kept. */
  private async lie(what: string): Promise<DistributionError> {
    await this.file.remove();
    this.logger.warn({ digest: this.digest, repository: this.sources[0]?.repository, what }, 'upstream lied, nothing kept');
    return new DistributionError('DIGEST_INVALID', `${what}: ${this.digest}`, { status: 502 });
  }
}

/** A batch in two, where the second begins `length` bytes later; in one when that place is not in it. */
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

function tooLarge(sizeBytes: number): DistributionError {
  return new DistributionError('SIZE_INVALID', `blob of ${sizeBytes} bytes is larger than this proxy takes`, { status: 502 });
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
