import { describe, expect, it } from 'vitest';
import { encodeHeader, padding, plainEntry } from './writer.ts';

/** Fields of a ustar header by their places. */
const field = (block: Buffer, from: number, length: number): string => block.toString('latin1', from, from + length);

describe('a header', () => {
  const entry = plainEntry({
    name: 'file',
    type: 'file',
    mode: 0o4755,
    uid: 1000,
    gid: 0o7777777,
    sizeBytes: 0o77777777777,
    mtimeNs: 1_700_000_000_000_000_000n,
  });

  it('has its numbers in octal, ended by a zero byte', () => {
    const block = encodeHeader(entry);
    expect(block).toHaveLength(512);
    expect([field(block, 100, 8), field(block, 108, 8), field(block, 116, 8)]).toEqual(['0004755\0', '0001750\0', '7777777\0']);
    expect([field(block, 124, 12), field(block, 136, 12)]).toEqual(['77777777777\0', `${(1_700_000_000).toString(8)}\0`.padStart(12, '0')]);
    expect([field(block, 156, 1), field(block, 257, 8)]).toEqual(['0', 'ustar\x0000']);
  });

  it('has the sum of its bytes, with spaces in its own place', () => {
    const block = encodeHeader(plainEntry({ name: 'disk', type: 'block', devMajor: 259, devMinor: 1_048_575 }));
    expect([field(block, 329, 8), field(block, 337, 8)]).toEqual(['0000403\0', '3777777\0']);
    const counted = Buffer.from(block).fill(0x20, 148, 156);
    const sum = counted.reduce((total, byte) => total + byte, 0);
    expect(field(block, 148, 8)).toBe(`${sum.toString(8).padStart(6, '0')}\0 `);
  });

  it('keeps nothing of the one before', () => {
    encodeHeader(plainEntry({ name: 'long'.repeat(20), type: 'link', linkName: 'other'.repeat(20) }));
    const block = encodeHeader(plainEntry({ name: 'a', type: 'file' }));
    expect(field(block, 0, 100)).toBe(`a${'\0'.repeat(99)}`);
    expect(field(block, 157, 100)).toBe('\0'.repeat(100));
  });
});

it.each([
  [0, 0],
  [1, 511],
  [512, 0],
  [513, 511],
])('content of %d bytes is filled up by %d zeros', (size, zeros) => {
  expect(padding(size)).toEqual(Buffer.alloc(zeros));
});
