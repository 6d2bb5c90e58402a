import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, expect, it } from 'vitest';
import { AccessBook } from './accessBook.ts';

const root = mkdtempSync(join(tmpdir(), 'flotilla-access-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

it('a no counts also when it comes while the file of before is being written', async () => {
  for (let turns = 0; turns < 30; turns++) {
    const book = await AccessBook.open(root, { freshMs: 60_000, graceMs: 60_000 });
    book.grant('a/app', 'ada');
    await book.save();
    book.grant('a/other', 'ada');
    const saving = book.save();
    for (let i = 0; i < turns; i++) await turn();
    book.revoke('a/app', 'ada');
    await saving;
    await book.refresh();
    expect(book.isFresh('a/app', 'ada'), `after ${turns} turns`).toBe(false);
    await book.save();
  }
});

it('writes what is owed when it is closed, and nothing afterwards', async () => {
  const path = join(root, 'access.json');
  const book = await AccessBook.open(root, { freshMs: 60_000, graceMs: 60_000 });
  book.grant('a/last', 'ada');
  await book.close();
  expect(readFileSync(path, 'utf8')).toContain('a/last');
  rmSync(path);
  book.grant('a/late', 'ada');
  await book.save();
  expect(existsSync(path)).toBe(false);
});
