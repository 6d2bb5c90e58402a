import { describe, expect, it } from 'vitest';
import { contextFilter, ignoredSources, ignoreLines, patternFilter } from './dockerignore.ts';

const lines = (count: number, line: (index: number) => string): string =>
  Array.from({ length: count }, (_, index) => line(index)).join('\n');
const deep = Array.from({ length: 300 }, () => 'd').join('/');

describe('patterns of a context', () => {
  it('tell small letters from large ones', () => {
    const ignores = contextFilter('docs\n**/*.log\n');
    expect(['docs', 'docs/a', 'Docs', 'a/b.log', 'a/b.LOG'].map(ignores)).toEqual([true, true, false, true, false]);
  });

  it.each<[patterns: string, left: string[], kept: string[]]>([
    ['a', ['a', 'a/b', 'a/b/c'], ['b', 'aa', 'b/a']],
    ['/a/./x/../b/', ['a/b', 'a/b/c'], ['a', 'b', 'a/bb']],
    ['./*/a?', ['x/ab', 'x/ab/c'], ['ab', 'x/y/ab', 'x/a', 'x/a/']],
    ['*', ['a', 'a/b'], []],
    ['**', ['a', 'a/b'], []],
    ['**/', ['a', 'a/b'], []],
    ['**/**', ['a', 'a/b'], []],
    ['**/a', ['a', 'x/a', 'x/y/a/z'], ['ab', 'x/ba']],
    ['**a', ['a', 'ba', 'x/ba', 'x/ba/y'], ['ab', 'a.b']],
    ['**.log', ['.log', 'a.log', 'x/a.log'], ['log', 'a.logs']],
    ['**a*', ['a', 'ab', 'x/ab'], ['ba', 'x/ba']],
    ['a/**', ['a/b', 'a/b/c'], ['a', 'b', 'ab/c']],
    ['a**', ['a', 'ab', 'ab/c', 'a/b'], ['ba']],
    ['a**/*.x', ['a/b.x', 'a/b/c.x'], ['a.y', 'b/a.x']],
    ['**/a/**/b', ['a/b', 'x/a/y/z/b/c'], ['a', 'x/a/y', 'ab']],
    ['**/**/*.x', ['a.x', 'b/a.x', 'c/b/a.x'], ['a.y']],
    ['***', ['a', 'a/b'], []],
    ['*a*b*c*', ['abc', 'xaybzc'], ['acb', 'a/bc']],
    ['[a-c]x\n[^a-c]y', ['bx', 'dy'], ['dx', 'by', 'x']],
    ['[\\]\\-]\n\\*\nq\\?', [']', '-', '*', 'q?'], ['a', 'qq', '\\']],
    ['c++\na(b)c\n{x}|$^', ['c++', 'a(b)c', '{x}|$^'], ['ccc', 'abc', 'x']],
    ['a?b\n[b-ζ]', ['a☺b', 'a😀b', 'α'], ['ab', 'a/b', 'ω']],
    ['constructor', ['constructor'], ['toString', '__proto__']],
    ['*\n!a\na/b', ['x', 'a/b', 'a/b/c'], ['a', 'a/c']],
    ['!a\na', ['a'], []],
    ['a\n  !  /a/b  \n', ['a', 'a/c'], ['a/b', 'a/b/c']],
    ['\uFEFF# none\r\n\r\n  x y  \r\n #z', ['x y', '#z'], ['# none', 'x', '']],
    ['.\n/\n..\n../a', [], ['a', 'b', '.a']],
  ])('%j leave out as moby has it', (patterns, left, kept) => {
    const ignores = contextFilter(patterns);
    expect([left.filter((path) => !ignores(path)), kept.filter(ignores)]).toEqual([[], []]);
  });

  it.each(['[', 'a[', '[]a]', '[^', '[^bc', '[-]', '[x-]', '[-x]', '[a-b-c]', 'a/\\', '**/['])('%s is refused', (pattern) => {
    expect(() => contextFilter(`a\n!${pattern}`)).toThrow('failed to parse .dockerignore: syntax error in pattern');
  });

  it('are refused in words', () => {
    expect(() => contextFilter('a\n! \n')).toThrow('failed to parse .dockerignore: illegal exclusion pattern: "!"');
    expect(() => contextFilter(lines(10_001, (index) => `${index}`))).toThrow('more than 10000 patterns');
    expect(() => contextFilter('a'.repeat(5_000_000))).toThrow('the patterns are too long');
  });

  it('are given to clients clean', () => {
    expect(ignoreLines('\uFEFF/a/\r\n# b\n\n! ./c//d/\n../e\n')).toEqual(['a', '!c/d', '../e']);
  });

  it('of COPY --exclude are no lines of a file', () => {
    expect(['#a', 'b'].map(patternFilter(['#a']))).toEqual([true, false]);
  });

  it('take no longer, whatever is written', () => {
    const began = performance.now();
    expect(contextFilter(`${'*a'.repeat(100)}b`)('a'.repeat(255))).toBe(false);
    expect(contextFilter(`${'**/'.repeat(100)}b`)(deep)).toBe(false);
    expect(contextFilter(`${'**/*a'.repeat(100)}b`)(deep)).toBe(false);
    expect(performance.now() - began).toBeLessThan(2_000);
  });

  it('are compared with no path that would take long', () => {
    const ignores = contextFilter(lines(10_000, (index) => `**/x${index}`));
    expect(ignores('a/x7')).toBe(true);
    expect(() => ignores(`${deep}/${deep}/${deep}`)).toThrow('patterns take too long to be compared with the files');
  });
});

describe('sources of a COPY', () => {
  it('are left out for certain by no pattern that cannot be read, and by none of too many', () => {
    expect(ignoredSources('a\n[\n')('a')).toBe(false);
    expect(ignoredSources(lines(10_001, () => 'a'))('a')).toBe(false);
  });

  it('are looked at for a bounded time', () => {
    const isIgnored = ignoredSources(lines(10_000, (index) => `x${index}`));
    const began = performance.now();
    const found = Array.from({ length: 100_000 }, (_, index) => isIgnored(`x${index % 10_000}`)).filter(Boolean).length;
    expect(found).toBeGreaterThan(0);
    expect(found).toBeLessThan(5_000);
    expect(performance.now() - began).toBeLessThan(5_000);
  });
});
