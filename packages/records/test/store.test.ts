import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Event } from '@flotilla/contracts/flotilla/events/v1/event';
import { Bus, createLogger, eventStream, Health, Lifecycle } from '@flotilla/service-kit';
import { startNats, startRedis, type TestNats, type TestRedis, waitFor } from '@flotilla/testkit';
import { consumerOpts } from 'nats';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type DomainEvent, EventRelay, RecordStore } from '../src/index.ts';
import type { Schema } from '../src/schema.ts';
import type { StoreOptions } from '../src/store.ts';

interface Thing {
  readonly n: number;
}

const logger = createLogger({ service: 'test', instance: 'i', level: 'silent' });
let redis: TestRedis;
let nats: TestNats;
const stores: RecordStore[] = [];
let engine = 0;

beforeAll(async () => {
  redis = await startRedis();
  nats = await startNats();
});
afterEach(async () => {
  for (const store of stores.splice(0)) await store.close();
});
afterAll(async () => {
  await redis.stop();
  await nats.stop();
});

async function open(engineId = `e${engine}`, more: Partial<StoreOptions> = {}): Promise<RecordStore> {
  const store = await RecordStore.open({ url: redis.url, engineId, service: 'test', logger, alone: () => false, ...more });
  stores.push(store);
  return store;
}

const event = (action: string): DomainEvent => ({
  type: 'container',
  action,
  actorId: 'x',
  attributes: { name: 'n' },
  timeNano: 1_700_000_000_000_000_123n,
});

describe('the schema of records', () => {
  const second: Schema = {
    version: 3,
    migrations: {
      1: (kind, document) => (kind === 'thing' ? { n: (document as Thing).n + 100 } : document),
      2: (kind, document) => (kind === 'gone' ? undefined : document),
    },
  };
  const openAs = async (schema: Schema): Promise<RecordStore> => {
    const store = await RecordStore.open({ url: redis.url, engineId: `e${engine}`, service: 'test', logger, alone: () => false, schema });
    stores.push(store);
    return store;
  };

  it('is kept with them, and an older one is migrated once, whoever comes', async () => {
    engine++;
    const old = await open();
    await old.commit({
      puts: [
        old.collection<Thing>('thing').put('a', { n: 1 }),
        old.collection('gone').put('b', {}),
        old.collection('other').put('c/d', 'as it is'),
      ],
    });
    const opened = await Promise.all([openAs(second), openAs(second)]);
    for (const store of opened) {
      expect(store.collection<Thing>('thing').get('a')).toEqual({ n: 101 });
      expect(store.collection('gone').size).toBe(0);
      expect(store.collection('other').get('c/d')).toBe('as it is');
    }
    const client = redis.client();
    expect(await client.hgetall(`flotilla:{e${engine}:test}:records`)).toEqual({
      'schema/version': '3',
      'thing/a': '{"n":101}',
      'other/c/d': '"as it is"',
    });
    client.disconnect();
  });

  it('loses nothing that an older instance writes while they are migrated, and shows it nothing of what they become', async () => {
    engine++;
    const old = await open();
    const things = old.collection<Thing>('thing');
    const puts = Array.from({ length: 2_000 }, (_, n) => things.put(`first-${n}`, { n }));
    await old.commit({ puts });
    let written = 0;
    const seen: number[] = [];
    things.onChange((_id, now) => seen.push(now?.n ?? -1));
    const writing = (async () => {
      for (; written < 500; written++) {
        await old.commit({ puts: [things.put(`late-${written}`, { n: written })] });
        await pause(1);
      }
    })().catch((error: Error) => error.message);
    const migrated = await openAs(second);
    await writing;
    const now = migrated.collection<Thing>('thing');
    for (let n = 0; n < written; n++) expect(now.get(`late-${n}`)).toEqual({ n: n + 100 });
    expect(now.size).toBe(2_000 + written);
    await waitFor(
      () =>
        old.fresh().then(
          () => false,
          () => true,
        ),
      { what: 'the older one to notice' },
    );
    expect(seen.every((n, index) => n === index)).toBe(true);
  });

  it('refuses what is newer, in words, and an older instance that still runs writes nothing any more', async () => {
    engine++;
    const old = await open();
    await openAs(second);
    const things = old.collection<Thing>('thing');
    await expect(old.commit({ puts: [things.put('a', { n: 1 })] })).rejects.toThrow(
      'the records of test were taken over by a newer version',
    );
    await waitFor(
      () =>
        old.fresh().then(
          () => false,
          (error: Error) => error.message.includes('taken over'),
        ),
      { what: 'the older one to notice' },
    );
    await expect(open()).rejects.toThrow('the records of test are of schema 3, written by a newer version; this one knows them up to 1');
    expect((await openAs(second)).collection<Thing>('thing').size).toBe(0);
  });
});

