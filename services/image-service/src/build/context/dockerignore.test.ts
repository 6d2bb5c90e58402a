import { describe, expect, it } from 'vitest';
import { contextFilter, ignoredSources } from './dockerignore.ts';

const lines = (count: number, line: (index: number) => string): string =>
  Array.from({ length: count }, (_, index) => line(index)).join('\n');
const deep = Array.from({ length: 300 }, () => 'd').join('/');

describe('patterns of a context', () => {
  it('tell small letters from large ones', () => {
    const ignores = contextFilter('docs\n**/*.log\n');
    expect(['docs', 'docs/a', 'Docs', 'a/b.log', 'a/b.LOG'].map(ignores)).toEqual([true, true, false, true, false]);
  });

  it('are refused in words, also one that shows only when it is compared', () => {
    expect(() => contextFilter('[\n')('a')).toThrow(/^failed to parse .dockerignore: /);
    expect(() => contextFilter(lines(10_001, (index) => `${index}`))).toThrow('more than 10000 patterns');
  });

  it('are compared with no path that would take long', () => {
    const ignores = contextFilter(lines(10_000, (index) => `**/x${index}`));
    expect(ignores('a/x7')).toBe(true);
    expect(() => ignores(deep)).toThrow(/too many patterns in .dockerignore for a path as deep as d\/d/);
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
    expect(found).toBeLessThan(100);
    expect(performance.now() - began).toBeLessThan(5_000);
  });
});
