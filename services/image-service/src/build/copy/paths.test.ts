import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expandWildcards } from './paths.ts';

const long = 'a'.repeat(255);
let root: string;

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'flotilla-wildcards-'));
  mkdirSync(join(root, 'x/y'), { recursive: true });
  for (const file of ['a.c', 'b.c', 'c++', '*', 'x/a.c', 'x/y/a.c', '☺', long]) writeFileSync(join(root, file), '');
});

afterAll(() => rmSync(root, { recursive: true }));

describe('the files that a COPY names by a pattern', () => {
  it.each<[pattern: string, found: string[]]>([
    ['*.c', ['a.c', 'b.c']],
    ['./x//*.c', ['x/a.c']],
    ['**/*.c', ['x/a.c']],
    ['?', ['*', 'x', '☺']],
    ['[^a].c', ['b.c']],
    ['\\*', ['*']],
    ['c+?', ['c++']],
    ['x/*/a.c', ['x/y/a.c']],
  ])('%s', async (pattern, found) => expect(await expandWildcards(root, pattern)).toEqual(found));

  it('are found in no time, whatever is written', async () => {
    const began = performance.now();
    expect(await expandWildcards(root, `${'*a'.repeat(100)}b`)).toEqual([]);
    expect(await expandWildcards(root, `${'*a'.repeat(100)}*`)).toEqual([long]);
    expect(performance.now() - began).toBeLessThan(2_000);
  });

  it('are none for a pattern that is none', () => expect(expandWildcards(root, '[')).rejects.toThrow('syntax error in pattern'));
});
