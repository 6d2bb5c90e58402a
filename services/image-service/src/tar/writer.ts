/** Writes tar headers: ustar, with a PAX record for what does not fit (long names, large files, fractions of seconds, attributes). */
import { blockBytes } from '@flotilla/tar';
import type { TarEntry } from './header.ts';

const flags = { file: '0', link: '1', symlink: '2', character: '3', block: '4', directory: '5', fifo: '6' } as const;
const largestOctal = 0o77777777777;
const largestOwner = 0o7777777;

export interface HeaderOptions {
  /** Writes times to the nanosecond. */
  readonly exactTime?: boolean;
}

/** The header block of an entry, with a PAX header before it when one is needed. */
export function encodeHeader(entry: TarEntry, options: HeaderOptions = {}): Buffer {
  const records: [string, Buffer | string][] = [];
  const seconds = floorDivide(entry.mtimeNs, 1_000_000_000n);
  const fraction = entry.mtimeNs - seconds * 1_000_000_000n;
  if (Buffer.byteLength(entry.name) > 100 || !isAscii(entry.name)) records.push(['path', entry.name]);
  if (Buffer.byteLength(entry.linkName) > 100 || !isAscii(entry.linkName)) records.push(['linkpath', entry.linkName]);
  if (entry.sizeBytes > largestOctal) records.push(['size', `${entry.sizeBytes}`]);
  if (entry.uid > largestOwner) records.push(['uid', `${entry.uid}`]);
  if (entry.gid > largestOwner) records.push(['gid', `${entry.gid}`]);
  if ((options.exactTime === true && fraction !== 0n) || seconds < 0n || seconds > BigInt(largestOctal)) {
    records.push(['mtime', paxTime(seconds, fraction)]);
  }
  for (const [name, value] of entry.xattrs) records.push([`SCHILY.xattr.${name}`, value]);
  const header = ustarBlock(entry, seconds < 0n || seconds > BigInt(largestOctal) ? 0 : Number(seconds));
  if (records.length === 0) return header;
  const body = Buffer.concat(records.map(([key, value]) => paxRecord(key, value)));
  const name = `PaxHeaders.0/${entry.name.slice(0, 60).replace(/[^\x20-\x7e]/g, '_')}`;
  const pax = ustarBlock({ ...entry, name, linkName: '', mode: 0o644, uid: 0, gid: 0, sizeBytes: body.length, type: 'file' }, 0, 'x');
  return Buffer.concat([pax, body, padding(body.length), header]);
}

/** The zeros after `size` bytes of content. */
export function padding(size: number): Buffer {
  return zeros.subarray(0, (blockBytes - (size % blockBytes)) % blockBytes);
}

const zeros = Buffer.alloc(blockBytes);

/** What ends a tar. */
export const trailer: Buffer = Buffer.alloc(2 * blockBytes);

/** A plain entry: what archives of ours are made of. */
export function plainEntry(fields: Partial<TarEntry> & Pick<TarEntry, 'name' | 'type'>): TarEntry {
  return {
    linkName: '',
    mode: fields.type === 'directory' ? 0o755 : 0o644,
    uid: 0,
    gid: 0,
    sizeBytes: 0,
    mtimeNs: 0n,
    devMajor: 0,
    devMinor: 0,
    xattrs: new Map(),
    ...fields,
  };
}

function ustarBlock(entry: TarEntry, seconds: number, flag: string = flags[entry.type]): Buffer {
  // Of the pool: a buffer with memory of its own costs more than all that is written to it.
  const block = Buffer.allocUnsafe(blockBytes);
  block.set(emptyBlock);
  block.write(truncated(entry.name), 0, 100, 'utf8');
  octal(block, 100, 8, entry.mode);
  octal(block, 108, 8, Math.min(entry.uid, largestOwner));
  octal(block, 116, 8, Math.min(entry.gid, largestOwner));
  octal(block, 124, 12, Math.min(entry.sizeBytes, largestOctal));
  octal(block, 136, 12, seconds);
  block[156] = flag.charCodeAt(0);
  if (entry.linkName !== '') block.write(truncated(entry.linkName), 157, 100, 'utf8');
  octal(block, 329, 8, entry.devMajor);
  octal(block, 337, 8, entry.devMinor);
  let sum = 0;
  for (let at = 0; at < blockBytes; at++) sum += block[at] ?? 0;
  octal(block, 148, 7, sum);
  return block;
}

/** What is in every header: the format's name, and spaces in the checksum's place, as it is counted. */
const emptyBlock = Buffer.alloc(blockBytes).fill(0x20, 148, 156);
emptyBlock.write('ustar\x0000', 257, 'latin1');

/** Digits up to the last byte of a field, which is zero. */
function octal(block: Buffer, offset: number, length: number, value: number): void {
  let rest = value;
  for (let at = offset + length - 2; at >= offset; at--) {
    block[at] = zero + (rest % 8);
    rest = Math.floor(rest / 8);
  }
  block[offset + length - 1] = 0;
}

const zero = '0'.charCodeAt(0);

function truncated(name: string): string {
  return Buffer.byteLength(name) <= 100 ? name : Buffer.from(name).subarray(0, 99).toString('latin1');
}

function isAscii(text: string): boolean {
  return /^[\x20-\x7e]*$/.test(text);
}

function paxRecord(key: string, value: Buffer | string): Buffer {
  const tail = Buffer.concat([Buffer.from(` ${key}=`), typeof value === 'string' ? Buffer.from(value) : value, Buffer.from('\n')]);
  let length = tail.length + 1;
  while (`${length}`.length + tail.length > length) length++;
  return Buffer.concat([Buffer.from(`${length}`), tail]);
}

function paxTime(seconds: bigint, fraction: bigint): string {
  if (seconds < 0n && fraction > 0n) return `-${-seconds - 1n}.${(1_000_000_000n - fraction).toString().padStart(9, '0')}`;
  return fraction === 0n ? `${seconds}` : `${seconds}.${fraction.toString().padStart(9, '0').replace(/0+$/, '')}`;
}

function floorDivide(value: bigint, by: bigint): bigint {
  const quotient = value / by;
  return value % by < 0n ? quotient - 1n : quotient;
}
