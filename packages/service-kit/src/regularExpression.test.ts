import { describe, expect, it } from 'vitest';
import { regularExpression, textFilter } from './regularExpression.ts';

describe('a regular expression', () => {
  it.each([
    ['web', 'my-web-1', true],
    ['web', 'wet', false],
    ['^/w.b$', '/web', true],
    ['^w.b$', '/web', false],
    ['^[0-9a-f]{64}$', 'a'.repeat(64), true],
    ['(?i)WEB', 'web', true],
    ['[[:digit:]]\\z', 'web-1', true],
  ])('%s in %s: %s', (pattern, text, isFound) => {
    expect(regularExpression(pattern).test(text)).toBe(isFound);
  });

  it.each([
    ['(', 'missing closing ): `(`'],
    ['*', 'missing argument to repetition operator: `*`'],
    ['(a)\\1', 'invalid escape sequence: `\\1`'],
    ['(?=a)b', 'invalid or unsupported Perl syntax: `(?=`'],
  ])('%s is refused', (pattern, reason) => {
    expect(() => regularExpression(pattern)).toThrow(`error parsing regexp: ${reason}`);
  });

  // Going back over every way to part the text would take 2^64 steps.
  it('takes no longer for being nested', () => {
    expect(regularExpression('([0-9a-f]+)+z').test('a'.repeat(64))).toBe(false);
  });
});

it('a filter that is no regular expression still is itself', () => {
  expect(['(', 'web'].map(textFilter('('))).toEqual([true, false]);
});
