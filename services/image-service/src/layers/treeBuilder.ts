/**
 * Builds a directory tree from a layer's tar, as overlay wants it: whiteouts become its own (character device 0/0, `trusted.overlay.opaque`).
 * Nothing outside the root is ever touched: names are cleaned and checked, and since nobody else writes in the root, the symbolic links
 * in it are exactly those made here; a path that leads through one is resolved inside the root, as a chroot would.
 */
import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  ftruncateSync,
  futimesSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  rmSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { hasCode, lsetxattr, lutimesNs, makeDevice, mkfifo, mknod } from '@flotilla/syscalls';
import { entryRefusal, TarError } from '@flotilla/tar';
import type { TarEntry } from '../tar/header.ts';
import type { TarHandler } from '../tar/parser.ts';

export interface TreeLimits {
  /** Bytes of all files together: a small blob must not fill the disk. */
  readonly maxBytes: number;
  /** What is said of a layer that is larger. */
  readonly tooLarge?: string;
  readonly maxEntries: number;
}

export interface TreeOptions {
  /** An existing empty directory that becomes the layer's root. */
  readonly root: string;
  readonly limits: TreeLimits;
  /** Whether `.wh.` names are whiteouts; else they are ordinary files (import). */
  readonly whiteouts: boolean;
}

interface OpenFile {
  readonly fd: number;
  readonly path: string;
  readonly entry: TarEntry;
  position: number;
  endsInHole: boolean;
}

/** An entry that would leave the root, or another that no layer may hold. */
export class LayerEntryError extends Error {
  override readonly name = 'LayerEntryError';
}

const whiteoutPrefix = '.wh.';
const opaqueName = '.wh..wh..opq';
const reservedPrefix = '.wh..wh.';
const maxLinksFollowed = 40;
const maxNameBytes = 4096;
const zeros = Buffer.alloc(64 * 1024);
const create = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

export class TreeBuilder implements TarHandler {
  private readonly root: string;
  private readonly limits: TreeLimits;
  private readonly whiteouts: boolean;
  /** Known directories below the root, by clean path; '' is the root. */
  private readonly directories = new Set<string>(['']);
  /** Symbolic links made here: path → target. */
  private readonly links = new Map<string, string>();
  /** Directories' times are set last: what is made in them changes them. */
  private readonly directoryTimes = new Map<string, bigint>();
  private readonly whiteoutPaths = new Set<string>();
  private file: OpenFile | undefined;
  private entries = 0;
  private bytes = 0;

  constructor(options: TreeOptions) {
    this.root = options.root;
    this.limits = options.limits;
    this.whiteouts = options.whiteouts;
  }

  /** Bytes of all files and of what symbolic links say: what docker calls the layer's size. */
  get sizeBytes(): number {
    return this.bytes;
  }

  entry(entry: TarEntry): void {
    try {
      this.take(entry);
    } catch (error) {
      throw entryFault(entry, error);
    }
  }

  private take(entry: TarEntry): void {
    this.entries++;
    if (this.entries > this.limits.maxEntries) throw new LayerEntryError(`layer has more than ${this.limits.maxEntries} entries`);
    this.bytes += entry.type === 'symlink' ? Buffer.byteLength(entry.linkName) : entry.sizeBytes;
    if (this.bytes > this.limits.maxBytes) {
      throw new LayerEntryError(this.limits.tooLarge ?? `layer is larger than ${this.limits.maxBytes} bytes`);
    }
    const path = cleanPath(entry.name);
    if (path === '') {
      if (entry.type !== 'directory') throw new LayerEntryError(`layer's root is not a directory: "${entry.name}"`);
      this.applyDirectory('', entry);
      return;
    }
    const slash = path.lastIndexOf('/');
    const parent = this.resolveDirectory(slash === -1 ? '' : path.slice(0, slash), entry.name);
    const base = path.slice(slash + 1);
    if (this.whiteouts && base.startsWith(whiteoutPrefix)) {
      this.whiteout(parent, base);
      return;
    }
    this.make(join(parent, base), entry);
  }

  data(chunk: Buffer): void {
    if (this.file === undefined) return;
    let begin = 0;
    // Zeros in bulk become a hole: a sparse file stays one through a tar that knows of none.
    for (let at = 0; at + zeros.length <= chunk.length; at += zeros.length) {
      if (zeros.compare(chunk, at, at + zeros.length) !== 0) continue;
      this.write(this.file, chunk.subarray(begin, at));
      this.hole(zeros.length);
      begin = at + zeros.length;
    }
    this.write(this.file, chunk.subarray(begin));
  }

  private write(file: OpenFile, chunk: Buffer): void {
    if (chunk.length === 0) return;
    for (let at = 0; at < chunk.length; ) at += writeSync(file.fd, chunk, at, chunk.length - at, file.position + at);
    file.position += chunk.length;
    file.endsInHole = false;
  }

  /** A hole of a sparse file stays one. */
  hole(length: number): void {
    if (this.file === undefined) return;
    this.file.position += length;
    this.file.endsInHole = true;
  }

