/**
 * A small file that is different after every commit, for callers on the same host that keep copies of answers: whoever reads the same mark before
 * using a copy as before fetching it has missed nothing that was answered meanwhile. Costs two or three microseconds on either side, where asking the service costs a
 * call.
 *
 * The file holds 16 bytes that are never written twice: a nonce of this process and a counter. Replicas write the same file. It is written before the
 * commit's answer, so a client that has its answer is never shown what was before. A replica that finds the mark as it knows it has missed no commit of the
 * others, also of those that it has not heard of yet.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, constants, mkdirSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Where the mark of a service is whose gRPC server listens on `unix:/path`: in the same folder, for the same readers. */
export function changeMarkBeside(grpcAddress: string): string {
  return join(dirname(grpcAddress.slice('unix:'.length)), 'changes');
}

/** The mark as it is now; undefined where there is none to be read. */
export function readChangeMark(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
}

const markBytes = 16;

export class ChangeMark {
  private fd: number;
  private readonly mark = Buffer.alloc(markBytes);
  private count = 0n;
  private readonly found = Buffer.alloc(markBytes);
  /** The mark up to which this process knows of every change; all zeros are nobody's. */
  private readonly known = Buffer.alloc(markBytes);

  /** Opens or makes the file; readers are those who may read in its folder's group. */
  constructor(path: string) {
    mkdirSync(dirname(path), { recursive: true });
    // An existing file is kept as it is: readers hold it open.
    this.fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o640);
    randomBytes(8).copy(this.mark);
    this.change();
  }

  /** Tells every reader that something has changed. */
  change(): void {
    if (this.fd < 0) return;
    const knewAll = this.isAsKnown();
    this.count++;
    this.mark.writeBigUInt64BE(this.count, 8);
    writeSync(this.fd, this.mark, 0, markBytes, 0);
    if (knewAll) this.mark.copy(this.known);
  }

  /** The mark as it is now: for `know`, once all that it stands for is known. */
  read(): Buffer {
    const mark = Buffer.alloc(markBytes);
    if (this.fd >= 0) readSync(this.fd, mark, 0, markBytes, 0);
    return mark;
  }

  /** From now on every change up to this mark is known. */
  know(mark: Buffer): void {
    mark.copy(this.known);
  }

  /** Whether nobody else has changed anything since. Another's mark that falls between the two halves of one of ours is overlooked until its next. */
  isAsKnown(): boolean {
    if (this.fd < 0 || readSync(this.fd, this.found, 0, markBytes, 0) < markBytes) return false;
    return this.found.equals(this.known);
  }

  close(): void {
    closeSync(this.fd);
    this.fd = -1;
  }
}
