import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { createLogger, Lifecycle } from '@flotilla/service-kit';
import { startRedis, type TestRedis, waitFor } from '@flotilla/testkit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { RecordStore } from '../src/index.ts';
import { copyPath, lastRestoration, lostPath } from '../src/restoration.ts';
import type { Schema } from '../src/schema.ts';
import type { StoreOptions } from '../src/store.ts';

interface Thing {
  readonly n: number;
}

const logger = createLogger({ service: 'test', instance: 'i', level: 'silent' });
const stores: RecordStore[] = [];
let redis: TestRedis;
let engine = 0;
let root: string;

beforeAll(async () => {
  redis = await startRedis();
});
beforeEach(() => {
  engine++;
  root = mkdtempSync(join(tmpdir(), 'flotilla-loss-'));
});
afterEach(async () => {
  for (const store of stores.splice(0)) await store.close();
  rmSync(root, { recursive: true });
});
afterAll(async () => redis.stop());

const things = (store: RecordStore) => store.collection<Thing>('thing');

async function open(more: Partial<StoreOptions> = {}): Promise<RecordStore> {
  const copy = { directory: join(root, 'test'), explained: [join(root, 'things')] };
  const store = await RecordStore.open({
    url: redis.url,
    engineId: `l${engine}`,
    service: 'test',
    logger,
    alone: () => false,
    copy,
    ...more,
  });
  stores.push(store);
  return store;
}

async function close(store: RecordStore): Promise<void> {
  stores.splice(stores.indexOf(store), 1);
  await store.close();
}

/** A copy is written a turn after the answer. */
async function copied(text: string): Promise<void> {
  const path = copyPath(join(root, 'test'));
  await waitFor(() => existsSync(path) && readFileSync(path, 'utf8').includes(text), { what: `${text} in the copy` });
}

async function withClient<T>(work: (client: ReturnType<TestRedis['client']>) => Promise<T>): Promise<T> {
  const client = redis.client();
  try {
    return await work(client);
  } finally {
    client.disconnect();
  }
}

const recordsKey = (): string => `flotilla:{l${engine}:test}:records`;
const changesKey = (): string => `flotilla:{l${engine}:test}:changes`;
const forgetAll = (): Promise<unknown> => withClient((client) => client.flushall());

/** Takes Redis' data as they are now; what it answers puts them back. */
async function state(): Promise<() => Promise<void>> {
  const [records, changes] = await withClient((client) => Promise.all([client.dumpBuffer(recordsKey()), client.dumpBuffer(changesKey())]));
  return async () => {
    await withClient(async (client) => {
      const both = client
        .multi()
        .restore(recordsKey(), 0, records as Buffer, 'REPLACE')
        .restore(changesKey(), 0, changes as Buffer, 'REPLACE');
      await both.exec();
    });
  };
}

/** From its next commit on it hears nothing by the change stream. */
async function deafen(store: RecordStore): Promise<void> {
  const { followRedis } = store as unknown as { followRedis: { xread: () => Promise<unknown> } };
  followRedis.xread = () => new Promise(() => undefined);
  await store.commit({ puts: [things(store).put('a', { n: 1 })] });
}

