import { lutimesSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { limitTimes, readEpoch } from './sourceDateEpoch.ts';

describe('SOURCE_DATE_EPOCH', () => {
  it.each([
    ['', undefined],
    ['0', 0],
    ['1700000001', 1_700_000_001],
    ['-1', -1],
  ])('%j is %s', (text, seconds) => expect(readEpoch(text)).toBe(seconds));

  it.each([
    ['tomorrow', 'invalid SOURCE_DATE_EPOCH: tomorrow: strconv.ParseInt: parsing "tomorrow": invalid syntax'],
    ['1.5', 'invalid syntax'],
    [' 1', 'invalid syntax'],
    ['99999999999999999999', 'value out of range'],
  ])('%j is refused', (text, message) => expect(() => readEpoch(text)).toThrow(message));

  it('is the latest time below a directory: what is older stays as it is', async () => {
    const root = mkdtempSync(join(tmpdir(), 'flotilla-epoch-'));
    try {
      mkdirSync(join(root, 'a/b'), { recursive: true });
      writeFileSync(join(root, 'a/b/old'), '');
      lutimesSync(join(root, 'a/b/old'), 5, 5);
      symlinkSync('/etc/passwd', join(root, 'a/link'));
      const passwd = statSync('/etc/passwd').mtimeMs;
      await limitTimes(root, 1000n * 1_000_000_000n, AbortSignal.timeout(5000));
      const times = ['a', 'a/b', 'a/b/old'].map((path) => statSync(join(root, path)).mtimeMs / 1000);
      expect(times).toEqual([1000, 1000, 5]);
      expect(statSync('/etc/passwd').mtimeMs).toBe(passwd);
    } finally {
      rmSync(root, { recursive: true });
    }
  });
});
