/**
 * Writes a tree of files as tar. It walks by descriptors: a directory is read through the descriptor that was checked, and its
 * entries are opened below it without following links, so that nothing swapped meanwhile leads elsewhere.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, read as readCallback, readdirSync, readlinkSync, type Stats } from 'node:fs';
import { promisify } from 'node:util';
import { hasCode, lgetxattr, llistxattr, splitDevice } from '@flotilla/syscalls';
import { isKernelFile } from './root.ts';
import { encodeHeader, paddingBytes, type TarHeader, type TarType } from './tarFormat.ts';

const read = promisify(readCallback);
const pieceBytes = 512 * 1024;
/** Headers and small files are gathered before they are written: one write costs more than their copying. */
const gatherBytes = 64 * 1024;

/** Takes the next bytes of the archive; resolves when it can take more. */
export type ArchiveSink = (bytes: Buffer) => Promise<void>;

export class TreeWriter {
  readonly #out: ArchiveSink;
  readonly #signal: AbortSignal | undefined;
  /** device:inode of a file with several names → the first name written */
  readonly #linked = new Map<string, string>();
  #gathered: Buffer[] = [];
  #gatheredBytes = 0;

  constructor(out: ArchiveSink, signal?: AbortSignal) {
    this.#out = out;
    this.#signal = signal;
  }

  /**
   * Writes one file, or a directory with all below it.
   *
   * @param parent - descriptor of the directory it is in.
   * @param entry - its name there.
   * @param name - its name in the archive.
   */
  async add(parent: number, entry: Buffer, name: Buffer): Promise<void> {
    this.#signal?.throwIfAborted();
    const path = below(parent, entry);
    let status: Stats;
    try {
      status = lstatSync(path);
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return;
      throw error;
    }
    if (status.isDirectory()) await this.#addDirectory(path, name);
    else if (status.isFile()) await this.#addFile(path, name);
    else await this.#addSpecial(path, status, name);
  }

  /** Writes an open directory with all below it; with an empty name only what is below. */
  async addOpenDirectory(fd: number, name: Buffer): Promise<void> {
    const status = fstatSync(fd);
    if (name.length > 0)
      await this.#gather(encodeHeader(headerOf(status, 'directory', withSlash(name), xattrsOf(Buffer.from(`/proc/self/fd/${fd}/.`)))));
    if (isKernelFile(fd)) return;
    for (const entry of readdirSync(`/proc/self/fd/${fd}`, { encoding: 'buffer' })) {
      await this.add(fd, entry, name.length === 0 ? entry : joined(name, entry));
    }
  }

  /** The end of the archive. */
  async finish(): Promise<void> {
    await this.#gather(Buffer.alloc(1024));
    await this.#flush();
  }

