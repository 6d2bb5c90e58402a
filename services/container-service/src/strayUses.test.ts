import { Unavailable } from '@flotilla/errors';
import { createLogger } from '@flotilla/service-kit';
import { beforeEach, expect, test } from 'vitest';
import { StrayUses, type StrayUsesOptions } from './strayUses.ts';

const [known, making, gone, removed] = ['a', 'b', 'c', 'd'].map((digit) => digit.repeat(64));

let uses: { name: string; user: string }[];
let released: unknown[];
let store: { areLost: boolean; isGone: (id: string) => Promise<boolean>; trash: Map<string, { removeVolumes: boolean }> };
let strays: StrayUses;
beforeEach(() => {
  uses = [known, making, gone, removed, 'backup-0123456789abcdef'].map((user = '') => ({ name: 'data', user }));
  released = [];
  store = { areLost: false, isGone: async (id) => id !== known, trash: new Map([[removed ?? '', { removeVolumes: true }]]) };
  strays = new StrayUses({
    store,
    drafts: { has: (id: string) => id === making },
    volumes: {
      listUses: async () => ({ uses }),
      release: async (request: { user: string }) => {
        released.push(request);
        uses = uses.filter(({ user }) => user !== request.user);
        return {};
      },
    },
    endAbandonedDrafts: async () => undefined,
    logger: createLogger({ service: 'test', instance: 'i', level: 'silent' }),
  } as unknown as StrayUsesOptions);
});

test('what containers hold that are not there is given back at the second look; what is being made, and what is no container, keeps its own', async () => {
  await strays.look();
  expect(released).toEqual([]);
  await strays.look();
  expect(released).toEqual([
    { name: 'data', user: gone, removeAnonymous: false },
    { name: 'data', user: removed, removeAnonymous: true },
  ]);
  expect(uses.map(({ user }) => user)).toEqual([known, making, 'backup-0123456789abcdef']);
});

test('nothing is given back while records are lost, or cannot be asked', async () => {
  store.areLost = true;
  for (let look = 0; look < 3; look++) await strays.look();
  store.areLost = false;
  store.isGone = () => Promise.reject(new Unavailable('the record store is not available'));
  for (let look = 0; look < 3; look++) await strays.look();
  expect(released).toEqual([]);
});

test('one whose container came up meanwhile stays', async () => {
  await strays.look();
  store.isGone = async () => false;
  await strays.look();
  expect(released).toEqual([]);
});
