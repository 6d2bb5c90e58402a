import { rmSync } from 'node:fs';
import { EventRelay, RecordStore } from '@flotilla/records';
import { Bus, createLogger, ensureEventStream, eventStream, Lifecycle } from '@flotilla/service-kit';
import { startNats, startRedis, type TestNats, type TestRedis, waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { EventFeed } from '../src/events/feed.ts';

const logger = createLogger({ service: 'test', instance: 'i', level: 'silent' });
let redis: TestRedis;
let nats: TestNats;

beforeAll(async () => {
  redis = await startRedis();
  nats = await startNats();
});
afterAll(async () => {
  await redis.stop();
  await nats.stop();
});

const now = (): bigint => BigInt(Date.now()) * 1_000_000n;

async function actions(events: AsyncIterable<{ action: string }>): Promise<string[]> {
  const all: string[] = [];
  for await (const { action } of events) all.push(action);
  return all;
}

/** Two services that tell what happens, one after the other. */
async function engine(engineId: string) {
  const lifecycle = new Lifecycle(logger);
  const bus = await Bus.connect({ url: nats.url, engineId, name: 'test', logger });
  const stores = await Promise.all(
    ['one', 'two'].map((service) => RecordStore.open({ url: redis.url, engineId, service, logger, lifecycle, alone: () => false })),
  );
  for (const [index, store] of stores.entries()) new EventRelay({ store, bus, service: `s${index}`, logger, lifecycle });
  const happened: string[] = [];
  return {
    bus,
    happened,
    async happen(): Promise<void> {
      const action = `e${happened.length}`;
      const store = stores[happened.length % 2];
      happened.push(action);
      await store?.commit({ events: [{ type: 'container', action, actorId: 'x', attributes: {}, timeNano: now() }] });
    },
    async stop(): Promise<void> {
      await lifecycle.stop();
      await bus.close();
    },
  };
}

/** One that follows: what it is told from the beginning on, or from then. */
async function follower(engineId: string, since?: bigint) {
  const bus = await Bus.connect({ url: nats.url, engineId, name: 'gateway', logger });
  const feed = new EventFeed({ bus, logger });
  await feed.start();
  const followed = new AbortController();
  const seen: string[] = [];
  const events = await feed.follow({ signal: followed.signal, ...(since === undefined ? {} : { since }) });
  const following = (async () => {
    for await (const { action } of events) seen.push(action);
  })();
  return {
    bus,
    seen,
    past: async (from: bigint): Promise<string[]> => actions(await feed.follow({ since: from, until: now(), signal: followed.signal })),
    pastUntil: async (signal: AbortSignal): Promise<string[]> => actions(await feed.follow({ since: 0n, signal })),
    async stop(): Promise<void> {
      followed.abort();
      await following;
      await feed.stop();
      await bus.close();
    },
  };
}

it('a stream that NATS has lost is filled again: followers miss nothing and are told nothing twice, and the past is there', async () => {
  const { happened, happen, stop } = await engine('loss');
  const began = now();
  const gateway = await follower('loss', began);
  const { seen } = gateway;
  const wanted = (): string[] => [...happened].sort();
  const allSeen = (): Promise<unknown> => waitFor(() => seen.length >= happened.length, { what: 'all events', timeoutMs: 60_000 });
  for (let n = 0; n < 10; n++) await happen();
  await allSeen();
  for (let loss = 1; loss <= 2; loss++) {
    // The new one is not there at once.
    const looks = vi.spyOn(gateway.bus.connection, 'jetstreamManager');
    for (let n = 0; n < 2; n++) looks.mockRejectedValueOnce(new Error('not yet'));
    rmSync(await nats.process.crash(), { recursive: true });
    for (let n = 0; n < 4; n++) await happen();
    nats = await startNats({ port: nats.port });
    for (let n = 0; n < 4; n++) await happen();
    await allSeen();
    expect([...seen].sort()).toEqual(wanted());
    expect(looks.mock.calls.length).toBeGreaterThan(2);
    looks.mockRestore();
  }
  expect((await gateway.past(began)).sort()).toEqual(wanted());
  await gateway.stop();
  await stop();
}, 120_000);

it('a follower that was told the past is not told it again when the stream is lost', async () => {
  const { bus, happened, happen, stop } = await engine('again');
  const began = now();
  for (let n = 0; n < 6; n++) await happen();
  const first = new EventFeed({ bus, logger });
  const { signal } = new AbortController();
  await waitFor(async () => (await actions(await first.follow({ since: began, until: now(), signal }))).length === 6, {
    what: 'all to be relayed',
  });
  // As a gateway that came later has it: nothing of this was live for it.
  const gateway = await follower('again', began);
  const { seen } = gateway;
  await waitFor(() => seen.length === 6, { what: 'the past' });
  rmSync(await nats.process.crash(), { recursive: true });
  nats = await startNats({ port: nats.port });
  await happen();
  await waitFor(() => seen.includes('e6'), { what: 'the next event', timeoutMs: 60_000 });
  // Two relays may tell what happened in one millisecond in either order.
  expect([...seen].sort()).toEqual(happened);
  await gateway.stop();
  await stop();
}, 120_000);

it('a consumer that NATS has lost before its first event is made again without a gap, and readers of the past leave none', async () => {
  const { bus, happened, happen, stop } = await engine('gap');
  const manager = await bus.connection.jetstreamManager();
  const consumers = async (): Promise<string[]> => (await manager.consumers.list(eventStream).next()).map(({ name }) => name);
  await ensureEventStream(bus);
  const others = new Set(await consumers());
  const added = async (): Promise<string[]> => (await consumers()).filter((name) => !others.has(name));
  const gateway = await follower('gap');
  const { seen } = gateway;
  const [live = ''] = await added();
  await manager.consumers.delete(eventStream, live);
  for (let n = 0; n < 20; n++) await happen();
  await waitFor(() => seen.length >= happened.length, { what: 'all events', timeoutMs: 60_000 });
  expect([...seen].sort()).toEqual([...happened].sort());

  const gone = new AbortController();
  const leaving = gateway.pastUntil(gone.signal);
  expect(await gateway.past(0n)).toHaveLength(20);
  gone.abort();
  await leaving;
  await waitFor(async () => (await added()).length === 1, { what: 'the readers to be gone' });
  await gateway.stop();
  await stop();
}, 120_000);
