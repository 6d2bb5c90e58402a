/** How far a growing blob has come, and those who wait for more of it. Knows nothing of where the bytes come from. */
import { DistributionError } from '../distributionError.ts';
import type { PartialFile } from './partialFile.ts';

export class Frontier {
  private current: PartialFile | undefined;
  /** Files of before, closed at the end: somebody may still be reading in them. */
  private readonly former: PartialFile[] = [];
  private readonly waiters = new Set<() => void>();
  /** Whoever fills it, and each follower. */
  private users = 1;
  private position = 0;
  private size: number | undefined;
  private isComplete = false;
  private failure: unknown;
  /** Goes up when bytes that were already handed out turn out to be others. */
  private epoch = 0;

  get file(): PartialFile {
    if (this.current === undefined) throw new Error('the partial file is not open');
    return this.current;
  }

  /** Bytes in the file. */
  get written(): number {
    return this.position;
  }

  /** Bytes of the whole blob, once the upstream has said. */
  get sizeBytes(): number | undefined {
    return this.size;
  }

  get isDone(): boolean {
    return this.isComplete;
  }

  get generation(): number {
    return this.epoch;
  }

  /** Goes on in this file, from its start. */
  useFile(file: PartialFile): void {
    if (this.current !== undefined) {
      if (this.position > 0) this.disown();
      this.current.unlock();
      this.former.push(this.current);
    }
    this.current = file;
    this.position = 0;
  }

  setSize(sizeBytes: number | undefined): void {
    this.size = sizeBytes;
  }

  setWritten(written: number): void {
    if (written < this.position) this.disown();
    const more = written > this.position;
    this.position = written;
    if (more) this.wake();
  }

  /** Verified to its end: the last byte may go out too. */
  complete(sizeBytes: number): void {
    this.position = sizeBytes;
    this.size = sizeBytes;
    this.isComplete = true;
    this.wake();
  }

  /** It cannot be had: every reader is told. */
  fail(error: unknown): void {
    if (this.isComplete) return;
    this.failure = error;
    this.wake();
  }

  /** What was handed out is not the blob: who has read of it is cut, others go on waiting. */
  disown(): void {
    this.epoch++;
    this.wake();
  }

  private wake(): void {
    const waiting = [...this.waiters];
    this.waiters.clear();
    for (const wake of waiting) wake();
  }

  private limit(): number {
    return this.isComplete ? this.position : Math.min(this.position, Math.max(0, (this.size ?? this.position) - 1));
  }

  /** Waits until there are bytes after `position`. @returns how far one may read; `position` itself at the end. */
  async availableTo(position: number, generation: number | undefined, signal: AbortSignal | undefined): Promise<number> {
    for (;;) {
      if (this.failure !== undefined) throw this.failure;
      if (generation !== undefined && generation !== this.epoch) throw otherBytes();
      const limit = this.limit();
      if (limit > position || this.isComplete) return limit;
      signal?.throwIfAborted();
      await this.progress(signal);
    }
  }

  private progress(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (then: () => void): void => {
        this.waiters.delete(wake);
        signal?.removeEventListener('abort', leave);
        then();
      };
      const leave = (): void => settle(() => reject(signal?.reason));
      const wake = (): void => settle(resolve);
      this.waiters.add(wake);
      signal?.addEventListener('abort', leave, { once: true });
    });
  }

  retain(): void {
    this.users++;
  }

  /** The files are closed when the one who fills it and the last follower are done. */
  async release(): Promise<void> {
    this.users--;
    if (this.users > 0) return;
    for (const file of this.former) await file.close();
    await this.current?.close();
  }
}

/** A follower's view of a growing blob. */
export class FollowedBlob {
  private readonly frontier: Frontier;
  /** Of the bytes it has taken; undefined before the first. */
  private generation: number | undefined;
  private closed = false;

  constructor(frontier: Frontier) {
    this.frontier = frontier;
    frontier.retain();
  }

  get sizeBytes(): number | undefined {
    return this.frontier.sizeBytes;
  }

  available(position: number, signal?: AbortSignal): Promise<number> {
    return this.frontier.availableTo(position, this.generation, signal);
  }

  read(buffer: Buffer, length: number, position: number): Promise<number> {
    this.generation ??= this.frontier.generation;
    return this.frontier.file.read(buffer, length, position);
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.frontier.release();
  }
}

function otherBytes(): DistributionError {
  return new DistributionError('DIGEST_INVALID', 'the upstream changed what it sends', { status: 502 });
}