/** A lease's key, and where its holder runs. */
async function heldBy(store: RecordStore, name: string): Promise<{ key: string; boot: string | undefined; namespace: string | undefined }> {
  const { key, token } = await store.withLease(name, async (lease) => lease);
  const [boot, namespace] = token.slice(token.indexOf('@') + 1).split('/');
  return { key, boot, namespace };
}

describe('the record store', () => {
  it('is read again by the next process, with deletes', async () => {
    engine++;
    const first = await open();
    const things = first.collection<Thing>('thing');
    await first.commit({ puts: [things.put('a', { n: 1 }), things.put('b', { n: 2 })] });
    await first.commit({ deletes: [things.delete('a')] });
    const second = (await open()).collection<Thing>('thing');
    expect([...second.values()]).toEqual([{ n: 2 }]);
  });

  it('tells of a commit once, and keeps the document it was given', async () => {
    engine++;
    const store = await open();
    const things = store.collection<Thing>('thing');
    const told: unknown[] = [];
    things.onChange((_id, now) => told.push(now));
    const documents = Array.from({ length: 50 }, (_, n) => ({ n }));
    for (const document of documents) await store.commit({ puts: [things.put('x', document)] });
    // By another replica's commit it is known that all of ours have come by the change stream.
    const other = await open();
    await other.commit({ puts: [other.collection<Thing>('thing').put('last', { n: -1 })] });
    await waitFor(() => things.has('last'));
    expect(told.slice(0, -1).every((document, index) => document === documents[index])).toBe(true);
    expect(told).toHaveLength(51);
  });

  it('shows a commit to every replica at its next read', async () => {
    engine++;
    const [a, b] = [await open(), await open()];
    const [inA, inB] = [a.collection<Thing>('thing'), b.collection<Thing>('thing')];
    for (let n = 0; n < 50; n++) {
      await a.commit({ puts: [inA.put('x', { n })] });
      await b.fresh();
      expect(inB.get('x')).toEqual({ n });
    }
    await b.commit({ deletes: [inB.delete('x')] });
    await a.fresh();
    expect(inA.has('x')).toBe(false);
  });

  it('shows a commit also to a replica that has not heard of the other yet', async () => {
    engine++;
    const folder = mkdtempSync(join(tmpdir(), 'flotilla-store-'));
    const here = { alone: () => true, changeMark: join(folder, 'changes') };
    const [a, b] = [await open(undefined, here), await open(undefined, here)];
    const [inA, inB] = [a.collection<Thing>('thing'), b.collection<Thing>('thing')];
    for (let n = 0; n < 200; n++) {
      const [writer, written, reader, read] = n % 3 === 0 ? [b, inB, a, inA] : [a, inA, b, inB];
      await writer.commit({ puts: [written.put('x', { n })] });
      await reader.fresh();
      expect(read.get('x')).toEqual({ n });
    }
    rmSync(folder, { recursive: true });
  });

  it('makes all of a commit or nothing', async () => {
    engine++;
    const store = await open();
    const things = store.collection<Thing>('thing');
    await store.commit({ puts: [things.put('taken', { n: 1 }, { create: true })] });
    const twice = store.commit({ puts: [things.put('other', { n: 2 }), things.put('taken', { n: 3 }, { create: true })] });
    await expect(twice).rejects.toMatchObject({ kind: 'Conflict' });
    expect(things.has('other')).toBe(false);
    expect(things.get('taken')).toEqual({ n: 1 });
    expect([...(await open()).collection<Thing>('thing').values()]).toEqual([{ n: 1 }]);
  });

  it('makes a commit only while the records that it goes by are as it knows them', async () => {
    engine++;
    const [a, b] = [await open(), await open()];
    const [inA, inB] = [a.collection<Thing>('thing'), b.collection<Thing>('thing')];
    await a.commit({ puts: [inA.put('x', { n: 1 }), inA.put('y', { n: 1 })] });
    await b.fresh(true);
    const unchanged = [inB.is('x', { n: 1 })];
    await b.commit({ puts: [inB.put('y', { n: 2 })], unchanged });
    await a.commit({ puts: [inA.put('x', { n: 2 })] });
    const late = { kind: 'Conflict', message: 'thing/x has changed meanwhile' };
    await expect(b.commit({ puts: [inB.put('y', { n: 3 })], unchanged })).rejects.toMatchObject(late);
    await a.commit({ deletes: [inA.delete('x')] });
    await expect(b.commit({ puts: [inB.put('y', { n: 4 })], unchanged })).rejects.toMatchObject(late);
    expect([...(await open()).collection<Thing>('thing').values()]).toEqual([{ n: 2 }]);
  });

  it('lets one work on an object at a time, across replicas', async () => {
    engine++;
    const replicas = [await open(), await open()];
    let inside = 0;
    let most = 0;
    await Promise.all(
      Array.from({ length: 12 }, (_, index) =>
        replicas[index % 2]?.withLease('x', async () => {
          most = Math.max(most, ++inside);
          await new Promise((resolve) => setTimeout(resolve, 3));
          inside--;
        }),
      ),
    );
    expect(most).toBe(1);
  });

  it('refuses the commit of a holder that lost its lease', async () => {
    engine++;
    const store = await open();
    const things = store.collection<Thing>('thing');
    const client = redis.client();
    const late = store.withLease('x', async (lease) => {
      // What happens to a process that was stopped for longer than its lease: another has it now.
      await client.set(lease.key, 'another');
      await store.commit({ puts: [things.put('x', { n: 1 })], lease });
    });
    await expect(late).rejects.toMatchObject({ kind: 'Unavailable' });
    expect(things.has('x')).toBe(false);
    client.disconnect();
  });

  it('lets a late holder commit as long as nobody has taken its lease', async () => {
    engine++;
    const [store, other] = [await open(), await open()];
    const things = store.collection<Thing>('thing');
    const client = redis.client();
    // What is left of a lease that was not prolonged for half a minute.
    const grow = async (key: string): Promise<unknown> => client.pexpire(key, (await client.pttl(key)) - 30_000);
    await store.withLease('x', async (lease) => {
      await grow(lease.key);
      await store.commit({ puts: [things.put('x', { n: 1 })], lease });
    });
    expect(things.get('x')).toEqual({ n: 1 });
    const late = store.withLease('x', async (lease) => {
      await grow(lease.key);
      await other.withLease('x', async () => undefined);
      await store.commit({ puts: [things.put('x', { n: 2 })], lease });
    });
    await expect(late).rejects.toMatchObject({ kind: 'Unavailable' });
    expect(things.get('x')).toEqual({ n: 1 });
    client.disconnect();
  });

  it('does not wait for the lease of a process that has died', async () => {
    engine++;
    const store = await open();
    const client = redis.client();
    const { key, boot, namespace } = await heldBy(store, 'y');
    await client.set(key, `7@${boot}/${namespace}/${process.pid}/1`, 'PX', 60_000);
    const before = Date.now();
    await store.withLease('y', async () => undefined);
    expect(Date.now() - before).toBeLessThan(1_000);
    client.disconnect();
  });

  it('leaves its lease to a holder of another pid namespace, whose pids mean nothing here', async () => {
    engine++;
    const store = await open();
    const client = redis.client();
    const { key, boot } = await heldBy(store, 'y');
    await client.set(key, `7@${boot}/pid:[1]/${process.pid}/1`, 'PX', 90_000);
    await expect(store.withLease('y', async () => undefined, { waitMs: 200 })).rejects.toMatchObject({ kind: 'Unavailable' });
    client.disconnect();
  });

  it('passes a lost connection to Redis: reads go on, a write waits and is made once', async () => {
    engine++;
    const store = await open();
    const things = store.collection<Thing>('thing');
    await store.commit({ puts: [things.put('x', { n: 1 })] });
    const client = redis.client();
    await client.call('CLIENT', 'KILL', 'TYPE', 'normal');
    expect(things.get('x')).toEqual({ n: 1 });
    await store.commit({ puts: [things.put('x', { n: 2 })] });
    expect((await open()).collection<Thing>('thing').get('x')).toEqual({ n: 2 });
    client.disconnect();
  });
});

