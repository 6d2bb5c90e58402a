import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { digestOf } from '@flotilla/oci';
import { randomBytesOf } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gzipFile } from './gzipFile.ts';

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'flotilla-gzip-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

let turn = 0;

async function compressed(content: Buffer): Promise<{ path: string; bytes: Buffer }> {
  const path = join(directory, `${++turn}`);
  writeFileSync(path, content);
  const { digest, sizeBytes } = await gzipFile(path, `${path}.gz`, AbortSignal.timeout(20_000));
  const bytes = readFileSync(`${path}.gz`);
  expect([digest, sizeBytes]).toEqual([digestOf(bytes), bytes.length]);
  return { path, bytes };
}

const text = Buffer.from('the quick brown fox jumps over the lazy dog\n'.repeat(80_000));

describe('a file as gzip', () => {
  it.each<[string, Buffer]>([
    ['nothing', Buffer.alloc(0)],
    ['one byte', Buffer.from('x')],
    ['exactly one piece', text.subarray(0, 1024 * 1024)],
    ['one piece and a byte', text.subarray(0, 1024 * 1024 + 1)],
    ['text of several pieces', text],
    ['what cannot be compressed', randomBytesOf(2_500_000)],
  ])('is what it was, to Node and to gzip: %s', async (_what, content) => {
    const { path, bytes } = await compressed(content);
    expect(gunzipSync(bytes).equals(content)).toBe(true);
    expect(execFileSync('gzip', ['-dc', `${path}.gz`], { maxBuffer: 1e8 }).equals(content)).toBe(true);
    // Many pieces make one member: some readers stop after the first.
    const listing = execFileSync('gzip', ['-l', `${path}.gz`], { encoding: 'utf8' });
    expect(listing.split('\n')[1]?.trim().split(/\s+/).slice(0, 2)).toEqual([`${bytes.length}`, `${content.length}`]);
  });

  it('is small, for pieces know what came before them', async () => {
    const block = randomBytesOf(20_000);
    const repeated = Buffer.concat(Array.from({ length: 200 }, () => block));
    expect((await compressed(repeated)).bytes.length).toBeLessThan(100_000);
  });

  it('is the same every time', async () => {
    const [first, second] = [await compressed(text), await compressed(text)];
    expect(first.bytes.equals(second.bytes)).toBe(true);
  });

  it('ends when nobody wants it any more', async () => {
    const path = join(directory, 'unwanted');
    writeFileSync(path, text);
    await expect(gzipFile(path, `${path}.gz`, AbortSignal.abort())).rejects.toThrow();
  });
});
