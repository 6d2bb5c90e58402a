/** One header of a tar, as the layer, archive and import readers see it. */

export type EntryType = 'file' | 'link' | 'symlink' | 'character' | 'block' | 'directory' | 'fifo';

export interface TarEntry {
  /** As written, from the header or its extensions. */
  readonly name: string;
  readonly type: EntryType;
  /** Target of a link or symlink. */
  readonly linkName: string;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes of content that follow. */
  readonly sizeBytes: number;
  /** Nanoseconds since the epoch. */
  readonly mtimeNs: bigint;
  readonly devMajor: number;
  readonly devMinor: number;
  /** Extended attributes (PAX `SCHILY.xattr.*`). */
  readonly xattrs: ReadonlyMap<string, Buffer>;
}

/** A tar that breaks its format, or a limit. */
export class TarError extends Error {
  override readonly name = 'TarError';
}

export const blockBytes = 512;

/** Reads an octal number, or GNU's base-256 form. */
export function parseNumber(block: Buffer, offset: number, length: number): number {
  const first = block[offset] ?? 0;
  if ((first & 0x80) !== 0) {
    // Base 256, big endian, two's complement in the low bits.
    let value = first & 0x40 ? BigInt(first | ~0xff) : BigInt(first & 0x7f);
    for (let i = 1; i < length; i++) value = (value << 8n) | BigInt(block[offset + i] ?? 0);
    if (value < BigInt(Number.MIN_SAFE_INTEGER) || value > BigInt(Number.MAX_SAFE_INTEGER)) throw new TarError('invalid tar header');
    return Number(value);
  }
  const text = cString(block, offset, length).trim();
  if (text === '') return 0;
  if (!/^[0-7]+$/.test(text)) throw new TarError('invalid tar header');
  return Number.parseInt(text, 8);
}

/** A text of at most `length` bytes, ended by NUL. */
export function cString(block: Buffer, offset: number, length: number): string {
  const end = block.indexOf(0, offset);
  return block.toString('utf8', offset, end === -1 || end > offset + length ? offset + length : end);
}

/** Whether the checksum field fits, counted with unsigned or (old tars) signed bytes. */
export function checksumFits(block: Buffer): boolean {
  const expected = parseNumber(block, 148, 8);
  let unsigned = 8 * 32;
  let signed = 8 * 32;
  for (let i = 0; i < blockBytes; i++) {
    if (i >= 148 && i < 156) continue;
    const byte = block[i] ?? 0;
    unsigned += byte;
    signed += byte > 127 ? byte - 256 : byte;
  }
  return expected === unsigned || expected === signed;
}

export const typeFlags: Readonly<Record<string, EntryType>> = {
  '0': 'file',
  '\0': 'file',
  '7': 'file',
  '1': 'link',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
};