/** The way of one store to Redis, which can be held up and cut. */
class Way {
  readonly path: string;
  private readonly to: string;
  private server: Server | undefined;
  private readonly ends = new Set<Socket>();
  private readonly answers = new Set<Socket>();

  constructor(folder: string, to: string) {
    this.path = join(folder, 'redis.sock');
    this.to = to;
  }

  open(): Promise<void> {
    const server = createServer((here) => {
      const there = createConnection(this.to);
      for (const end of [here, there]) this.ends.add(end.on('error', () => undefined));
      this.answers.add(there);
      here.pipe(there).pipe(here);
    });
    this.server = server;
    return new Promise((resolve) => server.listen(this.path, resolve));
  }

  /** What Redis says does not arrive any more. */
  hold(): void {
    for (const answer of this.answers) answer.unpipe();
  }

  cut(): Promise<void> {
    for (const end of this.ends) end.destroy();
    this.ends.clear();
    this.answers.clear();
    return new Promise((resolve) => this.server?.close(() => resolve()));
  }
}

describe('a read while Redis is away', () => {
  let folder: string;
  let way: Way;
  let [writer, reader]: RecordStore[] = [];
  beforeEach(async () => {
    engine++;
    folder = mkdtempSync(join(tmpdir(), 'flotilla-away-'));
    way = new Way(folder, redis.socketPath);
    await way.open();
    const changeMark = join(folder, 'changes');
    writer = await open(undefined, { changeMark });
    reader = await open(undefined, { changeMark, url: `unix://${way.path}` });
    await reader.fresh();
  });
  afterEach(async () => {
    await way.cut();
    rmSync(folder, { recursive: true });
  });
  const things = (store: RecordStore | undefined) => store?.collection<Thing>('thing');

  async function writeOne(): Promise<void> {
    const written = things(writer)?.put('x', { n: 1 });
    await writer?.commit({ puts: written === undefined ? [] : [written] });
  }

  it('waits for it a moment when another replica has answered something meanwhile', async () => {
    const health = new Health();
    const late = await open(undefined, { changeMark: join(folder, 'changes'), url: `unix://${way.path}`, health });
    way.hold();
    await writeOne();
    await way.cut();
    await waitFor(async () => !(await health.check()).ready, { what: 'the connection to be lost' });
    const read = late.fresh().then(() => things(late)?.get('x'));
    await pause(500);
    await way.open();
    expect(await read).toEqual({ n: 1 });
  });

  it('goes on when Redis does not come back, and at once where nothing can be missing', async () => {
    const took = async (): Promise<number> => {
      const began = performance.now();
      await reader?.fresh();
      return performance.now() - began;
    };
    await way.cut();
    await pause(200);
    expect(await took()).toBeLessThan(1_000);
    await writeOne();
    const began = performance.now();
    await Promise.all([took(), took()]);
    expect(performance.now() - began).toBeGreaterThan(1_000);
    expect(await took()).toBeLessThan(1_000);
    expect(things(reader)?.has('x')).toBe(false);
  });

  it('that Redis has heard and does not answer goes on as well', async () => {
    await writeOne();
    way.hold();
    const read = reader?.fresh();
    await pause(200);
    await way.cut();
    await read;
  });
});

