/** Reads a tar stream entry by entry; nothing but a header is held in memory. */
import { InvalidParameter } from '@flotilla/errors';
import { type SparseFile, SparseMapReader, sparseFromText, TarError } from '@flotilla/tar';
import {
  blockBytes,
  decodeBlock,
  decodePax,
  paddingBytes,
  type RawHeader,
  type TarHeader,
  type TarType,
  xattrPrefix,
} from './tarFormat.ts';

/** An entry, whose data must be read or skipped before the next one. */
export interface TarEntry {
  readonly header: TarHeader;
  /** Where the data goes in a file with holes; absent: one piece follows the other. */
  readonly sparse?: SparseFile;
  /** the data, in the pieces it came in */
  data(): AsyncIterable<Buffer>;
}

/** Long names and pax records are read whole; no honest one is larger. */
const largestMetadataBytes = 1024 * 1024;
const sparseFlag = 0x53;
const types: Readonly<Record<string, TarType>> = {
  '0': 'file',
  S: 'file',
  '7': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
};

/** @throws InvalidParameter when the stream is no whole tar archive. */
export async function* readTar(stream: AsyncIterable<Buffer>): AsyncGenerator<TarEntry> {
  const source = new ByteSource(stream);
  let pax = new Map<string, Buffer>();
  let globalPax = new Map<string, Buffer>();
  let longName: Buffer | undefined;
  let longLinkName: Buffer | undefined;
  for (;;) {
    const block = await source.take(blockBytes, true);
    if (block === undefined) return;
    if (isZero(block)) {
      // The end is two such blocks; one is enough for everybody. What follows is read so that the sender can finish.
      await source.drain();
      return;
    }
    const raw = decodeBlock(block);
    if (raw.size < 0 || !Number.isSafeInteger(raw.size)) throw new InvalidParameter('archive/tar: invalid tar header');
    if ('xgLK'.includes(raw.flag)) {
      const data = await metadata(source, raw);
      if (raw.flag === 'x') pax = decodePax(data);
      else if (raw.flag === 'g') globalPax = new Map([...globalPax, ...decodePax(data)]);
      else if (raw.flag === 'L') longName = untilNul(data);
      else longLinkName = untilNul(data);
      continue;
    }
    const type = types[raw.flag];
    const records = new Map([...globalPax, ...pax]);
    const header = apply(raw, type ?? 'file', records, longName, longLinkName);
    const { sparse, mapBytes } = await readSparse(source, block, header.size, pax);
    pax = new Map();
    longName = undefined;
    longLinkName = undefined;
    // Only files have data, whatever a header claims; a hard link's size is that of the other name.
    const size = header.type === 'file' || type === undefined ? header.size : 0;
    let left = Math.max(size - mapBytes, 0);
    const data = async function* (): AsyncGenerator<Buffer> {
      while (left > 0) {
        const piece = await source.some(left);
        left -= piece.length;
        yield piece;
      }
    };
    if (sparse !== undefined) yield { header: { ...header, size: sparse.sizeBytes }, sparse, data };
    else if (type !== undefined) yield { header: { ...header, size }, data };
    for await (const _ of data());
    const padding = paddingBytes(size);
    if (padding > 0) await source.take(padding);
  }
}

/**
 * The map of a sparse file: in its header, in blocks behind it, in pax records, or in the first blocks of its data.
 *
 * @returns no map for any other file; how many bytes of the data the map has taken.
 */
async function readSparse(
  source: ByteSource,
  block: Buffer,
  size: number,
  pax: ReadonlyMap<string, Buffer>,
): Promise<{ sparse?: SparseFile; mapBytes: number }> {
  const text = (key: string): string | undefined => pax.get(`GNU.sparse.${key}`)?.toString('latin1');
  const bytes = (key: string): number => {
    const value = text(key);
    if (value === undefined || !/^\d{1,16}$/.test(value)) throw new TarError('invalid tar header');
    return Number(value);
  };
  const takeMap = async (reader: SparseMapReader): Promise<number> => {
    for (let blocks = 1; ; blocks++) if (!reader.takeBlock((await source.take(blockBytes)) ?? block)) return blocks * blockBytes;
  };
  try {
    if (block[156] === sparseFlag) {
      const { reader, more } = SparseMapReader.ofHeader(block);
      if (more) await takeMap(reader);
      return { sparse: reader.finish(size), mapBytes: 0 };
    }
    const map = text('map');
    if (map !== undefined) return { sparse: sparseFromText(map, bytes('size'), size), mapBytes: 0 };
    if (text('major') !== '1') return { mapBytes: 0 };
    const reader = SparseMapReader.ofBlocks(bytes('realsize'));
    const mapBytes = await takeMap(reader);
    return { sparse: reader.finish(size - mapBytes), mapBytes };
  } catch (error) {
    throw error instanceof TarError ? new InvalidParameter('archive/tar: invalid tar header', { cause: error }) : error;
  }
}

