import { expect, it } from 'vitest';
import { KnownDirectory, Listing } from './knownDirectory.ts';

it('a digest is kept until something below its directory changes', () => {
  const known = new KnownDirectory();
  for (const path of ['', 'a', 'a/b', 'a/b/c', 'ab']) known.set(path, path, known.now());
  known.changed('a/b/d');
  expect(['', 'a', 'a/b', 'a/b/c', 'ab'].map((path) => known.get(path))).toEqual([undefined, undefined, undefined, 'a/b/c', 'ab']);
});

it('a digest of files that changed while it was made is not kept', () => {
  const known = new KnownDirectory();
  const before = known.now();
  known.begin();
  const during = known.now();
  known.set('a', 'x', during);
  known.settle(new Listing());
  for (const asOf of [before, during]) known.set('a', 'x', asOf);
  expect(known.get('a')).toBeUndefined();
  known.set('a', 'x', known.now());
  expect(known.get('a')).toBe('x');
});
