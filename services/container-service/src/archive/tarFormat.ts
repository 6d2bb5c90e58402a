/**
 * The tar format: ustar headers with pax records before them where a field does not fit. Values of pax records stay bytes, since
 * extended attributes are.
 */
import { InvalidParameter } from '@flotilla/errors';

export type TarType = 'file' | 'hardlink' | 'symlink' | 'character' | 'block' | 'directory' | 'fifo';

export interface TarHeader {
  readonly name: string;
  readonly type: TarType;
  /** permission bits with setuid, setgid and sticky */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** bytes; 0 but for files */
  readonly size: number;
  /** seconds since the epoch; may have a fraction */
  readonly mtime: number;
  /** target of a symbolic link, or the name of the entry a hard link is one with */
  readonly linkName?: string;
  readonly major?: number;
  readonly minor?: number;
  readonly xattrs?: ReadonlyMap<string, Buffer>;
}

export const blockBytes = 512;
export const xattrPrefix = 'SCHILY.xattr.';

const typeFlags: Readonly<Record<TarType, string>> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  character: '3',
  block: '4',
  directory: '5',
  fifo: '6',
};
const largestOctal8 = 0o7777777;
const largestOctal12 = 0o77777777777;
const paxFlag = 'x';

/** Bytes that fill an entry's data up to a whole block. */
export function paddingBytes(size: number): number {
  return (blockBytes - (size % blockBytes)) % blockBytes;
}

/** An entry's header, with its pax records when it needs them. */
export function encodeHeader(header: TarHeader): Buffer {
  const pax = new Map<string, Buffer>();
  const name = Buffer.from(header.name);
  const linkName = Buffer.from(header.linkName ?? '');
  if (name.length > 100 || !isAscii(name)) pax.set('path', name);
  if (linkName.length > 100 || !isAscii(linkName)) pax.set('linkpath', linkName);
  if (header.size > largestOctal12) pax.set('size', Buffer.from(`${header.size}`));
  if (header.uid > largestOctal8) pax.set('uid', Buffer.from(`${header.uid}`));
  if (header.gid > largestOctal8) pax.set('gid', Buffer.from(`${header.gid}`));
  if (header.mtime < 0 || header.mtime > largestOctal12) pax.set('mtime', Buffer.from(`${header.mtime}`));
  for (const [attribute, value] of header.xattrs ?? []) pax.set(`${xattrPrefix}${attribute}`, value);
  const block = encodeBlock(header, typeFlags[header.type], name.subarray(0, 100), linkName.subarray(0, 100));
  if (pax.size === 0) return block;
  const records = Buffer.concat([...pax].map(([key, value]) => paxRecord(key, value)));
  const paxHeader: TarHeader = { name: 'PaxHeaders/0', type: 'file', mode: 0o644, uid: 0, gid: 0, size: records.length, mtime: 0 };
  const before = encodeBlock(paxHeader, paxFlag, Buffer.from(paxHeader.name), Buffer.alloc(0));
  return Buffer.concat([before, records, Buffer.alloc(paddingBytes(records.length)), block]);
}

