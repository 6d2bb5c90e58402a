import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TarError } from '@flotilla/tar';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TarParser } from './parser.ts';

const forms: [name: string, arguments_: string[]][] = [
  ["GNU tar's own", ['--format=gnu']],
  ['PAX 0.0', ['--format=pax', '--sparse-version=0.0']],
  ['PAX 0.1', ['--format=pax', '--sparse-version=0.1']],
  ['PAX 1.0', ['--format=pax', '--sparse-version=1.0']],
];

describe('sparse files in a tar', () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'flotilla-sparse-'));
    const fd = openSync(join(directory, 'many'), 'w');
    // More regions than fit a header, or one block of the map.
    for (let i = 0; i < 60; i++) writeSync(fd, `piece ${i}`, i * 100_000 + 50_000);
    ftruncateSync(fd, 7_000_000);
    closeSync(fd);
    const empty = openSync(join(directory, 'hole'), 'w');
    ftruncateSync(empty, 5_000_000);
    closeSync(empty);
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  function read(tar: Buffer, pieceBytes: number, holes: boolean): Map<string, Buffer> {
    const files = new Map<string, Buffer>();
    let name = '';
    let parts: Buffer[] = [];
    let told = 0;
    const parser = new TarParser({
      entry: (entry) => {
        name = entry.name;
        told = entry.sizeBytes;
        parts = [];
      },
      data: (chunk) => parts.push(Buffer.from(chunk)),
      ...(holes ? { hole: (length: number) => parts.push(Buffer.alloc(length)) } : {}),
      entryEnd: () => {
        const content = Buffer.concat(parts);
        expect(content.length).toBe(told);
        files.set(name, content);
      },
    });
    for (let at = 0; at < tar.length; at += pieceBytes) parser.push(tar.subarray(at, at + pieceBytes));
    parser.end();
    return files;
  }

  it.each(forms)('%s form', (_name, arguments_) => {
    const tar = execFileSync('tar', ['-C', directory, '-cS', ...arguments_, 'many', 'hole'], { maxBuffer: 1 << 28 });
    expect(tar.length).toBeLessThan(1_000_000);
    for (const pieceBytes of [tar.length, 700]) {
      for (const holes of [true, false]) {
        const files = read(tar, pieceBytes, holes);
        expect([...files.keys()]).toEqual(['many', 'hole']);
        for (const [name, content] of files) expect(content.equals(readFileSync(join(directory, name)))).toBe(true);
      }
    }
  });

  it('with a map that lies are refused', () => {
    const tar = execFileSync('tar', ['-C', directory, '-cS', '--format=pax', '--sparse-version=1.0', 'many'], { maxBuffer: 1 << 28 });
    const blocks = Array.from({ length: tar.length / 512 }, (_, i) => i * 512);
    const map = blocks.find((at) => /^\d\d\n\d+\n/.test(tar.toString('latin1', at, at + 20))) ?? 0;
    expect(map).toBeGreaterThan(0);
    for (const lie of ['99', 'xx', '-1', '\0\0']) {
      const lying = Buffer.from(tar);
      lying.write(lie, map, 'latin1');
      expect(() => read(lying, lying.length, true), lie).toThrow(TarError);
    }
    // A region that is longer than what is stored.
    const length = tar.indexOf('\n', tar.indexOf('\n', map) + 1) + 1;
    const lying = Buffer.from(tar);
    lying.write('9', length, 'latin1');
    expect(() => read(lying, lying.length, true)).toThrow(TarError);
  });
});