async function metadata(source: ByteSource, raw: RawHeader): Promise<Buffer> {
  if (raw.size > largestMetadataBytes) throw new InvalidParameter('archive/tar: header field too long');
  const data = (await source.take(raw.size)) ?? Buffer.alloc(0);
  const padding = paddingBytes(raw.size);
  if (padding > 0) await source.take(padding);
  return data;
}

function apply(raw: RawHeader, type: TarType, pax: Map<string, Buffer>, longName?: Buffer, longLinkName?: Buffer): TarHeader {
  const numeric = (key: string, otherwise: number): number => {
    const value = pax.get(key);
    if (value === undefined) return otherwise;
    const parsed = Number(value.toString('latin1'));
    if (!Number.isFinite(parsed)) throw new InvalidParameter('archive/tar: invalid tar header');
    return parsed;
  };
  const xattrs = new Map<string, Buffer>();
  for (const [key, value] of pax) if (key.startsWith(xattrPrefix)) xattrs.set(key.slice(xattrPrefix.length), value);
  const name = utf8(pax.get('GNU.sparse.name') ?? pax.get('path') ?? longName ?? raw.name);
  const size = numeric('size', raw.size);
  if (size < 0 || !Number.isSafeInteger(size)) throw new InvalidParameter('archive/tar: invalid tar header');
  return {
    name,
    // Old archives mark a directory by its name alone.
    type: type === 'file' && name.endsWith('/') ? 'directory' : type,
    mode: raw.mode,
    uid: numeric('uid', raw.uid),
    gid: numeric('gid', raw.gid),
    size,
    mtime: numeric('mtime', raw.mtime),
    linkName: utf8(pax.get('linkpath') ?? longLinkName ?? raw.linkName),
    major: raw.major,
    minor: raw.minor,
    xattrs,
  };
}

function utf8(bytes: Buffer): string {
  const text = bytes.toString('utf8');
  if (bytes.includes(0)) throw new InvalidParameter('archive/tar: a name holds a NUL character');
  if (text.includes('\ufffd') && !Buffer.from(text).equals(bytes))
    throw new InvalidParameter(`archive/tar: the name ${JSON.stringify(text)} is not UTF-8`);
  return text;
}

function untilNul(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0);
  return end < 0 ? bytes : bytes.subarray(0, end);
}

function isZero(block: Buffer): boolean {
  return block.every((byte) => byte === 0);
}

/** A stream of buffers, taken by number of bytes. */
class ByteSource {
  readonly #iterator: AsyncIterator<Buffer>;
  #current: Buffer = Buffer.alloc(0);

  constructor(stream: AsyncIterable<Buffer>) {
    this.#iterator = stream[Symbol.asyncIterator]();
  }

  /** Exactly `length` bytes. @returns undefined at the stream's end when that is allowed. */
  async take(length: number, endAllowed = false): Promise<Buffer | undefined> {
    if (this.#current.length >= length) {
      const taken = this.#current.subarray(0, length);
      this.#current = this.#current.subarray(length);
      return taken;
    }
    const pieces: Buffer[] = [];
    let left = length;
    while (left > 0) {
      if (this.#current.length === 0 && !(await this.#fill())) {
        if (endAllowed && left === length) return undefined;
        throw new InvalidParameter('unexpected EOF');
      }
      const piece = this.#current.subarray(0, left);
      pieces.push(piece);
      left -= piece.length;
      this.#current = this.#current.subarray(piece.length);
    }
    return Buffer.concat(pieces, length);
  }

  /** At least one byte and at most `most`. */
  async some(most: number): Promise<Buffer> {
    if (this.#current.length === 0 && !(await this.#fill())) throw new InvalidParameter('unexpected EOF');
    const piece = this.#current.subarray(0, most);
    this.#current = this.#current.subarray(piece.length);
    return piece;
  }

  async drain(): Promise<void> {
    this.#current = Buffer.alloc(0);
    while (await this.#fill()) this.#current = Buffer.alloc(0);
  }

  async #fill(): Promise<boolean> {
    while (this.#current.length === 0) {
      const next = await this.#iterator.next();
      if (next.done) return false;
      this.#current = next.value;
    }
    return true;
  }
}
