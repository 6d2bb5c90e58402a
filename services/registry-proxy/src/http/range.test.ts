import { describe, expect, it } from 'vitest';
import { parseRange } from './range.ts';

describe('parseRange', () => {
  const cases: [header: string | undefined, size: number, expected: unknown][] = [
    [undefined, 100, undefined],
    ['bytes=0-', 100, { start: 0, end: 100 }],
    ['bytes=10-19', 100, { start: 10, end: 20 }],
    ['bytes=90-1000', 100, { start: 90, end: 100 }],
    ['bytes=-10', 100, { start: 90, end: 100 }],
    ['bytes=-1000', 100, { start: 0, end: 100 }],
    ['bytes=0-1,5-6', 100, undefined],
  ];
  it.each(cases)('%s of %i', (header, size, expected) => {
    expect(parseRange(header, size)).toEqual(expected);
  });
  it.each(['bytes=100-', 'bytes=5-4', 'bytes=-', 'bytes=-0', 'bytes=a-b', 'bytes 1-2', 'bytes=1e3-', 'bytes=99999999999999999999-'])(
    'refuses %s',
    (header) => {
      expect(() => parseRange(header, 100)).toThrow('invalid range');
    },
  );
  it('has nothing to give of an empty blob', () => expect(() => parseRange('bytes=0-', 0)).toThrow('invalid range'));
});