describe('a Redis that has lost its records', () => {
  it('is given them again by the instance that runs, before its next commit, which is made', async () => {
    const store = await open();
    await store.commit({ puts: [things(store).put('a', { n: 1 }), things(store).put('b', { n: 2 })] });
    await store.commit({ deletes: [things(store).delete('b')] });
    await forgetAll();
    await store.commit({ puts: [things(store).put('c', { n: 3 })] });
    expect(await withClient((client) => client.hgetall(recordsKey()))).toEqual({
      'schema/version': '1',
      'thing/a': '{"n":1}',
      'thing/c': '{"n":3}',
    });
    expect(lastRestoration(join(root, 'test'))).toMatchObject({ from: 'memory' });
  });

  it('keeps the lease of who was at work, and its commit under it is made', async () => {
    const [store, other] = [await open(), await open()];
    await store.commit({ puts: [things(store).put('a', { n: 1 })] });
    await store.withLease('a', async (lease) => {
      await forgetAll();
      await store.commit({ puts: [things(store).put('a', { n: 2 })], lease });
      await expect(other.withLease('a', async () => undefined, { waitMs: 100 })).rejects.toMatchObject({ kind: 'Unavailable' });
    });
    expect(await withClient((client) => client.hget(recordsKey(), 'thing/a'))).toBe('{"n":2}');
  });

  it('is given each record once by replicas that all know it, and all of them see what comes after', async () => {
    const replicas = [await open(), await open(), await open()];
    const [a, b, c] = replicas as [RecordStore, RecordStore, RecordStore];
    for (let n = 0; n < 20; n++) await a.commit({ puts: [things(a).put(`a${n}`, { n })] });
    for (const replica of replicas) await replica.fresh();
    await forgetAll();
    await Promise.all(replicas.map((replica, n) => replica.commit({ puts: [things(replica).put(`late${n}`, { n }, { create: true })] })));
    await expect(b.commit({ puts: [things(b).put('late0', { n: 9 }, { create: true })] })).rejects.toMatchObject({ kind: 'Conflict' });
    for (const replica of replicas) await replica.fresh();
    for (const replica of replicas) {
      expect([...things(replica).ids()].sort()).toEqual([...things(c).ids()].sort());
      expect(things(replica).size).toBe(23);
    }
    expect(await withClient((client) => client.hlen(recordsKey()))).toBe(24);
  });

  it('gets back what an older state lacks', async () => {
    const store = await open();
    await store.commit({ puts: [things(store).put('a', { n: 1 }), things(store).put('gone', { n: 1 })] });
    const putBack = await state();
    await store.commit({ puts: [things(store).put('a', { n: 2 })] });
    await store.commit({ deletes: [things(store).delete('gone')] });
    await putBack();
    await store.commit({ puts: [things(store).put('b', { n: 3 })] });
    expect(await withClient((client) => client.hgetall(recordsKey()))).toEqual({
      'schema/version': '1',
      'thing/a': '{"n":2}',
      'thing/b': '{"n":3}',
    });
  });

  it('keeps what others wrote that the one who restores has not heard of', async () => {
    const [a, b] = [await open(), await open()];
    await a.commit({ puts: [things(a).put('a', { n: 1 })] });
    await deafen(a);
    await b.commit({ puts: [things(b).put('of the other', { n: 2 })] });
    const putBack = await state();
    await a.commit({ puts: [things(a).put('lost', { n: 3 })] });
    await putBack();
    await a.commit({ puts: [things(a).put('after', { n: 4 })] });
    const kept = await withClient((client) => client.hkeys(recordsKey()));
    expect(kept.sort()).toEqual(['schema/version', 'thing/a', 'thing/after', 'thing/lost', 'thing/of the other']);
  });

  it('keeps what others write in the middle of it', async () => {
    const [a, b] = [await open(), await open()];
    for (let n = 0; n < 3; n++) await a.commit({ puts: Array.from({ length: 600 }, (_, m) => things(a).put(`${n}-${m}`, { n })) });
    await b.fresh();
    await deafen(b);
    const putBack = await state();
    for (let n = 0; n < 3; n++) await a.commit({ puts: Array.from({ length: 600 }, (_, m) => things(a).put(`${n}-${m}`, { n: n + 10 })) });
    await putBack();
    await withClient((client) => client.call('CLIENT', 'KILL', 'TYPE', 'normal'));
    // It has seen all that Redis has, and hears nothing of what that lacks.
    const others = (async () => {
      for (let n = 0; n < 20; n++) await b.commit({ puts: [things(b).put('0-0', { n: 1_000 + n }), things(b).put(`b${n}`, { n })] });
    })();
    await a.commit({ puts: [things(a).put('after', { n: 4 })] });
    await others;
    await a.fresh();
    const kept = await withClient((client) => client.hgetall(recordsKey()));
    expect(Object.keys(kept)).toHaveLength(1_800 + 20 + 3);
    expect(kept['thing/0-0']).toBe('{"n":1019}');
    for (const [field, json] of Object.entries(kept)) {
      if (/^thing\/\d-/.test(field) && field !== 'thing/0-0') expect(json).toBe(`{"n":${Number(field.split(/[/-]/)[1]) + 10}}`);
      if (field.startsWith('thing/')) expect(things(a).get(field.slice('thing/'.length))).toEqual(JSON.parse(json));
    }
  });

  it('has the lease of who was at work also when another was the first to give it its records', async () => {
    const [a, b] = [await open(), await open()];
    await a.commit({ puts: [things(a).put('a', { n: 1 })] });
    await b.fresh();
    await a.withLease('a', async (lease) => {
      await forgetAll();
      await b.commit({ puts: [things(b).put('b', { n: 1 })] });
      await a.commit({ puts: [things(a).put('a', { n: 2 })], lease });
      await forgetAll();
      await b.commit({ puts: [things(b).put('b', { n: 2 })] });
      // A renewal is sent meanwhile.
      await pause(3_500);
      expect(lease.signal.aborted).toBe(false);
      await a.commit({ puts: [things(a).put('a', { n: 3 })], lease });
    });
    expect(await withClient((client) => client.hget(recordsKey(), 'thing/a'))).toBe('{"n":3}');
  }, 15_000);

  it('is given them by the next process, from the copy, and events that follow come after all that was told', async () => {
    const first = await open();
    for (let n = 0; n < 1_200; n++) await first.commit({ puts: [things(first).put(`t/${n}\t"`, { n })] });
    await first.commit({ deletes: [things(first).delete('t/0\t"')] });
    const last = await first.commit({ puts: [things(first).put('last', { n: -1 })] });
    await copied('thing/last');
    await close(first);
    await forgetAll();
    const second = await open();
    expect(things(second).size).toBe(1_200);
    expect(things(second).get('t/7\t"')).toEqual({ n: 7 });
    expect(things(second).has('t/0\t"')).toBe(false);
    expect(second.areLost).toBe(false);
    const [ms = '', next = ''] = (await second.commit({ puts: [things(second).put('x', { n: 1 })] })).split('-');
    const [lastMs = '', lastNext = ''] = last.split('-');
    expect(Number(ms) > Number(lastMs) || Number(next) > Number(lastNext)).toBe(true);
    expect(lastRestoration(join(root, 'test'))).toMatchObject({ from: 'copy', records: 1_200 });
  });

  it('is given what a copy of an older schema holds, migrated', async () => {
    const first = await open();
    await first.commit({ puts: [things(first).put('a', { n: 1 })] });
    await copied('thing/a');
    await close(first);
    await forgetAll();
    const schema: Schema = {
      version: 2,
      migrations: { 1: (kind, document) => (kind === 'thing' ? { n: (document as Thing).n + 10 } : document) },
    };
    expect(things(await open({ schema })).get('a')).toEqual({ n: 11 });
  });

  it('is not believed where no copy is left and there are things: they are nobody’s leftovers until an operator says so', async () => {
    const first = await open();
    await first.commit({ puts: [things(first).put('a', { n: 1 })] });
    await copied('thing/a');
    await close(first);
    mkdirSync(join(root, 'things', 'a'), { recursive: true });
    await forgetAll();
    rmSync(copyPath(join(root, 'test')));
    const second = await open();
    expect(second.areLost).toBe(true);
    await second.commit({ puts: [things(second).put('b', { n: 1 })] });
    await close(second);
    expect((await open()).areLost).toBe(true);
    rmSync(lostPath(join(root, 'test')));
    expect((await open()).areLost).toBe(false);
  });

  /** Records that were lost without a copy, a service that goes on without them, and what puts them back. */
  const loseAll = async (): Promise<{ store: RecordStore; putBack: () => Promise<void> }> => {
    const first = await open();
    for (let n = 0; n < 20; n++) await first.commit({ puts: [things(first).put(`old${n}`, { n })] });
    await copied('thing/old19');
    await close(first);
    const putBack = await state();
    mkdirSync(join(root, 'things', 'a'), { recursive: true });
    await forgetAll();
    rmSync(copyPath(join(root, 'test')));
    const store = await open();
    await store.commit({ puts: [things(store).put('since', { n: 1 })] });
    expect(store.areLost).toBe(true);
    expect(existsSync(copyPath(join(root, 'test')))).toBe(false);
    return { store, putBack };
  };
  const olds = Array.from({ length: 20 }, (_, n) => `old${n}`).sort();

  it.each(['before', 'after'])(
    'has all of it when its data are put back between two processes, whether records.lost goes %s the next',
    async (when) => {
      const { store, putBack } = await loseAll();
      await close(store);
      await putBack();
      if (when === 'before') rmSync(lostPath(join(root, 'test')));
      const second = await open();
      expect([...things(second).ids()].sort()).toEqual(olds);
      await second.commit({ puts: [things(second).put('then', { n: 1 })] });
      expect(second.areLost).toBe(when === 'after');
      if (when === 'after') rmSync(lostPath(join(root, 'test')));
      await close(second);
      const third = await open();
      expect([...things(third).ids()].sort()).toEqual([...olds, 'then']);
      await copied('thing/then');
      await close(third);
      // As ever from now on.
      await forgetAll();
      expect(things(await open()).size).toBe(21);
    },
  );

  it('has all of it when its data are put back under the process', async () => {
    const { store, putBack } = await loseAll();
    const other = await open();
    await putBack();
    await store.commit({ puts: [things(store).put('then', { n: 1 })] });
    await other.fresh();
    for (const each of [store, other, await open()]) expect([...things(each).ids()].sort()).toEqual([...olds, 'then']);
    // What is lost later is given again as ever.
    await forgetAll();
    await store.commit({ puts: [things(store).put('then', { n: 2 })] });
    expect(things(await open()).size).toBe(21);
  });
});

