/**
 * Brings a directory of the client to what it is now. The client lists it; asked for is only what differs from what is here. Nothing that a client
 * lists is trusted: a path that leaves the directory, or stands below what was not listed as a directory, ends the transfer before anything is written there.
 */
import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  rmSync,
  statfsSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Packet, Packet_PacketType as PacketType, type Stat } from '@flotilla/contracts/fsutil/types/wire';
import { FileSyncService } from '@flotilla/contracts/moby/filesync/v1/filesync';
import { InvalidParameter, System } from '@flotilla/errors';
import { lutimesNs } from '@flotilla/syscalls';
import { Turns } from '../turns.ts';
import { kindOf, permissionsOf } from './fileMode.ts';
import type { CallMetadata, GrpcConnection, GrpcExchange } from './grpcConnection.ts';
import { type KnownDirectory, Listing } from './knownDirectory.ts';

export interface SyncRequest {
  /** The client's name for the directory: `context`, `dockerfile`, … */
  readonly directory: string;
  /** Only these, with what links lead to; empty: all. */
  readonly paths: readonly string[];
  /** Lines of a .dockerignore. */
  readonly excludes: readonly string[];
}

const mostEntries = 2_000_000;
/** Of a list, as it is sent: all of it is remembered until the files are here. */
const mostListBytes = 256 * 1024 * 1024;
const longestPath = 4096;
/** Between two looks at a long list: some hundred entries come in this time, about what the kernel holds before the client has to wait. */
const restMs = 2;
/** What is still to come of a list when it is looked at without a rest, so that its end is seen at once: bytes. */
const promptBytes = 16 * 1024;

interface Wanted {
  readonly stat: Stat;
  fd: number | undefined;
  received: number;
}

/** The directory here. */
export interface SyncTarget {
  /** An existing directory that nobody else changes. */
  readonly path: string;
  /** What is known of it from before, and is afterwards. A sync that fails leaves both of no use. */
  readonly known: KnownDirectory;
}

/** A directory that the client lists already, while it is not known yet whether that is what a build needs. */
export class BegunSync {
  readonly exchange: GrpcExchange<Packet, Packet>;
  private readonly request: SyncRequest;

  constructor(connection: GrpcConnection, request: SyncRequest, signal: AbortSignal) {
    this.request = request;
    this.exchange = connection.open(FileSyncService.diffCopy, metadataOf(request), signal);
  }

  /** Whether the client was asked for just this. */
  isFor({ directory, paths, excludes }: SyncRequest): boolean {
    const { request } = this;
    return directory === request.directory && isSameList(paths, request.paths) && isSameList(excludes, request.excludes);
  }

  cancel(): void {
    this.exchange.cancel();
  }
}

function isSameList(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((each, index) => each === other[index]);
}

/**
 * @param heard - is told how many bytes have come.
 * @param begun - the same request, begun before.
 */
export async function syncDirectory(
  connection: GrpcConnection,
  request: SyncRequest,
  target: SyncTarget,
  heard: (bytes: number) => void,
  signal: AbortSignal,
  begun?: BegunSync,
): Promise<void> {
  signal.throwIfAborted();
  const { exchange } = begun ?? new BegunSync(connection, request, signal);
  const cancel = (): void => exchange.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  const receiver = new Receiver(target, exchange, () => connection.rest(restMs), heard);
  try {
    await receiver.run();
  } catch (error) {
    exchange.cancel();
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', cancel);
    receiver.close();
  }
}

function metadataOf({ directory, paths, excludes }: SyncRequest): CallMetadata {
  const metadata: (readonly [string, string])[] = [];
  const add = (key: string, values: readonly string[]): void => {
    const isPlain = values.every((value) => /^[\x20-\x7e]*$/.test(value) && value.trim() === value);
    for (const value of values) metadata.push([key, isPlain ? value : encodeURIComponent(value)]);
    if (!isPlain) metadata.push([`${key}-encoded`, '1']);
  };
  add('dir-name', [directory]);
  add('followpaths', paths);
  add('exclude-patterns', excludes);
  return metadata;
}

