/**
 * Sparse files in a tar: only their data is stored, with a map of where it goes. Four forms: GNU tar's own header (`S`), and the PAX records
 * 0.0, 0.1 and 1.0, of which the last keeps its map before the data.
 */
import { parseNumber, TarError } from './field.ts';

/** A stretch of data. */
export interface SparseRegion {
  readonly offset: number;
  readonly length: number;
}

export interface SparseFile {
  /** In order, none overlapping. */
  readonly regions: readonly SparseRegion[];
  /** Bytes of the file with its holes. */
  readonly sizeBytes: number;
}

const regionBytes = 24;
const headerRegions = { at: 386, count: 4, more: 482, realSize: 483 };
const blockRegions = { count: 21, more: 504 };
const maxRegions = 100_000;

/** Reads the maps of sparse files, a block at a time. */
export class SparseMapReader {
  private readonly regions: SparseRegion[] = [];
  private readonly sizeBytes: number;
  private readonly isText: boolean;
  /** Of form 1.0: the numbers so far, the first of them how many regions follow, and the beginning of the next. */
  private readonly numbers: number[] = [];
  private tail = '';

  private constructor(sizeBytes: number, isText: boolean) {
    this.sizeBytes = sizeBytes;
    this.isText = isText;
  }

  /** GNU's own form, from the entry's header. */
  static ofHeader(header: Buffer): { reader: SparseMapReader; more: boolean } {
    const reader = new SparseMapReader(parseNumber(header, headerRegions.realSize, 12), false);
    reader.takeRegions(header, headerRegions.at, headerRegions.count);
    return { reader, more: header[headerRegions.more] !== 0 };
  }

  /** PAX form 1.0: the map comes in blocks before the data. */
  static ofBlocks(sizeBytes: number): SparseMapReader {
    return new SparseMapReader(sizeBytes, true);
  }

  /** Takes a block of the map; answers whether another follows. */
  takeBlock(block: Buffer): boolean {
    if (!this.isText) {
      this.takeRegions(block, 0, blockRegions.count);
      return block[blockRegions.more] !== 0;
    }
    const lines = (this.tail + block.toString('latin1')).split('\n');
    this.tail = lines.pop() ?? '';
    for (const line of lines) {
      this.numbers.push(number(line));
      const [count = 0] = this.numbers;
      if (count > maxRegions) throw new TarError('invalid tar header');
      const [offset = 0, length = 0] = this.numbers.slice(-2);
      if (this.numbers.length > 1 && this.numbers.length % 2 === 1) this.regions.push({ offset, length });
      if (this.numbers.length === 1 + 2 * count) return false;
    }
    if (this.tail.length > 20) throw new TarError('invalid tar header');
    return true;
  }

  private takeRegions(block: Buffer, at: number, count: number): void {
    for (let i = 0; i < count; i++) {
      const start = at + i * regionBytes;
      if (block[start] === 0) return;
      this.regions.push({ offset: parseNumber(block, start, 12), length: parseNumber(block, start + 12, 12) });
      if (this.regions.length > maxRegions) throw new TarError('invalid tar header');
    }
  }

  /** @throws TarError when the map makes no sense, or is not of `storedBytes` of data. */
  finish(storedBytes: number): SparseFile {
    return checked({ regions: this.regions, sizeBytes: this.sizeBytes }, storedBytes);
  }
}

/** PAX forms 0.0 and 0.1: `offset,length,offset,length…`. @throws TarError */
export function sparseFromText(text: string, sizeBytes: number, storedBytes: number): SparseFile {
  const numbers = text === '' ? [] : text.split(',');
  if (numbers.length % 2 !== 0 || numbers.length > 2 * maxRegions) throw new TarError('invalid tar header');
  const regions: SparseRegion[] = [];
  for (let i = 0; i < numbers.length; i += 2) regions.push({ offset: number(numbers[i]), length: number(numbers[i + 1]) });
  return checked({ regions, sizeBytes }, storedBytes);
}

function number(text: string | undefined): number {
  if (text === undefined || !/^\d{1,16}$/.test(text)) throw new TarError('invalid tar header');
  return Number(text);
}

function checked(file: SparseFile, storedBytes: number): SparseFile {
  let end = 0;
  let stored = 0;
  for (const { offset, length } of file.regions) {
    if (offset < end || length < 0) throw new TarError('invalid tar header');
    end = offset + length;
    stored += length;
  }
  if (!Number.isSafeInteger(end) || end > file.sizeBytes || stored !== storedBytes) throw new TarError('invalid tar header');
  return file;
}

/** Where the pieces of a sparse file's data go, as they arrive. */
export class SparseContent {
  private readonly file: SparseFile;
  private region = 0;
  private position = 0;
  private inRegion = 0;

  constructor(file: SparseFile) {
    this.file = file;
  }

  /** Hands each piece on, with the hole before it. */
  take(chunk: Buffer, handler: { data: (chunk: Buffer) => void; hole: (length: number) => void }): void {
    for (let at = 0; at < chunk.length; ) {
      const region = this.file.regions[this.region];
      if (region === undefined) return;
      this.skipTo(region.offset + this.inRegion, handler.hole);
      const length = Math.min(region.length - this.inRegion, chunk.length - at);
      if (length > 0) handler.data(chunk.subarray(at, at + length));
      this.position += length;
      this.inRegion += length;
      at += length;
      if (this.inRegion === region.length) {
        this.region++;
        this.inRegion = 0;
      }
    }
  }

  /** The hole at the end. */
  finish(hole: (length: number) => void): void {
    this.skipTo(this.file.sizeBytes, hole);
  }

  private skipTo(offset: number, hole: (length: number) => void): void {
    if (offset > this.position) hole(offset - this.position);
    this.position = Math.max(this.position, offset);
  }
}
