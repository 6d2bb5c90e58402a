/** Copies of reads against a real record store: what a client was told is never unseen. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RecordStore } from '@flotilla/records';
import { createLogger } from '@flotilla/service-kit';
import { startRedis, type TestRedis } from '@flotilla/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ReadCopies } from '../src/readCopies.ts';

let redis: TestRedis;
const directory = mkdtempSync(join(tmpdir(), 'flotilla-copies-'));
const logger = createLogger({ service: 'test', instance: 'test', level: 'silent' });

beforeAll(async () => {
  redis = await startRedis();
});
afterAll(async () => {
  await redis.stop();
  rmSync(directory, { recursive: true });
});

it('shows every write of two replicas at once, and asks only after one', async () => {
  const markPath = join(directory, 'changes');
  const open = (): Promise<RecordStore> =>
    RecordStore.open({ url: redis.url, engineId: 'copies', service: 'test', logger, alone: () => false, changeMark: markPath });
  const stores = [await open(), await open()];
  const things = stores.map((store) => store.collection<{ n: number }>('thing'));
  const copies = new ReadCopies({ markPaths: [() => markPath] });
  let asked = 0;
  const read = async (replica: number): Promise<number> => {
    const bytes = await copies.read('x', async () => {
      asked++;
      await stores[replica]?.fresh();
      return Buffer.from(String(things[replica]?.get('x')?.n));
    });
    return Number(Buffer.from(bytes).toString());
  };
  for (let n = 1; n <= 60; n++) {
    const writer = n % 2;
    await stores[writer]?.commit({ puts: [things[writer]?.put('x', { n }) ?? { kind: '', id: '', document: {}, create: false }] });
    expect(await read((n >> 1) % 2)).toBe(n);
  }
  const before = asked;
  // The other replica may still be hearing of the last commits.
  await new Promise((resolve) => setTimeout(resolve, 100));
  for (let i = 0; i < 50; i++) expect(await read(i % 2)).toBe(60);
  expect(asked - before).toBeLessThanOrEqual(1);
  for (const store of stores) await store.close();
});
