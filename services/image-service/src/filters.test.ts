import { describe, expect, it } from 'vitest';
import { booleanFilter, checkFilters, lacksLabels, matchesLabels, untilFilter } from './filters.ts';

const filters = (entries: Record<string, string[]>): Map<string, string[]> => new Map(Object.entries(entries));

describe('filters', () => {
  it('knows its names', () => {
    expect(() => checkFilters(filters({ x: ['1'] }), ['label'])).toThrow("invalid filter 'x'");
  });
  it.each([
    [['true'], true],
    [['1'], true],
    [['false'], false],
    [['0'], false],
    [undefined, undefined],
  ] as const)('dangling=%s is %s', (values, expected) => {
    expect(booleanFilter(filters(values === undefined ? {} : { dangling: [...values] }), 'dangling')).toBe(expected);
  });
  it('refuses what is neither true nor false', () => {
    expect(() => booleanFilter(filters({ dangling: ['maybe'] }), 'dangling')).toThrow("invalid filter 'dangling=[maybe]'");
  });
  it('matches labels by key and by value', () => {
    const labels = { a: '1', b: '' };
    expect(matchesLabels(filters({ label: ['a', 'b='] }), 'label', labels)).toBe(true);
    expect(matchesLabels(filters({ label: ['a=2'] }), 'label', labels)).toBe(false);
    expect(matchesLabels(filters({ label: ['toString'] }), 'label', labels)).toBe(false);
    expect(lacksLabels(filters({ 'label!': ['a=2'] }), 'label!', labels)).toBe(true);
    expect(lacksLabels(filters({ 'label!': ['a'] }), 'label!', labels)).toBe(false);
  });
  it.each([
    ['1700000000', 1_700_000_000_000],
    ['1700000000.5', 1_700_000_000_500],
    ['10m', 1_000_000 - 600_000],
    ['1h30m', 1_000_000 - 5_400_000],
    ['2024-01-02', Date.parse('2024-01-02')],
    ['2024-01-02T03:04:05Z', Date.parse('2024-01-02T03:04:05Z')],
  ])('until=%s', (text, expected) => {
    expect(untilFilter(filters({ until: [text] }), 1_000_000)).toBe(expected);
  });
  it('refuses a time that is none', () => {
    expect(() => untilFilter(filters({ until: ['soon'] }))).toThrow("invalid filter 'until=[soon]'");
  });
});
