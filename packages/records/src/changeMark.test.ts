import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ChangeMark } from './changeMark.ts';

it('is never the same twice, whoever writes it', () => {
  const directory = mkdtempSync(join(tmpdir(), 'flotilla-mark-'));
  const path = join(directory, 'changes');
  const read = (): string => readFileSync(path).toString('hex');
  const seen: string[] = [];
  const one = new ChangeMark(path);
  seen.push(read());
  const two = new ChangeMark(path);
  seen.push(read());
  for (const writer of [one, two, one, one, two]) {
    writer.change();
    seen.push(read());
  }
  expect(new Set(seen).size).toBe(seen.length);
  expect(seen.every((mark) => mark.length === 32)).toBe(true);
  one.close();
  two.close();
  rmSync(directory, { recursive: true });
});
