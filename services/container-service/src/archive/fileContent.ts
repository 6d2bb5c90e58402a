/** The content of files that are unpacked: in order, or in a file with holes each stretch at its place. */
import { closeSync, constants, ftruncateSync, writeSync, writev as writevCallback } from 'node:fs';
import { promisify } from 'node:util';
import { openat2, resolveFlags } from '@flotilla/syscalls';
import { SparseContent, type SparseFile } from '@flotilla/tar';
import type { TarEntry } from './tarReader.ts';

const writev = promisify(writevCallback);
/** Below this, writing at once is quicker than asking a thread to. */
const synchronousBytes = 64 * 1024;
/** Above it, pieces are written together: each request to a thread costs as much as some hundred kilobytes. */
const gatheredBytes = 512 * 1024;
const noFollow = constants.O_NOFOLLOW;

/** Makes a file that is not there yet, and fills it. */
export async function writeFile(parent: number, base: string, entry: TarEntry): Promise<void> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | noFollow;
  const fd = openat2(parent, base, { flags, mode: 0o600, resolve: resolveFlags.beneath | resolveFlags.noSymlinks });
  // Goes on while the next pieces arrive.
  let writing: Promise<void> = Promise.resolve();
  try {
    if (entry.sparse !== undefined) {
      await writeSparse(fd, entry, entry.sparse);
      return;
    }
    let pieces: Buffer[] = [];
    let bytes = 0;
    for await (const piece of entry.data()) {
      if (entry.header.size <= synchronousBytes) {
        writeSync(fd, piece);
        continue;
      }
      pieces.push(piece);
      bytes += piece.length;
      if (bytes < gatheredBytes) continue;
      await writing;
      writing = writeWhole(fd, pieces);
      // Its failure is told where it is waited for.
      writing.catch(() => undefined);
      pieces = [];
      bytes = 0;
    }
    await writing;
    await writeWhole(fd, pieces);
  } finally {
    await Promise.allSettled([writing]);
    closeSync(fd);
  }
}

/** The data of a file with holes, each stretch at its place; what is not written stays a hole. */
async function writeSparse(fd: number, entry: TarEntry, sparse: SparseFile): Promise<void> {
  const content = new SparseContent(sparse);
  let position = 0;
  const hole = (length: number): void => {
    position += length;
  };
  const data = (chunk: Buffer): void => {
    for (let written = 0; written < chunk.length; ) written += writeSync(fd, chunk, written, chunk.length - written, position + written);
    position += chunk.length;
  };
  for await (const piece of entry.data()) content.take(piece, { data, hole });
  ftruncateSync(fd, sparse.sizeBytes);
}

async function writeWhole(fd: number, pieces: readonly Buffer[]): Promise<void> {
  let left = [...pieces];
  while (left.length > 0) {
    let { bytesWritten } = await writev(fd, left);
    const rest: Buffer[] = [];
    for (const piece of left) {
      if (bytesWritten < piece.length) rest.push(piece.subarray(bytesWritten));
      bytesWritten = Math.max(bytesWritten - piece.length, 0);
    }
    left = rest;
  }
}
