/** One header of a tar, as the layer, archive and import readers see it. */
import { blockBytes, parseNumber } from '@flotilla/tar';

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