describe('a Redis that is slow', () => {
  it('is waited for while it stands still for moments; for longer a commit is refused in bounded time, and the next is made', async () => {
    const store = await open();
    const pid = redis.process.pid;
    try {
      for (let burst = 0; burst < 5; burst++) {
        process.kill(pid, 'SIGSTOP');
        const commit = store.commit({ puts: [things(store).put(`b${burst}`, { n: burst }, { create: true })] });
        await pause(150);
        process.kill(pid, 'SIGCONT');
        await commit;
      }
      process.kill(pid, 'SIGSTOP');
      await expect(store.commit({ puts: [things(store).put('late', { n: 1 })] })).rejects.toMatchObject({ kind: 'Unavailable' });
      expect(things(store).get('b4')).toEqual({ n: 4 });
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await store.commit({ puts: [things(store).put('after', { n: 2 })] });
    // What Redis heard while it stood still it has done, and memory says what Redis says.
    const kept = await withClient((client) => client.hgetall(recordsKey()));
    expect(Object.keys(kept).sort()).toEqual(
      [...[0, 1, 2, 3, 4].map((n) => `thing/b${n}`), 'schema/version', 'thing/after', 'thing/late'].sort(),
    );
    await store.fresh();
    expect(Object.fromEntries([...things(store).all()].map(([id, { document }]) => [`thing/${id}`, JSON.stringify(document)]))).toEqual(
      Object.fromEntries(Object.entries(kept).filter(([field]) => field !== 'schema/version')),
    );
  }, 30_000);
});

describe('the copy', () => {
  it('is of one engine and service, and what is cut off at its end is left out', async () => {
    const first = await open();
    await first.commit({ puts: [things(first).put('a', { n: 1 })] });
    await copied('thing/a');
    await close(first);
    const path = copyPath(join(root, 'test'));
    writeFileSync(path, '99999999999999-0\t"thing/half"\t{"n":', { flag: 'a' });
    await forgetAll();
    const second = await open();
    expect([...things(second).ids()]).toEqual(['a']);
    await close(second);
    engine++;
    expect(things(await open()).size).toBe(0);
  });

  it('gives nothing that cannot be read', async () => {
    const first = await open();
    await first.commit({ puts: [things(first).put('a', { n: 1 }), things(first).put('b', { n: 1 })] });
    await copied('thing/b');
    await close(first);
    const path = copyPath(join(root, 'test'));
    writeFileSync(path, readFileSync(path, 'utf8').replace(/("thing\/a"\t)\{.*/g, '$1{"n":'));
    await forgetAll();
    expect([...things(await open()).ids()]).toEqual(['b']);
  });

  it('is no more where it cannot be kept: an old one would be taken for the records', async () => {
    const path = copyPath(join(root, 'test'));
    mkdirSync(`${path}.1`, { recursive: true });
    writeFileSync(path, 'old');
    await open();
    await waitFor(() => !existsSync(path), { what: 'the old copy to go' });
    rmSync(`${path}.1`, { recursive: true });
    await waitFor(() => existsSync(path), { what: 'a new copy' });
  });

  it('is left to the others by an instance that drains, and by one whose records a newer version has taken over', async () => {
    const lifecycle = new Lifecycle(logger);
    await open({ lifecycle });
    await copied('schema/version');
    const second = await open();
    lifecycle.asDrainable('all').begin();
    const { ino } = statSync(copyPath(join(root, 'test')));
    await waitFor(() => statSync(copyPath(join(root, 'test'))).ino !== ino, { what: 'a copy of the second' });
    await second.commit({ puts: [things(second).put('of the second', { n: 1 })] });
    await copied('of the second');
    const newer = await open({ schema: { version: 2, migrations: { 1: (_kind, document) => document } } });
    await newer.commit({ puts: [things(newer).put('of the newer', { n: 1 })] });
    await copied('of the newer');
  });

  it('is written anew where somebody took it away, by one replica, and the next goes on when that one ends', async () => {
    const [first, second] = [await open(), await open()];
    await copied('schema/version');
    rmSync(copyPath(join(root, 'test')));
    await waitFor(
      async () => {
        await first.commit({ puts: [things(first).put('a', { n: 1 })] });
        return existsSync(copyPath(join(root, 'test')));
      },
      { what: 'a new copy' },
    );
    await close(first);
    await second.commit({ puts: [things(second).put('from the second', { n: 2 })] });
    await copied('from the second');
  });
});
