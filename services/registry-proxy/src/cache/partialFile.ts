/**
 * The file that a blob grows in. Replicas of the proxy share the folder, so whoever fetches a blob holds a lock on its file: the kernel gives
 * the lock up when that process dies, at whatever instruction, and another goes on where the file ends.
 */
import { constants, type FileHandle, open, rm, stat } from 'node:fs/promises';
import { tryLockFile, unlockFile } from '@flotilla/syscalls';

const rereadBytes = 1024 * 1024;

export class PartialFile {
  readonly path: string;
  private readonly handle: FileHandle;
  private readonly inode: number;
  private locked = false;

  private constructor(path: string, handle: FileHandle, inode: number) {
    this.path = path;
    this.handle = handle;
    this.inode = inode;
  }

  /** Opens the file, made when there is none. */
  static async open(path: string): Promise<PartialFile> {
    const handle = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    return new PartialFile(path, handle, (await handle.stat()).ino);
  }

  /** Opens what has become whole, for reading. Undefined when there is nothing at the path. */
  static async openWhole(path: string): Promise<PartialFile | undefined> {
    try {
      const handle = await open(path, constants.O_RDONLY);
      return new PartialFile(path, handle, (await handle.stat()).ino);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      return undefined;
    }
  }

  /** Becomes the one who writes it. False while another is, or when the file is no longer the one at its path. */
  async lock(): Promise<boolean> {
    if (!tryLockFile(this.handle.fd)) return false;
    this.locked = true;
    if (await this.isCurrent()) return true;
    this.unlock();
    return false;
  }

  unlock(): void {
    if (this.locked) unlockFile(this.handle.fd);
    this.locked = false;
  }

  /** Whether the path still leads here: a complete file was renamed, a bad one removed. */
  async isCurrent(): Promise<boolean> {
    try {
      return (await stat(this.path)).ino === this.inode;
    } catch {
      return false;
    }
  }

  async size(): Promise<number> {
    return (await this.handle.stat()).size;
  }

  /** Gives every byte there is to `onChunk`. @returns how many. */
  async reread(onChunk: (chunk: Buffer) => void): Promise<number> {
    const size = await this.size();
    const buffer = Buffer.allocUnsafe(Math.min(size, rereadBytes));
    let at = 0;
    while (at < size) {
      const { bytesRead } = await this.handle.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) break;
      onChunk(buffer.subarray(0, bytesRead));
      at += bytesRead;
    }
    return at;
  }

  async write(chunks: readonly Buffer[], at: number, length: number): Promise<void> {
    const { bytesWritten } = await this.handle.writev([...chunks], at);
    if (bytesWritten === length) return;
    // A short write: the disk is nearly full, or a signal came.
    const rest = Buffer.concat(chunks, length).subarray(bytesWritten);
    for (let done = 0; done < rest.length; ) {
      done += (await this.handle.write(rest, done, rest.length - done, at + bytesWritten + done)).bytesWritten;
    }
  }

  async read(buffer: Buffer, length: number, position: number): Promise<number> {
    return (await this.handle.read(buffer, 0, length, position)).bytesRead;
  }

  async truncate(sizeBytes: number): Promise<void> {
    await this.handle.truncate(sizeBytes);
  }

  async sync(): Promise<void> {
    await this.handle.sync();
  }

  /** Removes it, if the path still leads here. */
  async remove(): Promise<void> {
    if (await this.isCurrent()) await rm(this.path, { force: true });
  }

  async close(): Promise<void> {
    this.unlock();
    await this.handle.close();
  }
}