  async #addDirectory(path: Buffer, name: Buffer): Promise<void> {
    const fd = this.#open(path, constants.O_DIRECTORY);
    if (fd === undefined) return;
    try {
      // The container's own device nodes are made by the runtime, not part of its files.
      if (name.toString() === '/dev' || isKernelFile(fd)) {
        await this.#gather(encodeHeader(headerOf(fstatSync(fd), 'directory', withSlash(name))));
      } else {
        await this.addOpenDirectory(fd, name);
      }
    } finally {
      closeSync(fd);
    }
  }

  async #addFile(path: Buffer, name: Buffer): Promise<void> {
    const fd = this.#open(path, constants.O_NONBLOCK);
    if (fd === undefined) return;
    try {
      const status = fstatSync(fd);
      if (!status.isFile()) return;
      const text = name.toString();
      if (status.nlink > 1) {
        const key = `${status.dev}:${status.ino}`;
        const first = this.#linked.get(key);
        if (first !== undefined) {
          await this.#gather(encodeHeader({ ...headerOf(status, 'hardlink', text), size: 0, linkName: first }));
          return;
        }
        this.#linked.set(key, text);
      }
      await this.#gather(encodeHeader(headerOf(status, 'file', text, xattrsOf(path))));
      await this.#data(fd, status.size);
    } finally {
      closeSync(fd);
    }
  }

  async #addSpecial(path: Buffer, status: Stats, name: Buffer): Promise<void> {
    const text = name.toString();
    if (status.isSymbolicLink()) {
      const linkName = readlinkSync(path, { encoding: 'buffer' }).toString();
      await this.#gather(encodeHeader({ ...headerOf(status, 'symlink', text), linkName }));
    } else if (status.isCharacterDevice() || status.isBlockDevice()) {
      const type = status.isBlockDevice() ? 'block' : 'character';
      await this.#gather(encodeHeader({ ...headerOf(status, type, text), ...splitDevice(BigInt(status.rdev)) }));
    } else if (status.isFIFO()) {
      await this.#gather(encodeHeader(headerOf(status, 'fifo', text)));
    }
    // A socket cannot be archived, and means nothing without who listens on it.
  }

  /** Exactly `size` bytes, whatever becomes of the file meanwhile: the header has promised them. */
  async #data(fd: number, size: number): Promise<void> {
    let left = size;
    while (left > 0) {
      this.#signal?.throwIfAborted();
      const piece = Buffer.allocUnsafe(Math.min(left, pieceBytes));
      const { bytesRead } = await read(fd, piece, 0, piece.length, null);
      if (bytesRead === 0) {
        await this.#gather(Buffer.alloc(Math.min(left, pieceBytes)));
        left -= Math.min(left, pieceBytes);
        continue;
      }
      left -= bytesRead;
      await this.#gather(piece.subarray(0, bytesRead));
    }
    const padding = paddingBytes(size);
    if (padding > 0) await this.#gather(Buffer.alloc(padding));
  }

  /** Opens an entry itself; undefined when it is gone or has become something else. */
  #open(path: Buffer, flags: number): number | undefined {
    try {
      return openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NOCTTY | flags);
    } catch (error) {
      if (hasCode(error, 'ENOENT', 'ELOOP', 'ENOTDIR', 'ENXIO')) return undefined;
      throw error;
    }
  }

  async #gather(bytes: Buffer): Promise<void> {
    this.#gathered.push(bytes);
    this.#gatheredBytes += bytes.length;
    if (this.#gatheredBytes >= gatherBytes) await this.#flush();
  }

  async #flush(): Promise<void> {
    if (this.#gatheredBytes === 0) return;
    const [only] = this.#gathered;
    const bytes = this.#gathered.length === 1 && only !== undefined ? only : Buffer.concat(this.#gathered, this.#gatheredBytes);
    this.#gathered = [];
    this.#gatheredBytes = 0;
    await this.#out(bytes);
  }
}

function below(parent: number, entry: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${parent}/`), entry]);
}

function joined(name: Buffer, entry: Buffer): Buffer {
  return Buffer.concat(name.toString() === '/' ? [name, entry] : [name, Buffer.from('/'), entry]);
}

function withSlash(name: Buffer): string {
  const text = name.toString();
  return text.endsWith('/') ? text : `${text}/`;
}

function headerOf(status: Stats, type: TarType, name: string, xattrs?: ReadonlyMap<string, Buffer>): TarHeader {
  return {
    name,
    type,
    mode: status.mode & 0o7777,
    uid: status.uid,
    gid: status.gid,
    size: type === 'file' ? status.size : 0,
    mtime: Math.floor(status.mtimeMs / 1000),
    ...(xattrs === undefined || xattrs.size === 0 ? {} : { xattrs }),
  };
}

/** File capabilities and users' own attributes; not what belongs to the host's file system or security module. */
function xattrsOf(path: Buffer): ReadonlyMap<string, Buffer> {
  const text = path.toString();
  const found = new Map<string, Buffer>();
  if (!Buffer.from(text).equals(path)) return found;
  for (const name of llistxattr(text)) {
    if (name !== 'security.capability' && !name.startsWith('user.')) continue;
    const value = lgetxattr(text, name);
    if (value !== undefined) found.set(name, value);
  }
  return found;
}
