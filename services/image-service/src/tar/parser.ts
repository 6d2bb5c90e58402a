/**
 * Reads a tar as its bytes arrive, without ever waiting: ustar, GNU long names, PAX records, sparse files (sparse.ts). Synchronous on
 * purpose: a layer holds tens of thousands of entries, and a promise for each costs more than writing the file.
 */
import { blockBytes, cString, parseNumber, SparseContent, type SparseFile, SparseMapReader, sparseFromText, TarError } from '@flotilla/tar';
import { checksumFits, type EntryType, type TarEntry, typeFlags } from './header.ts';

/** What happens with the content of a tar. `data` is called with the pieces of the last entry's content, then `entryEnd`. */
export interface TarHandler {
  entry(entry: TarEntry): void;
  data(chunk: Buffer): void;
  /** Zeros of a sparse file that the tar leaves out. A handler without this is given them as data. */
  hole?(length: number): void;
  entryEnd(): void;
}

/** Extension records are held in memory: this bounds them. */
const maxExtensionBytes = 1024 * 1024;

type State = 'header' | 'sparseMap' | 'content' | 'padding' | 'extension' | 'end';
type Extension = 'pax' | 'paxGlobal' | 'longName' | 'longLink';

const extensions: Readonly<Record<string, Extension>> = { x: 'pax', X: 'pax', g: 'paxGlobal', L: 'longName', K: 'longLink' };
const gnuSparse = 'S';
const zeros = Buffer.alloc(64 * 1024);
const noAttributes: ReadonlyMap<string, Buffer> = new Map();

export class TarParser {
  private readonly handler: TarHandler;
  private state: State = 'header';
  /** A header, or the tail of one, that chunk borders have cut. */
  private readonly block = Buffer.alloc(blockBytes);
  private held = 0;
  private remaining = 0;
  private padding = 0;
  private extension: { kind: Extension; parts: Buffer[] } | undefined;
  private pax = new Map<string, Buffer>();
  private readonly globalPax = new Map<string, Buffer>();
  private longName: string | undefined;
  private longLink: string | undefined;
  /** A sparse file whose map is being read: its entry is told when the map is whole. */
  private sparseMap: { readonly reader: SparseMapReader; readonly entry: TarEntry; storedBytes: number; mapInContent: boolean } | undefined;
  private sparse: SparseContent | undefined;
  private sawZeroBlock = false;
  private sawHeader = false;

  constructor(handler: TarHandler) {
    this.handler = handler;
  }