function encodeBlock(header: TarHeader, flag: string, name: Buffer, linkName: Buffer): Buffer {
  const block = Buffer.alloc(blockBytes);
  name.copy(block, 0);
  octal(block, 100, 8, header.mode & 0o7777);
  octal(block, 108, 8, Math.min(header.uid, largestOctal8));
  octal(block, 116, 8, Math.min(header.gid, largestOctal8));
  octal(block, 124, 12, Math.min(header.size, largestOctal12));
  octal(block, 136, 12, Math.min(Math.max(Math.floor(header.mtime), 0), largestOctal12));
  block.write(flag, 156, 'latin1');
  linkName.copy(block, 157);
  block.write('ustar\x0000', 257, 'latin1');
  octal(block, 329, 8, header.major ?? 0);
  octal(block, 337, 8, header.minor ?? 0);
  block.write(`${checksum(block).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

function octal(block: Buffer, offset: number, length: number, value: number): void {
  block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, offset, 'latin1');
}

function isAscii(bytes: Buffer): boolean {
  return bytes.every((byte) => byte < 0x80);
}

/** `<length> key=value\n`, where the length counts itself. */
function paxRecord(key: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')]);
  let length = rest.length;
  while (`${length}`.length + rest.length !== length) length = `${length}`.length + rest.length;
  return Buffer.concat([Buffer.from(`${length}`), rest]);
}

/** The sum of all bytes of a header, its own field taken as spaces. */
function checksum(block: Buffer): number {
  let sum = 8 * 0x20;
  for (let index = 0; index < blockBytes; index += 1) if (index < 148 || index >= 156) sum += block[index] ?? 0;
  return sum;
}

/** A header block as it stands, before long names and pax records are applied. */
export interface RawHeader {
  readonly flag: string;
  readonly name: Buffer;
  readonly linkName: Buffer;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: number;
  readonly major: number;
  readonly minor: number;
}

/** @throws InvalidParameter when the block is no tar header. */
export function decodeBlock(block: Buffer): RawHeader {
  if (number(block, 148, 8) !== checksum(block)) throw new InvalidParameter('archive/tar: invalid tar header');
  const magic = block.toString('latin1', 257, 263);
  const prefix = magic === 'ustar\0' ? text(block, 345, 155) : Buffer.alloc(0);
  const name = text(block, 0, 100);
  return {
    flag: String.fromCharCode(block[156] || 0x30),
    name: prefix.length > 0 ? Buffer.concat([prefix, Buffer.from('/'), name]) : name,
    linkName: text(block, 157, 100),
    mode: number(block, 100, 8) & 0o7777,
    uid: number(block, 108, 8),
    gid: number(block, 116, 8),
    size: number(block, 124, 12),
    mtime: number(block, 136, 12),
    major: number(block, 329, 8),
    minor: number(block, 337, 8),
  };
}

function text(block: Buffer, offset: number, length: number): Buffer {
  const field = block.subarray(offset, offset + length);
  const end = field.indexOf(0);
  return Buffer.from(end < 0 ? field : field.subarray(0, end));
}

/** Octal digits, or with the first bit set a big-endian number. */
function number(block: Buffer, offset: number, length: number): number {
  const first = block[offset] ?? 0;
  if (first & 0x80) {
    let value = first === 0xff ? -1n : BigInt(first & 0x7f);
    for (let index = 1; index < length; index += 1) value = (value << 8n) | BigInt(block[offset + index] ?? 0);
    return Number(value);
  }
  const digits = block
    .toString('latin1', offset, offset + length)
    .replace(/\0.*$/s, '')
    .trim();
  if (digits === '') return 0;
  if (!/^[0-7]+$/.test(digits)) throw new InvalidParameter('archive/tar: invalid tar header');
  return Number.parseInt(digits, 8);
}

/** @throws InvalidParameter */
export function decodePax(records: Buffer): Map<string, Buffer> {
  const pax = new Map<string, Buffer>();
  for (let at = 0; at < records.length; ) {
    const space = records.indexOf(0x20, at);
    const length = space < 0 ? Number.NaN : Number(records.toString('latin1', at, space));
    const end = at + length;
    const equals = records.indexOf(0x3d, space);
    if (!Number.isInteger(length) || length < 5 || end > records.length || records[end - 1] !== 0x0a || equals < 0 || equals >= end) {
      throw new InvalidParameter('archive/tar: invalid tar header');
    }
    const key = records.toString('utf8', space + 1, equals);
    const value = Buffer.from(records.subarray(equals + 1, end - 1));
    // A map of a sparse file in its oldest form: a pair of records for each region.
    const known = key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes' ? pax.get('GNU.sparse.map') : undefined;
    if (key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes') {
      pax.set('GNU.sparse.map', known === undefined ? value : Buffer.concat([known, Buffer.from(','), value]));
    } else pax.set(key, value);
    at = end;
  }
  return pax;
}
