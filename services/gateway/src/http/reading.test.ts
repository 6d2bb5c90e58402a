/** How parameters, filters, times and versions are read. */
import type { IncomingMessage } from 'node:http';
import { describe, expect, it } from 'vitest';
import { compareVersions } from './apiVersion.ts';
import { parseFilters, toProto, withFilter } from './filters.ts';
import { boolean, integer, terminalSize } from './query.ts';
import { parseDuration, parseTimestamp } from './timestamps.ts';

const request = (query: string): IncomingMessage => ({ url: `/x?${query}` }) as IncomingMessage;

describe('booleans', () => {
  it.each([
    ['a=1', true],
    ['a=true', true],
    ['a=True', true],
    ['a=yes', true],
    ['a=anything', true],
    ['a=0', false],
    ['a=false', false],
    ['a=FALSE', false],
    ['a=no', false],
    ['a=none', false],
    ['a=', false],
    ['a=%20', false],
    ['', false],
  ])('%s is %s', (query, value) => {
    expect(boolean(request(query), 'a')).toBe(value);
  });

  it('takes a default only when it is absent, and the first of several', () => {
    expect(boolean(request(''), 'a', true)).toBe(true);
    expect(boolean(request('a='), 'a', true)).toBe(false);
    expect(boolean(request('a=0&a=1'), 'a')).toBe(false);
  });
});

describe('numbers', () => {
  it('reads integers and refuses the rest in Go’s words', () => {
    expect(integer(request('t=-1'), 't')).toBe(-1);
    expect(integer(request('t='), 't')).toBeUndefined();
    expect(() => integer(request('t=x'), 't')).toThrow('strconv.Atoi: parsing "x": invalid syntax');
    expect(() => integer(request(`t=${'9'.repeat(30)}`), 't')).toThrow('value out of range');
  });

  it('reads terminal sizes', () => {
    expect(terminalSize(request('h=40'), 'h', 'height')).toBe(40);
    expect(() => terminalSize(request('h=-1'), 'h', 'height')).toThrow('invalid resize height "-1": value out of range');
    expect(() => terminalSize(request(''), 'w', 'width')).toThrow('invalid resize width "": invalid syntax');
  });
});

describe('filters', () => {
  it('reads both forms', () => {
    expect(toProto(parseFilters('{"a":{"x":true,"y":true}}'))).toEqual({ a: { values: ['x', 'y'] } });
    expect(toProto(parseFilters('{"a":["x","x"]}'))).toEqual({ a: { values: ['x'] } });
    expect(parseFilters('').size).toBe(0);
    expect(withFilter(parseFilters('{"a":["x"]}'), 'a', 'z').get('a')).toEqual(['x', 'z']);
  });

  it.each(['[]', '5', '{"a":5}', '{"a":[1]}', '{"a":{"x":"y"}}', '{', 'nope'])('refuses %s', (json) => {
    expect(() => parseFilters(json)).toThrow('invalid filter');
  });

  it('is not confused by names that JavaScript finds special', () => {
    expect(Object.keys(toProto(parseFilters('{"__proto__":["x"],"constructor":["y"]}')))).toEqual(['__proto__', 'constructor']);
  });
});

describe('times', () => {
  const now = 1_700_000_000_000_000_000n;
  it.each([
    ['1700000000', 1_700_000_000_000_000_000n],
    ['1700000000.5', 1_700_000_000_500_000_000n],
    ['1700000000.000000001', 1_700_000_000_000_000_001n],
    ['0', 0n],
    ['10m', now - 600_000_000_000n],
    ['1h30m', now - 5_400_000_000_000n],
    ['1.5s', now - 1_500_000_000n],
    ['2023-11-14T22:13:20Z', 1_700_000_000_000_000_000n],
    ['2023-11-14T22:13:20.123456789Z', 1_700_000_000_123_456_789n],
    ['2023-11-14T23:13:20+01:00', 1_700_000_000_000_000_000n],
    ['', undefined],
  ])('%s', (value, nanoseconds) => {
    expect(parseTimestamp(value, now)).toBe(nanoseconds);
  });

  it.each(['x', '12x', '2023-13-45', '99999999999999999999', '1m2'])('refuses %s', (value) => {
    expect(() => parseTimestamp(value, now)).toThrow();
  });

  it('reads durations before and after', () => {
    expect(parseDuration('-1s')).toBe(-1_000_000_000n);
    expect(parseDuration('')).toBeUndefined();
  });
});

describe('versions', () => {
  it('compare by their numbers', () => {
    expect(compareVersions('1.9', '1.24')).toBeLessThan(0);
    expect(compareVersions('1.50', '1.50')).toBe(0);
    expect(compareVersions('1.50.1', '1.50')).toBeGreaterThan(0);
    expect(compareVersions('2', '1.50')).toBeGreaterThan(0);
  });
});
