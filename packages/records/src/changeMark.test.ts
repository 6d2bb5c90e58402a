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

it('tells its writer whether others have written since', () => {
  const directory = mkdtempSync(join(tmpdir(), 'flotilla-mark-'));
  const path = join(directory, 'changes');
  const [one, two] = [new ChangeMark(path), new ChangeMark(path)];
  expect([one.isAsKnown(), two.isAsKnown()]).toEqual([false, false]);
  one.know(one.read());
  expect(one.isAsKnown()).toBe(true);
  one.change();
  expect(one.isAsKnown()).toBe(true);
  two.change();
  expect(one.isAsKnown()).toBe(false);
  // What it writes itself does not hide it.
  one.change();
  expect(one.isAsKnown()).toBe(false);
  one.know(one.read());
  expect([one.isAsKnown(), two.isAsKnown()]).toEqual([true, false]);
  one.close();
  two.close();
  rmSync(directory, { recursive: true });
});
