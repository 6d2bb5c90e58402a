import { Unavailable } from '@flotilla/errors';
import { createLogger } from '@flotilla/service-kit';
import { expect, it } from 'vitest';
import { ImageGc } from './imageGc.ts';
import type { ImageStore } from './imageStore.ts';

const logger = createLogger({ service: 'test', instance: 'i', level: 'silent' });

it('of several replicas that see a full disk one removes, and no more than is needed', async () => {
  const images = new Set(Array.from({ length: 10 }, (_, index) => `sha256:${index}`));
  const store = {
    all: () => [...images].map((id, index) => ({ id, record: {}, createdMs: index })),
    uses: { last: () => undefined },
    snapshots: new Map(),
    holds: { has: () => false },
    hasChildren: () => false,
    references: () => [],
    content: { emptyTrash: async () => undefined },
  } as unknown as ImageStore;
  const remover = {
    remove: async (name: string) => {
      await new Promise((resolve) => setTimeout(resolve, 2));
      images.delete(name);
      return { items: [], freedBytes: 0 };
    },
  };
  let holder = false;
  const alone = async <T>(work: () => Promise<T>): Promise<T> => {
    if (holder) throw new Unavailable('another has it');
    holder = true;
    try {
      return await work();
    } finally {
      holder = false;
    }
  };
  const fullness = async (): Promise<number> => 10 * images.size;
  const replica = () => new ImageGc({ store, alone, remover, thresholds: { highPercent: 90, lowPercent: 75 }, fullness, logger });
  const removed = await Promise.all([replica(), replica(), replica()].map((gc) => gc.collect()));
  expect(removed.map((ids) => ids.length).sort()).toEqual([0, 0, 3]);
  expect(images.size).toBe(7);
  expect(await replica().collect()).toEqual([]);
  const away = { remove: () => Promise.reject(new Unavailable('container-service is away')) };
  const full = async (): Promise<number> => 100;
  const gc = new ImageGc({ store, alone, remover: away, thresholds: { highPercent: 90, lowPercent: 75 }, fullness: full, logger });
  await expect(gc.collect()).rejects.toThrow('container-service is away');
});