describe('the event relay', () => {
  it('brings every event once and in order to JetStream, also those of a process that died before it could', async () => {
    engine++;
    const engineId = `e${engine}`;
    const bus = await Bus.connect({ url: nats.url, engineId, name: 'test', logger });
    const store = await open(engineId);
    await store.commit({ events: [event('create')] });
    const run = async (commits: string[]): Promise<void> => {
      const lifecycle = new Lifecycle(logger);
      new EventRelay({ store, bus, service: 'test', logger, lifecycle });
      for (const action of commits) await store.commit({ events: [event(action), event(`${action}-2`)] });
      const manager = await bus.connection.jetstreamManager();
      await waitFor(
        async () => (await manager.streams.info(eventStream).catch(() => undefined))?.state.messages === 1 + 2 * commits.length,
        { what: 'events' },
      );
      await lifecycle.stop();
    };
    await run(['start', 'die']);
    // Forgetting how far it came is what a crash before the save does: the message ids keep doubles out.
    await store.outbox.saveRelayed('0-0');
    await run(['start', 'die']).catch(() => undefined);
    const manager = await bus.connection.jetstreamManager();
    const subscription = await bus.connection.jetstream().subscribe(`flotilla.${engineId}.events.>`, consumerOpts().orderedConsumer());
    const actions: string[] = [];
    const total = (await manager.streams.info(eventStream)).state.messages;
    for await (const message of subscription) {
      const seen = Event.decode(message.data);
      actions.push(seen.action);
      expect(seen.timeNano).toBe(1_700_000_000_000_000_123n);
      if (actions.length === total) break;
    }
    expect(actions).toEqual(['create', 'start', 'start-2', 'die', 'die-2', 'start', 'start-2', 'die', 'die-2']);
    await bus.close();
  });
});
