import { expect, it } from 'vitest';
import { bytesToKeep, type PruneSpace } from './cacheUse.ts';

it.each<[string, Partial<PruneSpace>, number]>([
  ['no limit', {}, 0],
  ['a reserve', { reserved: 300 }, 300],
  ['a limit', { maxUsed: 400 }, 400],
  ['a limit below the reserve', { reserved: 500, maxUsed: 400 }, 500],
  ['more free space than there is', { minFree: 250 }, 850],
  ['more free space than the cache could give', { minFree: 5000 }, 0],
  ['more free space than the cache could give, and a reserve', { reserved: 10, minFree: 5000 }, 10],
  ['as much free space as there is', { minFree: 50 }, 1000],
  ['as much free space as there is, and a reserve', { reserved: 300, minFree: 50 }, 300],
  ['a limit and free space', { maxUsed: 900, minFree: 250 }, 850],
  ['a limit that is enough for the free space', { maxUsed: 200, minFree: 250 }, 200],
])('a prune with %s keeps %j: %d of 1000 bytes, where 100 are free', (_name, space, kept) => {
  expect(bytesToKeep({ reserved: 0, maxUsed: 0, minFree: 0, ...space }, 1000, 100)).toBe(kept);
});