  /** Takes the next bytes. @throws TarError, and whatever the handler throws. */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length && this.state !== 'end') {
      switch (this.state) {
        case 'header':
        case 'sparseMap':
          at = this.takeBlock(chunk, at);
          break;
        case 'content':
        case 'extension': {
          const length = Math.min(this.remaining, chunk.length - at);
          const piece = chunk.subarray(at, at + length);
          if (this.extension === undefined) this.takeContent(piece);
          else this.extension.parts.push(Buffer.from(piece));
          this.remaining -= length;
          at += length;
          if (this.remaining === 0) this.contentEnd();
          break;
        }
        case 'padding': {
          const length = Math.min(this.padding, chunk.length - at);
          this.padding -= length;
          at += length;
          if (this.padding === 0) this.state = 'header';
          break;
        }
      }
    }
  }

  /** Says that no more bytes come. @throws TarError when the tar was cut. */
  end(): void {
    if (this.state === 'content' || this.state === 'sparseMap' || this.state === 'extension' || this.held > 0)
      throw new TarError('unexpected EOF');
    if (this.longName !== undefined || this.pax.size > 0) throw new TarError('unexpected EOF');
  }

  /** Whether anything that is a tar has been read. */
  get started(): boolean {
    return this.sawHeader || this.sawZeroBlock;
  }

  private takeBlock(chunk: Buffer, at: number): number {
    let block = chunk;
    let offset = at;
    let next = at + blockBytes;
    if (this.held > 0 || chunk.length - at < blockBytes) {
      const length = Math.min(blockBytes - this.held, chunk.length - at);
      chunk.copy(this.block, this.held, at, at + length);
      this.held += length;
      if (this.held < blockBytes) return chunk.length;
      this.held = 0;
      block = this.block;
      offset = 0;
      next = at + length;
    }
    const whole = block.subarray(offset, offset + blockBytes);
    if (this.state === 'sparseMap') this.readSparseMap(whole);
    else this.readHeader(whole);
    return next;
  }

  private readHeader(block: Buffer): void {
    if (block[0] === 0 && isZero(block)) {
      // Two zero blocks end a tar; a single one in the middle is passed over, as Go and GNU tar do.
      if (this.sawZeroBlock) this.state = 'end';
      this.sawZeroBlock = true;
      return;
    }
    this.sawZeroBlock = false;
    if (!checksumFits(block)) throw new TarError('invalid tar header');
    this.sawHeader = true;
    const flag = String.fromCharCode(block[156] ?? 0);
    const size = parseNumber(block, 124, 12);
    const kind = extensions[flag];
    if (kind !== undefined) {
      if (size > maxExtensionBytes || size < 0) throw new TarError(`tar extension of ${size} bytes is too large`);
      this.extension = { kind, parts: [] };
      this.startContent(size, 'extension');
      return;
    }
    const type = flag === gnuSparse ? 'file' : typeFlags[flag];
    if (type === undefined) throw new TarError(`unhandled tar header type ${flag.charCodeAt(0)}`);
    this.startEntry(block, type, size);
  }

  private startEntry(block: Buffer, flagType: EntryType, headerSize: number): void {
    const isUstar = block.toString('latin1', 257, 262) === 'ustar';
    const isGnu = isUstar && block[262] === 0x20;
    const prefix = isUstar && !isGnu ? cString(block, 345, 155) : '';
    const pax = this.pax;
    const text = (key: string): string | undefined => (pax.get(key) ?? this.globalPax.get(key))?.toString('utf8');
    const shortName = cString(block, 0, 100);
    const name = text('GNU.sparse.name') ?? text('path') ?? this.longName ?? (prefix === '' ? shortName : `${prefix}/${shortName}`);
    const linkName = text('linkpath') ?? this.longLink ?? cString(block, 157, 100);
    if (name.includes('\0') || linkName.includes('\0')) throw new TarError('tar entry with a NUL in its name');
    const size = paxInteger(text('size')) ?? headerSize;
    if (size < 0) throw new TarError('invalid tar header');
    // Old tars write directories as files whose name ends in a slash.
    const type = flagType === 'file' && name.endsWith('/') ? 'directory' : flagType;
    const hasContent = type === 'file';
    const entry: TarEntry = {
      name,
      type,
      linkName,
      mode: parseNumber(block, 100, 8) & 0o7777,
      uid: identity(paxInteger(text('uid')) ?? parseNumber(block, 108, 8)),
      gid: identity(paxInteger(text('gid')) ?? parseNumber(block, 116, 8)),
      sizeBytes: hasContent ? size : 0,
      mtimeNs: paxTime(text('mtime')) ?? BigInt(parseNumber(block, 136, 12)) * 1_000_000_000n,
      devMajor: isUstar ? parseNumber(block, 329, 8) : 0,
      devMinor: isUstar ? parseNumber(block, 337, 8) : 0,
      xattrs: attributes(pax),
    };
    this.pax = new Map();
    this.longName = undefined;
    this.longLink = undefined;
    if (hasContent && this.startSparse(block, entry, pax)) return;
    this.handler.entry(entry);
    // Links and directories may carry a size that means nothing.
    this.startContent(hasContent ? size : 0, 'content');
  }

  /** A sparse file: its entry says the size with holes. Answers false for any other. */
  private startSparse(header: Buffer, entry: TarEntry, pax: ReadonlyMap<string, Buffer>): boolean {
    const storedBytes = entry.sizeBytes;
    if (header[156] === gnuSparse.charCodeAt(0)) {
      const { reader, more } = SparseMapReader.ofHeader(header);
      this.sparseMap = { reader, entry, storedBytes, mapInContent: false };
      if (more) this.state = 'sparseMap';
      else this.startSparseContent();
      return true;
    }
    const text = (key: string): string | undefined => pax.get(`GNU.sparse.${key}`)?.toString('latin1');
    const map = text('map');
    if (text('major') === '1' && text('minor') === '0') {
      const reader = SparseMapReader.ofBlocks(paxInteger(text('realsize')) ?? 0);
      this.sparseMap = { reader, entry, storedBytes, mapInContent: true };
      this.state = 'sparseMap';
      return true;
    }
    if (map === undefined) return false;
    this.beginSparse(entry, sparseFromText(map, paxInteger(text('size')) ?? 0, storedBytes), storedBytes);
    return true;
  }

  private readSparseMap(block: Buffer): void {
    const map = this.sparseMap;
    if (map === undefined) throw new TarError('invalid tar header');
    if (map.mapInContent) {
      map.storedBytes -= blockBytes;
      if (map.storedBytes < 0) throw new TarError('invalid tar header');
    }
    if (!map.reader.takeBlock(block)) this.startSparseContent();
  }

  private startSparseContent(): void {
    const map = this.sparseMap;
    this.sparseMap = undefined;
    if (map !== undefined) this.beginSparse(map.entry, map.reader.finish(map.storedBytes), map.storedBytes);
  }

  private beginSparse(entry: TarEntry, file: SparseFile, storedBytes: number): void {
    this.handler.entry({ ...entry, sizeBytes: file.sizeBytes });
    this.sparse = new SparseContent(file);
    this.startContent(storedBytes, 'content');
  }

  private takeContent(piece: Buffer): void {
    if (this.sparse === undefined) this.handler.data(piece);
    else this.sparse.take(piece, { data: (chunk) => this.handler.data(chunk), hole: this.hole });
  }

  private readonly hole = (length: number): void => {
    if (this.handler.hole !== undefined) {
      this.handler.hole(length);
      return;
    }
    for (let left = length; left > 0; left -= zeros.length) this.handler.data(zeros.subarray(0, Math.min(left, zeros.length)));
  };

  private startContent(size: number, state: 'content' | 'extension'): void {
    this.remaining = size;
    this.padding = (blockBytes - (size % blockBytes)) % blockBytes;
    this.state = state;
    if (size === 0) this.contentEnd();
  }

  private contentEnd(): void {
    this.state = this.padding > 0 ? 'padding' : 'header';
    if (this.extension === undefined) {
      this.sparse?.finish(this.hole);
      this.sparse = undefined;
      this.handler.entryEnd();
      return;
    }
    const { kind, parts } = this.extension;
    this.extension = undefined;
    const bytes = Buffer.concat(parts);
    if (kind === 'longName') this.longName = cString(bytes, 0, bytes.length);
    else if (kind === 'longLink') this.longLink = cString(bytes, 0, bytes.length);
    else for (const [key, value] of parsePax(bytes)) (kind === 'pax' ? this.pax : this.globalPax).set(key, value);
  }
}