class Receiver {
  private readonly target: string;
  private readonly known: KnownDirectory;
  private readonly exchange: GrpcExchange<Packet, Packet>;
  private readonly rest: () => Promise<void>;
  private readonly heard: (bytes: number) => void;
  /** What the client listed the last time; it is read along with what it lists now. */
  private readonly before: Listing;
  /** What it lists now; undefined as long as that is the same. */
  private now: Listing | undefined;
  /** Where `before` is being read, once it is not the same. */
  private head: Stat | undefined;
  private readonly directories = new Map<string, Stat>();
  private readonly listed = new Set<string>();
  private readonly wanted = new Map<number, Wanted>();
  /** Of those, by their path. */
  private readonly coming = new Map<string, Wanted>();
  /** Directories in which something was written. */
  private readonly touched = new Set<string>();
  private readonly room: number;
  /** Whether there may be here what is not listed. */
  private hasUnlisted: boolean;
  private promised = 0;
  private received = 0;
  private entries = 0;
  private listBytes = 0;
  private last: string[] = [];
  private isListComplete = false;

  constructor(
    { path, known }: SyncTarget,
    exchange: GrpcExchange<Packet, Packet>,
    rest: () => Promise<void>,
    heard: (bytes: number) => void,
  ) {
    this.target = path;
    this.known = known;
    this.exchange = exchange;
    this.rest = rest;
    this.heard = heard;
    this.before = known.listing ?? new Listing();
    this.before.rewind();
    this.hasUnlisted = known.listing === undefined;
    const { bavail, bsize } = statfsSync(path);
    this.room = bavail * bsize;
  }

  async run(): Promise<void> {
    let saidEnd = false;
    let heardEnd = false;
    const turns = new Turns();
    this.known.begin();
    for await (const messages of this.exchange.encodedBatches()) {
      const requests: Packet[] = [];
      for (const message of messages) {
        if (this.isAsBefore(message)) continue;
        await turns.pass();
        const packet = Packet.decode(message);
        if (this.differs(packet)) this.now = await this.listUntilHere(turns);
        if (packet.type === PacketType.PACKET_FIN) {
          if (heardEnd || !saidEnd)
            throw new InvalidParameter('the client says that all is sent before it was told that all is here, or again');
          heardEnd = true;
          this.exchange.end();
        } else this.take(packet, message, requests);
      }
      if (this.isListComplete && this.wanted.size === 0 && !saidEnd) {
        saidEnd = true;
        if (this.hasUnlisted) await this.removeUnlisted();
        requests.push(Packet.create({ type: PacketType.PACKET_FIN }));
      }
      if (requests.length > 0 && !heardEnd) await this.exchange.send(...requests);
      this.heard(this.received);
      if (this.mayRest) await this.rest();
    }
    if (!saidEnd || !heardEnd) throw new System('the client ended its files too early');
    // What was written in a directory has changed its time.
    for (const [path, { modTime }] of this.directories) {
      if (!this.hasUnlisted && !this.touched.has(path)) continue;
      lutimesNs(join(this.target, path), modTime, modTime);
      await turns.pass();
    }
    this.known.settle(this.now ?? this.before);
  }

  /** Whether the client is in the middle of a list as long as the last one, and sends nothing else. */
  private get mayRest(): boolean {
    return !this.isListComplete && this.wanted.size === 0 && this.before.remainingBytes > promptBytes;
  }

  /** Most builds see most files as the last one did: as long as the list is the same, nothing needs to be looked at. */
  private isAsBefore(message: Buffer): boolean {
    if (this.now !== undefined || this.isListComplete || !this.before.pass(message)) return false;
    this.entries++;
    return true;
  }

  /** Whether this is where the list is no longer what it was. */
  private differs({ type, stat }: Packet): boolean {
    if (type !== PacketType.PACKET_STAT || this.now !== undefined || this.isListComplete) return false;
    return stat !== undefined || this.before.head() !== undefined;
  }

