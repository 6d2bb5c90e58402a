import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ContextCopies, type ContextCopy } from './contextCopies.ts';
import { Listing } from './knownDirectory.ts';

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'flotilla-copies-'));
});
afterEach(() => rmSync(root, { recursive: true }));

/** As a build does that brings it up to date. */
async function use(copy: ContextCopy): Promise<void> {
  copy.known.begin();
  copy.known.settle(new Listing());
  await copy.release(true);
}

it('what is known of a copy stays with it, until another instance has had it', async () => {
  const [own, other] = [new ContextCopies(root, 'own'), new ContextCopies(root, 'other')];
  const first = own.claim('key');
  expect(first.known.listing).toBeUndefined();
  await use(first);
  const second = own.claim('key');
  expect(second.known).toBe(first.known);
  await use(second);
  const theirs = other.claim('key');
  expect(theirs.path.split('.')[0]).toBe(first.path.split('.')[0]);
  expect(theirs.known.listing).toBeUndefined();
  await use(theirs);
  expect(own.claim('key').known.listing).toBeUndefined();
});

it('what a failed build leaves is not known', async () => {
  const copies = new ContextCopies(root, 'own');
  const copy = copies.claim('key');
  await copy.release(false);
  expect(copies.claim('key').known).not.toBe(copy.known);
});

it('what is known of many copies is bounded: of the oldest nothing', async () => {
  const copies = new ContextCopies(root, 'own');
  for (const key of ['a', 'b', 'c']) {
    const copy = copies.claim(key);
    copy.known.begin();
    copy.known.settle(new Listing(Buffer.alloc(7 * 1024 * 1024)));
    await copy.release(true);
  }
  expect(['a', 'b', 'c'].map((key) => copies.claim(key).known.listing !== undefined)).toEqual([false, true, true]);
});
