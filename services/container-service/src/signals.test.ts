import { describe, expect, test } from 'vitest';
import { parseSignal } from './signals.ts';

describe('a signal', () => {
  test.each([
    ['SIGTERM', 15],
    ['TERM', 15],
    ['term', 15],
    ['9', 9],
    ['SIGKILL', 9],
    ['hup', 1],
    ['WINCH', 28],
    ['RTMIN', 34],
    ['SIGRTMIN+3', 37],
    ['RTMAX-1', 63],
    ['SIGCLD', 17],
  ])('%s is %d', (text, number) => {
    expect(parseSignal(text)).toBe(number);
  });

  test.each(['0', '65', '-1', 'NOPE', 'RTMIN+40', 'SIG', '1.5'])('%s is refused', (text) => {
    expect(() => parseSignal(text)).toThrow(`invalid signal: ${text}`);
  });
});
