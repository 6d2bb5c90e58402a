import { rmSync } from 'node:fs';
import { EventRelay, RecordStore } from '@flotilla/records';
import { Bus, createLogger, Lifecycle } from '@flotilla/service-kit';
import { startNats, startRedis, type TestNats, type TestRedis, waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { EventFeed } from '../src/events/feed.ts';

const logger = createLogger({ service: 'test', instance: 'i', level: 'silent' });
const engineId = 'loss';
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

it('a stream that NATS has lost is filled again: followers miss nothing and are told nothing twice, and the past is there', async () => {
  const lifecycle = new Lifecycle(logger);
  const bus = await Bus.connect({ url: nats.url, engineId, name: 'test', logger });
  const stores = await Promise.all(
    ['one', 'two'].map((service) => RecordStore.open({ url: redis.url, engineId, service, logger, lifecycle, alone: () => false })),
  );
  for (const [index, store] of stores.entries()) new EventRelay({ store, bus, service: `s${index}`, logger, lifecycle });
  const feed = new EventFeed({ bus, logger });
  await feed.start();
  let count = 0;
  const happen = async (): Promise<void> => {
    const event = { type: 'container', action: `e${count}`, actorId: 'x', attributes: {}, timeNano: BigInt(Date.now()) * 1_000_000n };
    await stores[count++ % 2]?.commit({ events: [event] });
  };
  const began = BigInt(Date.now()) * 1_000_000n;
  const followed = new AbortController();
  const seen: string[] = [];
  const following = (async () => {
    for await (const event of await feed.follow({ since: began, signal: followed.signal })) seen.push(event.action);
  })();
  const wanted = (): string[] => Array.from({ length: count }, (_, index) => `e${index}`).sort();
  const allSeen = (): Promise<unknown> => waitFor(() => seen.length >= count, { what: `${count} events`, timeoutMs: 60_000 });
  for (let n = 0; n < 10; n++) await happen();
  await allSeen();
  for (let loss = 1; loss <= 2; loss++) {
    rmSync(await nats.process.crash(), { recursive: true });
    for (let n = 0; n < 4; n++) await happen();
    nats = await startNats({ port: nats.port });
    for (let n = 0; n < 4; n++) await happen();
    await allSeen();
    expect([...seen].sort()).toEqual(wanted());
  }
  const past: string[] = [];
  const until = BigInt(Date.now()) * 1_000_000n;
  for await (const event of await feed.follow({ since: began, until, signal: followed.signal })) past.push(event.action);
  expect(past.sort()).toEqual(wanted());
  followed.abort();
  await following;
  await feed.stop();
  await lifecycle.stop();
  await bus.close();
}, 120_000);
