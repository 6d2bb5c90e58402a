import { TarError } from '@flotilla/tar';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { TarEntry } from './header.ts';
import { TarParser } from './parser.ts';
import { encodeHeader, padding, plainEntry, trailer } from './writer.ts';

interface Read {
  readonly entry: TarEntry;
  readonly content: string;
}

function read(tar: Buffer, pieceBytes = tar.length || 1): Read[] {
  const found: { entry: TarEntry; chunks: Buffer[] }[] = [];
  const parser = new TarParser({
    entry: (entry) => found.push({ entry, chunks: [] }),
    data: (chunk) => found.at(-1)?.chunks.push(Buffer.from(chunk)),
    entryEnd: () => undefined,
  });
  for (let at = 0; at < tar.length; at += pieceBytes) parser.push(tar.subarray(at, at + pieceBytes));
  parser.end();
  return found.map(({ entry, chunks }) => ({ entry, content: Buffer.concat(chunks).toString() }));
}

function write(entries: readonly { entry: TarEntry; content?: string }[]): Buffer {
  return Buffer.concat([
    ...entries.flatMap(({ entry, content = '' }) => [
      encodeHeader(entry, { exactTime: true }),
      Buffer.from(content),
      padding(Buffer.byteLength(content)),
    ]),
    trailer,
  ]);
}

describe('tar', () => {
  it('reads what it wrote, in pieces of any size', () => {
    const name = fc
      .string({ unit: 'grapheme', minLength: 1, maxLength: 300 })
      .map((text) => text.replaceAll('\0', '_').replace(/\/+$/, '') || 'x');
    const entries = fc.array(
      fc.record({
        name,
        linkName: name,
        type: fc.constantFrom('file', 'directory', 'symlink', 'link', 'character', 'fifo' as const),
        mode: fc.integer({ min: 0, max: 0o7777 }),
        uid: fc.integer({ min: 0, max: 0xffff_fffe }),
        gid: fc.integer({ min: 0, max: 100_000 }),
        mtimeNs: fc.bigInt({ min: -1_000_000_000_000_000n, max: 4_000_000_000_000_000_000n }),
        devMajor: fc.integer({ min: 0, max: 4095 }),
        content: fc.string({ maxLength: 2000 }),
        value: fc.uint8Array({ maxLength: 40 }),
      }),
      { maxLength: 5 },
    );
    fc.assert(
      fc.property(entries, fc.integer({ min: 1, max: 700 }), (list, pieceBytes) => {
        const given = list.map(({ content, value, ...fields }) => {
          const text = fields.type === 'file' ? content : '';
          const isLink = fields.type === 'symlink' || fields.type === 'link';
          const entry = plainEntry({
            ...fields,
            linkName: isLink ? fields.linkName : '',
            sizeBytes: Buffer.byteLength(text),
            xattrs: new Map([['user.x', Buffer.from(value)]]),
          });
          return { entry, content: text };
        });
        expect(read(write(given), pieceBytes)).toEqual(given);
      }),
      { numRuns: 60 },
    );
  });

  it('never throws anything but its own error, whatever the bytes', () => {
    const good = write([{ entry: plainEntry({ name: 'a'.repeat(150), type: 'file', sizeBytes: 5 }), content: 'hello' }]);
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(good.length - 1), fc.integer({ min: 0, max: 255 })), { maxLength: 8 }), (changes) => {
        const bytes = Buffer.from(good);
        for (const [at, value] of changes) bytes[at] = value;
        try {
          read(bytes, 100);
        } catch (error) {
          expect(error).toBeInstanceOf(TarError);
        }
      }),
    );
  });

  const broken: [name: string, tar: () => Buffer][] = [
    ['cut in a header', () => write([{ entry: plainEntry({ name: 'a', type: 'file' }) }]).subarray(0, 300)],
    [
      'cut in a content',
      () => write([{ entry: plainEntry({ name: 'a', type: 'file', sizeBytes: 2000 }), content: 'x'.repeat(2000) }]).subarray(0, 1000),
    ],
    ['no tar', () => Buffer.alloc(1024, 'x')],
  ];
  it.each(broken)('refuses one that is %s', (_name, tar) => {
    expect(() => read(tar())).toThrow(TarError);
  });

  it('ends at two zero blocks and passes over what follows', () => {
    const tar = write([{ entry: plainEntry({ name: 'a', type: 'file' }) }]);
    expect(read(Buffer.concat([tar, Buffer.alloc(4096, 'garbage')]))).toHaveLength(1);
  });
});
