import { describe, expect, test } from 'vitest';
import { DetachScanner, parseDetachKeys } from './detachKeys.ts';

describe('detach keys', () => {
  test.each([
    ['', [16, 17]],
    ['ctrl-p,ctrl-q', [16, 17]],
    ['a', [97]],
    ['ctrl-],x', [29, 120]],
    ['ctrl-@', [0]],
    ['ctrl-a,DEL', [1, 127]],
  ])('%j are %j', (text, bytes) => {
    expect([...parseDetachKeys(text)]).toEqual(bytes);
  });

  test.each(['ctrl-1', 'ctrl-A', 'ab', 'ctrl-', 'ctrl-p,,', 'é'])('%j are refused', (text) => {
    expect(() => parseDetachKeys(text)).toThrow('Invalid detach keys');
  });
});

describe('the scanner', () => {
  const scan = (...inputs: string[]) => {
    const scanner = new DetachScanner(parseDetachKeys(''));
    const results = inputs.map((input) => scanner.scan(Buffer.from(input)));
    return { output: results.map((result) => result.output.toString()).join('|'), detached: results.some((result) => result.detached) };
  };
  test.each([
    [['ls\n'], 'ls\n', false],
    [['a\x10\x11b'], 'a', true],
    [['a\x10', '\x11'], 'a|', true],
    [['\x10', 'x'], '|\x10x', false],
    [['\x10\x10\x11'], '\x10', true],
    [['\x11'], '\x11', false],
  ])('%j passes %j on, detached: %s', (inputs, output, detached) => {
    expect(scan(...inputs)).toEqual({ output, detached });
  });
});
