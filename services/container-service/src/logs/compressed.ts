/**
 * Rotated log files, compressed: `path.1.gz` for `path.1`. A gzip file like any other; its first member is empty and has, as its comment, the inode of the
 * file that it was, so that who stood in that one finds the place again.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, createReadStream, createWriteStream, openSync, readSync } from 'node:fs';
import { type FileHandle, open, rename, rm, stat, unlink } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';

export const compressedSuffix = '.gz';

/** RFC 1952: magic, deflate, a comment follows; no time, no system. */
const memberHead = Buffer.from([0x1f, 0x8b, 8, 0x10, 0, 0, 0, 0, 0, 0xff]);
/** The comment's end, an empty deflate block, check sum and size of nothing. */
const emptyTail = Buffer.from([0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
const longestHead = 64;

/** Compresses a file that nobody writes any more, in place of it. Cut off at any moment, the file is there as it was or compressed, or both are. */
export async function compressFile(path: string): Promise<void> {
  const { ino, mode } = await stat(path);
  const unfinished = `${path}${compressedSuffix}.tmp`;
  try {
    const target = createWriteStream(unfinished, { mode: mode & 0o777 });
    target.write(Buffer.concat([memberHead, Buffer.from(String(ino)), emptyTail]));
    await pipeline(createReadStream(path), createGzip(), target);
    await rename(unfinished, `${path}${compressedSuffix}`);
  } catch (error) {
    await rm(unfinished, { force: true });
    throw error;
  }
  await unlink(path);
}

/** The inode of the file that this one was before; undefined when it does not say. */
export function inodeBefore(path: string): number | undefined {
  const head = Buffer.alloc(longestHead);
  const file = openSync(path, 'r');
  try {
    const text = head.toString('latin1', memberHead.length, readSync(file, head, 0, longestHead, 0));
    const inode = Number(text.slice(0, text.indexOf('\0')));
    return head.subarray(0, memberHead.length).equals(memberHead) && Number.isSafeInteger(inode) ? inode : undefined;
  } finally {
    closeSync(file);
  }
}

/**
 * What a compressed file holds, as a file without a name. Takes the room of the whole on the disk until it is closed.
 *
 * @param compressed - is closed.
 */
export async function openDecompressed(compressed: FileHandle, path: string): Promise<FileHandle> {
  const source = compressed.createReadStream();
  const name = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  let file: FileHandle | undefined;
  try {
    const target = await open(name, 'wx+', 0o600);
    file = target;
    await unlink(name);
    await pipeline(source, createGunzip(), async (parts: AsyncIterable<Buffer>) => {
      for await (const part of parts) await target.appendFile(part);
    });
    return target;
  } catch (error) {
    source.destroy();
    await file?.close();
    throw error;
  }
}