  /** What was listed so far, all of it as before, and has only been counted. */
  private async listUntilHere(turns: Turns): Promise<Listing> {
    const passed = this.before.passed();
    for (let message = passed.head(); message !== undefined; message = passed.head()) {
      const { stat } = Packet.decode(message);
      if (stat !== undefined) this.enter(stat);
      passed.next();
      await turns.pass();
    }
    return passed;
  }

  private take({ type, stat, id, data }: Packet, message: Buffer, requests: Packet[]): void {
    switch (type) {
      case PacketType.PACKET_STAT:
        if (this.isListComplete) throw new InvalidParameter('the client lists files after the end of its list');
        if (stat === undefined) this.completeList();
        else if (this.list(stat, message)) requests.push(Packet.create({ type: PacketType.PACKET_REQ, id: this.entries - 1 }));
        return;
      case PacketType.PACKET_DATA:
        this.write(id, data);
        return;
      case PacketType.PACKET_ERR:
        throw new System(`error from sender: ${data.toString('utf8')}`);
      default:
        throw new InvalidParameter(`the client sends a packet of an unknown type: ${type}`);
    }
  }

  private completeList(): void {
    this.isListComplete = true;
    if (this.now !== undefined) this.skipTo(undefined);
  }

  /** @returns whether its content is to be asked for. */
  private list(stat: Stat, message: Buffer): boolean {
    this.listBytes += message.length;
    if (this.listBytes > mostListBytes) throw new InvalidParameter(`a context whose list of files is larger than ${mostListBytes} bytes`);
    this.now?.append(message);
    const id = this.entries++;
    this.enter(stat);
    if (this.isKnown(stat, message)) return false;
    this.known.changed(stat.path);
    this.touched.add(stat.path).add(dirname(stat.path));
    return this.place(stat, id);
  }

  private enter(stat: Stat): void {
    if (this.entries > mostEntries) throw new InvalidParameter(`a context of more than ${mostEntries} files`);
    this.checkPath(stat.path);
    const kind = kindOf(stat.mode);
    if (kind === 'special') return;
    this.listed.add(stat.path);
    if (kind === 'directory') this.directories.set(stat.path, stat);
  }

  /** Whether it was listed with the same words before. */
  private isKnown(stat: Stat, message: Buffer): boolean {
    // A name for the bytes of another file may have to follow that.
    const isLink = stat.linkname !== '' && kindOf(stat.mode) === 'file';
    let isSame = this.before.pass(message);
    if (!isSame) {
      this.skipTo(stat.path);
      isSame = this.before.pass(message);
      if (!isSame && this.head?.path === stat.path) this.before.next();
    }
    this.head = isSame || this.head?.path === stat.path ? undefined : this.head;
    return isSame && !isLink;
  }

  /** Reads on in what was listed before, to a path or what stands after it; to the end without one. What only stood there has gone. */
  private skipTo(path: string | undefined): void {
    const parts = path?.split('/');
    for (let message = this.before.head(); message !== undefined; message = this.before.head()) {
      this.head ??= Packet.decode(message).stat;
      const head = this.head?.path ?? '';
      if (parts !== undefined && (head === path || isAfter(head.split('/'), parts))) return;
      this.before.next();
      this.head = undefined;
      this.known.changed(head);
      this.hasUnlisted = true;
    }
  }

  close(): void {
    for (const { fd } of this.wanted.values()) if (fd !== undefined) closeSync(fd);
    this.wanted.clear();
  }

