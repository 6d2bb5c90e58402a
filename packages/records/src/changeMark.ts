/**
 * A small file that is different after every commit, for callers on the same host that keep copies of answers: whoever reads the same mark before
 * using a copy as before fetching it has missed nothing that was answered meanwhile. Costs two or three microseconds on either side, where asking the service costs a
 * call.
 *
 * The file holds 16 bytes that are never written twice: a nonce of this process and a counter. Replicas write the same file. It is written before the
 * commit's answer, so a client that has its answer is never shown what was before.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, constants, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
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

export class ChangeMark {
  private fd: number;
  private readonly mark = Buffer.alloc(16);
  private count = 0n;

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
    this.count++;
    this.mark.writeBigUInt64BE(this.count, 8);
    writeSync(this.fd, this.mark, 0, 16, 0);
  }

  close(): void {
    closeSync(this.fd);
    this.fd = -1;
  }
}