  entryEnd(): void {
    if (this.file === undefined) return;
    const { fd, path, entry, position, endsInHole } = this.file;
    this.file = undefined;
    try {
      if (endsInHole) ftruncateSync(fd, position);
      fchownSync(fd, entry.uid, entry.gid);
      fchmodSync(fd, entry.mode);
      setAttributes(this.absolute(path), entry);
      if (entry.mtimeNs % 1_000_000_000n === 0n) {
        const seconds = Number(entry.mtimeNs / 1_000_000_000n);
        futimesSync(fd, seconds, seconds);
      } else lutimesNs(this.absolute(path), entry.mtimeNs, entry.mtimeNs);
    } catch (error) {
      throw entryFault(entry, error);
    } finally {
      closeSync(fd);
    }
  }

  /** Sets what must be set last. */
  finish(): void {
    for (const [path, mtimeNs] of this.directoryTimes) lutimesNs(this.absolute(path), mtimeNs, mtimeNs);
  }

  /** Lets go of an open file after a failure. */
  abandon(): void {
    if (this.file !== undefined) closeSync(this.file.fd);
    this.file = undefined;
  }

  private absolute(path: string): string {
    return path === '' ? this.root : `${this.root}/${path}`;
  }

  private make(path: string, entry: TarEntry): void {
    const absolute = this.absolute(path);
    switch (entry.type) {
      case 'directory':
        this.applyDirectory(path, entry);
        return;
      case 'file':
        this.file = { fd: this.fresh(path, () => openSync(absolute, create, 0o600)), path, entry, position: 0, endsInHole: false };
        return;
      case 'symlink':
        checkSymlink(path, entry);
        this.fresh(path, () => symlinkSync(entry.linkName, absolute));
        this.links.set(path, entry.linkName);
        break;
      case 'link':
        this.hardLink(path, entry);
        return;
      case 'fifo':
        this.fresh(path, () => mkfifo(absolute, 0o600));
        break;
      case 'character':
      case 'block': {
        const kind = entry.type === 'block' ? constants.S_IFBLK : constants.S_IFCHR;
        this.fresh(path, () => mknod(absolute, kind | 0o600, makeDevice(entry.devMajor, entry.devMinor)));
        break;
      }
    }
    lchownSync(absolute, entry.uid, entry.gid);
    if (entry.type !== 'symlink') chmodSync(absolute, entry.mode);
    setAttributes(absolute, entry);
    lutimesNs(absolute, entry.mtimeNs, entry.mtimeNs);
  }

  /** Makes something where nothing may be; what an earlier entry of the same name made is replaced, as dockerd does. */
  private fresh<T>(path: string, make: () => T): T {
    try {
      return make();
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error;
    }
    this.discard(path);
    return make();
  }

  private discard(path: string): void {
    // Never follows links: rm removes a link itself.
    rmSync(this.absolute(path), { recursive: true, force: true });
    this.links.delete(path);
    this.whiteoutPaths.delete(path);
    if (this.directories.delete(path)) {
      const prefix = `${path}/`;
      for (const set of [this.directories, this.whiteoutPaths]) for (const known of set) if (known.startsWith(prefix)) set.delete(known);
      for (const map of [this.links, this.directoryTimes]) for (const known of map.keys()) if (known.startsWith(prefix)) map.delete(known);
      this.directoryTimes.delete(path);
    }
  }

  private applyDirectory(path: string, entry: TarEntry): void {
    const absolute = this.absolute(path);
    if (!this.directories.has(path)) {
      const replacesWhiteout = this.whiteoutPaths.has(path);
      this.fresh(path, () => mkdirSync(absolute, 0o700));
      this.directories.add(path);
      // A directory that was removed and made anew in one layer hides the lower one whole.
      if (replacesWhiteout) setOpaque(absolute);
    }
    lchownSync(absolute, entry.uid, entry.gid);
    chmodSync(absolute, entry.mode);
    setAttributes(absolute, entry);
    this.directoryTimes.set(path, entry.mtimeNs);
  }

  private hardLink(path: string, entry: TarEntry): void {
    // An absolute target means one below the root, as dockerd takes it.
    const linkName = entry.linkName.replace(/^\/+/, '');
    const targetPath = cleanPath(linkName, `invalid hardlink "${entry.name}" -> "${entry.linkName}"`);
    const slash = targetPath.lastIndexOf('/');
    const parent = this.resolveDirectory(slash === -1 ? '' : targetPath.slice(0, slash), entry.linkName, false);
    const target = join(parent, targetPath.slice(slash + 1));
    if (target === path) return;
    try {
      this.fresh(path, () => linkSync(this.absolute(target), this.absolute(path)));
    } catch (error) {
      if (hasCode(error, 'ENOENT', 'EPERM')) {
        throw new LayerEntryError(`hardlink "${entry.name}" has no target "${entry.linkName}" in its layer`, { cause: error });
      }
      throw error;
    }
    const link = this.links.get(target);
    if (link !== undefined) this.links.set(path, link);
  }

