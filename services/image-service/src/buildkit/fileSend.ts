/** Files of a result to the client: a tree into a directory of its choice, or a tar. */
import { spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { Packet, Packet_PacketType as PacketType, type Stat, Stat as StatMessage } from '@flotilla/contracts/fsutil/types/wire';
import { FileSendService, FileSyncService } from '@flotilla/contracts/moby/filesync/v1/filesync';
import { InvalidParameter, System } from '@flotilla/errors';
import { goMode, kindOf } from './fileMode.ts';
import type { CallMetadata, GrpcConnection, GrpcExchange, GrpcMethod } from './grpcConnection.ts';

/** The packets of file sync travel on it, whatever its declared type. */
const sendTree: GrpcMethod<Packet, Packet> = { ...FileSyncService.diffCopy, path: FileSendService.diffCopy.path };
const chunkBytes = 32 * 1024;
const statsAtOnce = 256;

const metadataOf = (exporter: number): CallMetadata => [['buildkit-attachable-exporter-id', String(exporter)]];

export interface FileSending {
  /** The exporter's place among those that the client named. */
  readonly exporter: number;
  readonly root: string;
  /** The time that everything gets, seconds. Undefined: its own. */
  readonly time: number | undefined;
  /** Is told how many bytes have gone. */
  readonly heard: (bytes: number) => void;
  readonly signal: AbortSignal;
}

export async function sendDirectory(connection: GrpcConnection, sending: FileSending): Promise<void> {
  const { exporter, signal } = sending;
  const exchange = connection.open(sendTree, metadataOf(exporter), signal);
  try {
    await new Sender(sending, exchange).run();
  } catch (error) {
    exchange.cancel();
    signal.throwIfAborted();
    throw error;
  }
}

class Sender {
  private readonly root: string;
  private readonly exchange: GrpcExchange<Packet, Packet>;
  private readonly heard: (bytes: number) => void;
  private readonly timeNs: bigint | undefined;
  private readonly files = new Map<number, string>();
  private readonly links = new Map<string, string>();
  private entries = 0;
  private sent = 0;

  constructor({ root, time, heard }: FileSending, exchange: GrpcExchange<Packet, Packet>) {
    this.root = root;
    this.exchange = exchange;
    this.heard = heard;
    this.timeNs = time === undefined ? undefined : BigInt(time) * 1_000_000_000n;
  }

  async run(): Promise<void> {
    const listed = this.list();
    listed.catch(() => undefined);
    for await (const packets of this.exchange.batches()) {
      for (const packet of packets) await this.answer(packet, listed);
    }
    await listed;
  }

  private async list(): Promise<void> {
    let batch: Packet[] = [];
    for await (const stat of this.walk('')) {
      batch.push(Packet.create({ type: PacketType.PACKET_STAT, stat }));
      if (batch.length < statsAtOnce) continue;
      await this.exchange.send(...batch);
      batch = [];
    }
    await this.exchange.send(...batch, Packet.create({ type: PacketType.PACKET_STAT }));
  }

  private async answer({ type, id, data }: Packet, listed: Promise<void>): Promise<void> {
    switch (type) {
      case PacketType.PACKET_REQ:
        await this.sendFile(id);
        return;
      case PacketType.PACKET_FIN:
        await listed;
        await this.exchange.send(Packet.create({ type: PacketType.PACKET_FIN }));
        this.exchange.end();
        return;
      case PacketType.PACKET_ERR:
        throw new System(`error from receiver: ${data.toString('utf8')}`);
      default:
        throw new InvalidParameter(`the client sends a packet that a receiver does not send: ${type}`);
    }
  }

  private async sendFile(id: number): Promise<void> {
    const path = this.files.get(id);
    if (path === undefined) throw new InvalidParameter(`invalid file id ${id}`);
    this.files.delete(id);
    for await (const data of createReadStream(path, { highWaterMark: chunkBytes }) as AsyncIterable<Buffer>) {
      this.sent += data.length;
      await this.exchange.send(Packet.create({ type: PacketType.PACKET_DATA, id, data }));
      this.heard(this.sent);
    }
    await this.exchange.send(Packet.create({ type: PacketType.PACKET_DATA, id }));
  }

  /** Parents first, names in the order of their bytes. */
  private async *walk(directory: string): AsyncGenerator<Stat> {
    const names = (await readdir(join(this.root, directory))).map((name) => Buffer.from(name)).sort(Buffer.compare);
    for (const name of names) {
      const path = directory === '' ? name.toString() : `${directory}/${name.toString()}`;
      const stat = await this.describe(path);
      if (stat === undefined) continue;
      yield stat;
      if (kindOf(stat.mode) === 'directory') yield* this.walk(path);
    }
  }

  /** Undefined for what cannot be sent: devices and the like. */
  private async describe(path: string): Promise<Stat | undefined> {
    const absolute = join(this.root, path);
    const found = await lstat(absolute, { bigint: true });
    const kind = found.isDirectory() ? 'directory' : found.isSymbolicLink() ? 'symlink' : 'file';
    if (kind === 'file' && !found.isFile()) return undefined;
    const id = this.entries++;
    const inode = `${found.dev}:${found.ino}`;
    const earlier = kind === 'file' && found.nlink > 1n ? this.links.get(inode) : undefined;
    if (kind === 'file') {
      if (found.nlink > 1n && earlier === undefined) this.links.set(inode, path);
      if (earlier === undefined) this.files.set(id, absolute);
    }
    return StatMessage.create({
      path,
      mode: goMode(Number(found.mode), kind),
      uid: Number(found.uid),
      gid: Number(found.gid),
      size: kind === 'file' ? found.size : 0n,
      modTime: this.timeNs ?? found.mtimeNs,
      linkname: kind === 'symlink' ? await readlink(absolute) : (earlier ?? ''),
    });
  }
}

/** A tar of the whole tree, with numeric owners. */
export async function sendTar(connection: GrpcConnection, { exporter, root, time, heard, signal }: FileSending): Promise<void> {
  const exchange = connection.open(FileSendService.diffCopy, metadataOf(exporter), signal);
  const names = (await readdir(root)).sort();
  const content = names.length === 0 ? ['--files-from=/dev/null'] : ['--', ...names];
  // With a time of its own also what the format itself would tell of this moment is left out.
  const times = time === undefined ? [] : [`--mtime=@${time}`, '--pax-option=delete=atime,delete=ctime,exthdr.name=%d/PaxHeaders/%f'];
  const options = ['--create', '--format=pax', '--numeric-owner', '--sort=name', ...times];
  const tar = spawn('tar', [...options, '-C', root, '--file=-', ...content], {
    stdio: ['ignore', 'pipe', 'pipe'],
    signal,
  });
  const ended = new Promise<void>((resolve, reject) => {
    let said = '';
    tar.stderr.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString('utf8')).slice(-1024);
    });
    tar.on('error', reject);
    tar.on('close', (code) => (code === 0 ? resolve() : reject(new System(`tar: ${said.trim()}`))));
  });
  ended.catch(() => undefined);
  try {
    let sent = 0;
    for await (const data of tar.stdout as AsyncIterable<Buffer>) {
      await exchange.send({ data });
      sent += data.length;
      heard(sent);
    }
    await ended;
    exchange.end();
    for await (const _answer of exchange.batches()) {
      // The client says nothing but that it has ended.
    }
  } catch (error) {
    tar.kill('SIGKILL');
    exchange.cancel();
    signal.throwIfAborted();
    throw error;
  }
}