  /** Makes an entry, or finds that it is there. @returns whether its content is to be asked for. */
  private place(stat: Stat, id: number): boolean {
    const path = join(this.target, stat.path);
    const here = lstatSync(path, { throwIfNoEntry: false, bigint: true });
    switch (kindOf(stat.mode)) {
      case 'directory':
        if (here?.isDirectory() !== true) {
          if (here !== undefined) rmSync(path);
          mkdirSync(path);
        }
        chmodSync(path, permissionsOf(stat.mode));
        return false;
      case 'symlink':
        if (here?.isSymbolicLink() === true && readlinkSync(path) === stat.linkname) return false;
        rmSync(path, { recursive: true, force: true });
        symlinkSync(stat.linkname, path);
        lutimesNs(path, stat.modTime, stat.modTime);
        return false;
      case 'special':
        // What stood there goes with what is not listed.
        this.hasUnlisted = true;
        return false;
      default:
    }
    if (stat.linkname !== '') {
      this.link(stat, path);
      return false;
    }
    const isSame =
      here?.isFile() === true &&
      here.size === stat.size &&
      here.mtimeNs === stat.modTime &&
      (Number(here.mode) & 0o7777) === permissionsOf(stat.mode);
    if (isSame && here.nlink === 1n) return false;
    rmSync(path, { recursive: true, force: true });
    this.promised += Number(stat.size);
    if (this.promised > this.room) throw new System(`no space left for a context of ${this.promised} bytes`);
    const wanted: Wanted = { stat, fd: undefined, received: 0 };
    this.wanted.set(id, wanted);
    this.coming.set(stat.path, wanted);
    return true;
  }

  /** A hard link to a file that was listed before. One that is still on its way is begun, so that there is what to link to. */
  private link(stat: Stat, path: string): void {
    const earlier = stat.linkname.replace(/^\/+/, '');
    if (!this.listed.has(earlier) || this.directories.has(earlier))
      throw new InvalidParameter(`invalid link of ${stat.path} to ${earlier}`);
    rmSync(path, { recursive: true, force: true });
    const coming = this.coming.get(earlier);
    if (coming !== undefined) this.open(coming);
    linkSync(join(this.target, earlier), path);
  }

  private open(wanted: Wanted): number {
    wanted.fd ??= openSync(
      join(this.target, wanted.stat.path),
      constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
      0o600,
    );
    return wanted.fd;
  }

  private write(id: number, data: Buffer): void {
    const wanted = this.wanted.get(id);
    if (wanted === undefined) throw new InvalidParameter(`invalid file request ${id}`);
    const fd = this.open(wanted);
    if (data.length === 0) {
      this.complete(id, wanted, fd);
      return;
    }
    wanted.received += data.length;
    this.received += data.length;
    if (wanted.received > Number(wanted.stat.size)) {
      // A file that grows while it is sent has no end that we know of.
      throw new InvalidParameter(`${wanted.stat.path} is larger than the client said: ${wanted.stat.size} bytes`);
    }
    for (let written = 0; written < data.length; ) written += writeSync(fd, data, written);
  }

  private complete(id: number, { stat }: Wanted, fd: number): void {
    this.wanted.delete(id);
    this.coming.delete(stat.path);
    fchmodSync(fd, permissionsOf(stat.mode));
    closeSync(fd);
    lutimesNs(join(this.target, stat.path), stat.modTime, stat.modTime);
  }

  private checkPath(path: string): void {
    const parts = path.split('/');
    const isClean =
      path.length <= longestPath && !path.includes('\0') && parts.every((part) => part !== '' && part !== '.' && part !== '..');
    if (!isClean) throw new InvalidParameter(`invalid path ${JSON.stringify(path.slice(0, longestPath))} in the client's files`);
    const parent = dirname(path);
    if (parent !== '.' && !this.directories.has(parent)) throw new InvalidParameter(`${path} stands in no directory that was listed`);
    if (!isAfter(parts, this.last)) throw new InvalidParameter(`${path} is out of order in the client's files`);
    this.last = parts;
  }

  /** What the client no longer has. */
  private async removeUnlisted(): Promise<void> {
    const pending = [''];
    for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
      for (const entry of await readdir(join(this.target, directory), { withFileTypes: true })) {
        const path = directory === '' ? entry.name : `${directory}/${entry.name}`;
        if (!this.listed.has(path)) await rm(join(this.target, path), { recursive: true, force: true });
        else if (entry.isDirectory()) pending.push(path);
      }
    }
  }
}

/** The order of a walk, names compared by their bytes. */
function isAfter(path: readonly string[], before: readonly string[]): boolean {
  for (const [index, part] of path.entries()) {
    const other = before[index];
    if (other === undefined) return true;
    if (part !== other) return Buffer.compare(Buffer.from(part), Buffer.from(other)) > 0;
  }
  return false;
}
