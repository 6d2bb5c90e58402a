import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Drafts } from './drafts.ts';
import { Paths } from './paths.ts';

let root: string;
let paths: Paths;
let drafts: Drafts;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'drafts-'));
  paths = new Paths(join(root, 'data'), join(root, 'exec'));
  drafts = new Drafts(paths);
});
afterEach(() => rmSync(root, { recursive: true }));

test('of a maker that lives nothing is abandoned; of one that is gone everything with what it holds, each once', () => {
  const named = { name: 'named', created: false };
  drafts.begin('a', [named, { name: 'made-up', created: true }, named], ['a.0']);
  drafts.begin('b', [], []);
  expect(drafts.abandoned()).toEqual([]);
  drafts.end('b');
  expect([drafts.has('a'), drafts.has('b')]).toEqual([true, false]);
  const file = join(paths.drafts, 'a');
  writeFileSync(file, readFileSync(file, 'utf8').replace(/^\d+ \d+/, `${process.pid} 1`));
  expect(drafts.abandoned()).toEqual([
    {
      id: 'a',
      volumes: [
        { name: 'named', created: false },
        { name: 'made-up', created: true },
      ],
      snapshots: ['a.0'],
    },
  ]);
  writeFileSync(file, '');
  expect(drafts.abandoned()).toEqual([]);
});

test('one that its maker has given up is abandoned while that lives', () => {
  drafts.begin('a', [{ name: 'made-up', created: true }], ['a.0']);
  drafts.abandon('a');
  expect(drafts.abandoned()).toEqual([{ id: 'a', volumes: [{ name: 'made-up', created: true }], snapshots: ['a.0'] }]);
});