function isZero(block: Buffer): boolean {
  for (let i = 0; i < blockBytes; i += 8) if (block.readDoubleLE(i) !== 0 || block.readUInt32LE(i + 4) !== 0) return false;
  return true;
}

/** `<length> <key>=<value>\n`, repeated. */
function parsePax(bytes: Buffer): Map<string, Buffer> {
  const records = new Map<string, Buffer>();
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at);
    const length = space === -1 || space - at > 10 ? Number.NaN : Number(bytes.toString('latin1', at, space));
    const end = at + length;
    const equals = bytes.indexOf(0x3d, space);
    if (!Number.isInteger(length) || length < 5 || end > bytes.length || equals === -1 || equals >= end || bytes[end - 1] !== 0x0a) {
      throw new TarError('invalid tar header');
    }
    const key = bytes.toString('utf8', space + 1, equals);
    const value = bytes.subarray(equals + 1, end - 1);
    if (key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes') {
      // Form 0.0 repeats these two for each region: together they are form 0.1's map.
      const known = records.get('GNU.sparse.map');
      records.set('GNU.sparse.map', known === undefined ? value : Buffer.concat([known, Buffer.from(','), value]));
    } else records.set(key, value);
    at = end;
  }
  return records;
}

function paxInteger(text: string | undefined): number | undefined {
  if (text === undefined || text === '') return undefined;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new TarError('invalid tar header');
  return value;
}

function paxTime(text: string | undefined): bigint | undefined {
  if (text === undefined || text === '') return undefined;
  const match = /^(-?)(\d{1,12})(?:\.(\d{0,9})\d*)?$/.exec(text);
  if (match === null) throw new TarError('invalid tar header');
  const value = BigInt(match[2] ?? 0) * 1_000_000_000n + BigInt((match[3] ?? '').padEnd(9, '0'));
  return match[1] === '-' ? -value : value;
}

function identity(id: number): number {
  if (id < 0 || id > 0xffff_fffe) throw new TarError('tar entry with an owner out of range');
  return id;
}

function attributes(pax: ReadonlyMap<string, Buffer>): ReadonlyMap<string, Buffer> {
  const prefix = 'SCHILY.xattr.';
  let found: Map<string, Buffer> | undefined;
  for (const [key, value] of pax) {
    if (!key.startsWith(prefix)) continue;
    found ??= new Map();
    found.set(key.slice(prefix.length), value);
  }
  return found ?? noAttributes;
}