  private whiteout(parent: string, base: string): void {
    if (base === opaqueName) {
      setOpaque(this.absolute(parent));
      return;
    }
    // Other names with this prefix are aufs' own bookkeeping.
    if (base.startsWith(reservedPrefix)) return;
    const name = base.slice(whiteoutPrefix.length);
    if (name === '' || name === '.' || name === '..') throw new LayerEntryError(`invalid whiteout "${join(parent, base)}"`);
    const path = join(parent, name);
    if (this.directories.has(path)) {
      // The layer itself made the directory before: only what lies below is hidden.
      setOpaque(this.absolute(path));
      return;
    }
    try {
      mknod(this.absolute(path), constants.S_IFCHR, 0n);
    } catch (error) {
      // A file of this layer hides the lower one anyway.
      if (hasCode(error, 'EEXIST')) return;
      throw error;
    }
    this.whiteoutPaths.add(path);
  }

  /** The clean path of a directory with links followed inside the root; made, with what is missing above it, unless `make` is false. */
  private resolveDirectory(path: string, entryName: string, make = true): string {
    if (this.directories.has(path)) return path;
    let followed = 0;
    let resolved = '';
    const pending = path.split('/').reverse();
    for (let component = pending.pop(); component !== undefined; component = pending.pop()) {
      if (component === '' || component === '.') continue;
      if (component === '..') {
        resolved = resolved.includes('/') ? resolved.slice(0, resolved.lastIndexOf('/')) : '';
        continue;
      }
      const next = join(resolved, component);
      const target = this.links.get(next);
      if (target !== undefined) {
        followed++;
        if (followed > maxLinksFollowed) throw new LayerEntryError(`too many symbolic links in the path of "${entryName}"`);
        if (target.startsWith('/')) resolved = '';
        pending.push(...target.split('/').reverse());
        continue;
      }
      if (!this.directories.has(next)) this.implyDirectory(next, entryName, make);
      resolved = next;
    }
    return resolved;
  }

  private implyDirectory(path: string, entryName: string, make: boolean): void {
    if (!make) throw new LayerEntryError(`hardlink target "${entryName}" is not in its layer`);
    const absolute = this.absolute(path);
    const hidden = this.whiteoutPaths.has(path);
    if (hidden) this.discard(path);
    try {
      mkdirSync(absolute, 0o755);
      chmodSync(absolute, 0o755);
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error;
      if (!lstatSync(absolute).isDirectory()) throw new LayerEntryError(`"${entryName}" lies below "${path}", which is not a directory`);
    }
    if (hidden) setOpaque(absolute);
    this.directories.add(path);
  }
}

/**
 * The path below the root, without `.` and empty parts.
 *
 * @throws LayerEntryError for what would leave the root: a relative name with `..` that lead above it.
 */
function cleanPath(name: string, complaint = `invalid entry name "${name}"`): string {
  if (Buffer.byteLength(name) > maxNameBytes) throw new LayerEntryError(`entry name of ${name.length} characters is too long`);
  // A name that begins at the root is one below this root, which has nothing above it, as dockerd takes it.
  const isAbsolute = name.startsWith('/');
  const parts: string[] = [];
  for (const part of name.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') parts.push(part);
    else if (parts.pop() === undefined && !isAbsolute) throw new LayerEntryError(`${complaint}: it leads outside of the root`);
  }
  return parts.join('/');
}

/** dockerd refuses a relative link that leads above the root, and takes absolute ones: they are resolved in the container. */
function checkSymlink(path: string, entry: TarEntry): void {
  if (entry.linkName === '') throw new LayerEntryError(`symlink "${entry.name}" has no target`);
  if (entry.linkName.startsWith('/')) return;
  let depth = path.split('/').length - 1;
  for (const part of entry.linkName.split('/')) {
    if (part === '' || part === '.') continue;
    depth += part === '..' ? -1 : 1;
    if (depth < 0) throw new LayerEntryError(`invalid symlink "${entry.name}" -> "${entry.linkName}": it leads outside of the root`);
  }
}

function join(parent: string, name: string): string {
  return parent === '' ? name : `${parent}/${name}`;
}

function setOpaque(path: string): void {
  lsetxattr(path, 'trusted.overlay.opaque', 'y');
}

function setAttributes(path: string, entry: TarEntry): void {
  for (const [name, value] of entry.xattrs) {
    // overlay's own attributes steer the mount: a layer may not bring them.
    if (name.startsWith('trusted.overlay.') || name.startsWith('user.overlay.')) continue;
    try {
      lsetxattr(path, name, value);
    } catch (error) {
      // As dockerd: what this file system does not know is left out.
      if (!hasCode(error, 'EOPNOTSUPP', 'ENOTSUP', 'EPERM')) throw error;
    }
  }
}

/** What the kernel refuses is the entry's fault, not this machine's. */
function entryFault(entry: TarEntry, error: unknown): unknown {
  const refusal = entryRefusal(error);
  return refusal === undefined ? error : new LayerEntryError(`"${entry.name.slice(0, 255)}" cannot be made: ${refusal}`, { cause: error });
}

/** Whether an error is about the layer's content, not about this machine. */
export function isLayerFault(error: unknown): boolean {
  return error instanceof LayerEntryError || error instanceof TarError;
}
