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

export interface SyncRequest {
  /** The client's name for the directory: `context`, `dockerfile`, … */
  readonly directory: string;
  /** Only these, with what links lead to; empty: all. */
  readonly paths: readonly string[];
  /** Lines of a .dockerignore. */
  readonly excludes: readonly string[];
}

const mostEntries = 2_000_000;
const longestPath = 4096;

interface Wanted {
  readonly stat: Stat;
  fd: number | undefined;
  received: number;
}

/** @param target - an existing directory that nobody else changes. @param heard - is told how many bytes have come. */
export async function syncDirectory(
  connection: GrpcConnection,
  request: SyncRequest,
  target: string,
  heard: (bytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const exchange = connection.open(FileSyncService.diffCopy, metadataOf(request), signal);
  const receiver = new Receiver(target, exchange, heard);
  try {
    await receiver.run();
  } catch (error) {
    exchange.cancel();
    signal.throwIfAborted();
    throw error;
  } finally {
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
  private readonly exchange: GrpcExchange<Packet, Packet>;
  private readonly heard: (bytes: number) => void;
  private readonly directories = new Map<string, Stat>();
  private readonly listed = new Set<string>();
  private readonly wanted = new Map<number, Wanted>();
  /** Of those, by their path. */
  private readonly coming = new Map<string, Wanted>();
  private readonly room: number;
  private promised = 0;
  private received = 0;
  private entries = 0;
  private last: string[] = [];
  private isListComplete = false;

  constructor(target: string, exchange: GrpcExchange<Packet, Packet>, heard: (bytes: number) => void) {
    this.target = target;
    this.exchange = exchange;
    this.heard = heard;
    const { bavail, bsize } = statfsSync(target);
    this.room = bavail * bsize;
  }

  async run(): Promise<void> {
    let saidEnd = false;
    let heardEnd = false;
    const turns = new Turns();
    for await (const packets of this.exchange.batches()) {
      const requests: Packet[] = [];
      for (const packet of packets) {
        await turns.pass();
        if (packet.type === PacketType.PACKET_FIN) {
          if (heardEnd || !saidEnd)
            throw new InvalidParameter('the client says that all is sent before it was told that all is here, or again');
          heardEnd = true;
          this.exchange.end();
        } else this.take(packet, requests);
      }
      if (this.isListComplete && this.wanted.size === 0 && !saidEnd) {
        saidEnd = true;
        await this.removeUnlisted();
        requests.push(Packet.create({ type: PacketType.PACKET_FIN }));
      }
      if (requests.length > 0 && !heardEnd) await this.exchange.send(...requests);
      this.heard(this.received);
    }
    if (!saidEnd || !heardEnd) throw new System('the client ended its files too early');
    // What was written in a directory has changed its time.
    for (const [path, { modTime }] of this.directories) {
      lutimesNs(join(this.target, path), modTime, modTime);
      await turns.pass();
    }
  }

  close(): void {
    for (const { fd } of this.wanted.values()) if (fd !== undefined) closeSync(fd);
    this.wanted.clear();
  }

  private take({ type, stat, id, data }: Packet, requests: Packet[]): void {
    switch (type) {
      case PacketType.PACKET_STAT:
        if (this.isListComplete) throw new InvalidParameter('the client lists files after the end of its list');
        if (stat === undefined) this.isListComplete = true;
        else if (this.place(stat, this.entries++)) requests.push(Packet.create({ type: PacketType.PACKET_REQ, id: this.entries - 1 }));
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

  /** Makes an entry, or finds that it is there. @returns whether its content is to be asked for. */
  private place(stat: Stat, id: number): boolean {
    if (this.entries > mostEntries) throw new InvalidParameter(`a context of more than ${mostEntries} files`);
    this.checkPath(stat.path);
    this.listed.add(stat.path);
    const path = join(this.target, stat.path);
    const here = lstatSync(path, { throwIfNoEntry: false, bigint: true });
    switch (kindOf(stat.mode)) {
      case 'directory':
        if (here?.isDirectory() !== true) {
          if (here !== undefined) rmSync(path);
          mkdirSync(path);
        }
        chmodSync(path, permissionsOf(stat.mode));
        this.directories.set(stat.path, stat);
        return false;
      case 'symlink':
        if (here?.isSymbolicLink() === true && readlinkSync(path) === stat.linkname) return false;
        rmSync(path, { recursive: true, force: true });
        symlinkSync(stat.linkname, path);
        lutimesNs(path, stat.modTime, stat.modTime);
        return false;
      case 'special':
        this.listed.delete(stat.path);
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
