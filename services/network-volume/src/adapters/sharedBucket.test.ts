import type { Bus } from '@flotilla/service-kit';
import { expect, it, vi } from 'vitest';
import { SharedBucket } from './sharedBucket.ts';

/** What is sent into it comes out, until it is stopped. */
class Source<T> {
  private readonly items: T[] = [];
  private wake: () => void = () => undefined;
  private error: Error | undefined;
  isStopped = false;

  send(item: T): void {
    this.items.push(item);
    this.wake();
  }

  stop(error?: Error): void {
    this.isStopped = true;
    this.error = error;
    this.wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    for (;;) {
      for (let item = this.items.shift(); item !== undefined; item = this.items.shift()) yield item;
      if (this.error !== undefined) throw this.error;
      if (this.isStopped) return;
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
  }
}

interface Entry {
  readonly key: string;
  readonly operation: 'PUT' | 'DEL';
  string(): string;
}

/** A bucket whose listings and watches can be made to hang. */
class FakeNats {
  readonly there = new Map<string, string>();
  readonly statuses = new Source<{ type: string }>();
  readonly watches: Source<Entry>[] = [];
  listingsThatHang = 0;
  watchesThatHang = 0;

  private readonly bucket = {
    keys: async () => this.list(),
    watch: async () => this.watch(),
    status: async () => ({ streamInfo: { created: 'once', config: { num_replicas: 1 } } }),
  };
  readonly bus = {
    connected: true,
    connection: {
      status: () => this.statuses,
      info: {},
      jetstream: () => ({ views: { kv: async () => this.bucket } }),
    },
  } as unknown as Bus;

  private list(): Source<string> {
    const listing = new Source<string>();
    for (const key of this.there.keys()) listing.send(key);
    if (this.listingsThatHang-- <= 0) listing.stop();
    return listing;
  }

  private watch(): Source<Entry> {
    const watch = new Source<Entry>();
    this.watches.push(watch);
    if (this.watchesThatHang-- <= 0) for (const key of this.there.keys()) watch.send(this.entry(key));
    return watch;
  }

  entry(key: string): Entry {
    const value = this.there.get(key);
    return { key, operation: value === undefined ? 'DEL' : 'PUT', string: () => value ?? '' };
  }

  reconnect(): void {
    this.statuses.send({ type: 'reconnect' });
  }
}

async function watched() {
  const nats = new FakeNats();
  nats.there.set('one', '1');
  const known = new Map<string, string>();
  const bucket = new SharedBucket(nats.bus, () => undefined, 50);
  let again = 0;
  bucket.onReconnect(() => {
    again += 1;
  });
  const change = (key: string, value: string | undefined): void => void (value === undefined ? known.delete(key) : known.set(key, value));
  await bucket.watch(change);
  return { nats, known, bucket, change, again: () => again };
}

it('learns at every reconnect what was made and deleted meanwhile, also when the wire has ended the watch at the same time', async () => {
  const { nats, known, again } = await watched();
  for (const round of [1, 2, 3]) {
    nats.there.clear();
    nats.there.set(`round ${round}`, 'x');
    nats.watches.at(-1)?.stop(new Error('cut'));
    nats.reconnect();
    await vi.waitFor(() => expect([...known.keys()]).toEqual([`round ${round}`]));
    await vi.waitFor(() => expect(again()).toBeGreaterThanOrEqual(round));
  }
  await vi.waitFor(() => expect(nats.watches.filter(({ isStopped }) => !isStopped)).toHaveLength(1));
});

it.each(['listingsThatHang', 'watchesThatHang'] as const)('goes on after %s, as they do when NATS goes while it answers', async (what) => {
  const { nats, known, again } = await watched();
  nats[what] = 1;
  nats.there.set('two', '2');
  nats.reconnect();
  await vi.waitFor(() => expect(known.has('two')).toBe(true), { timeout: 5_000 });
  nats.there.delete('one');
  nats.reconnect();
  await vi.waitFor(() => expect([...known.keys()]).toEqual(['two']), { timeout: 5_000 });
  await vi.waitFor(() => expect(again()).toBe(2));
  expect(nats.watches.filter(({ isStopped }) => !isStopped)).toHaveLength(1);
});

it('may be begun again when there was no answer yet', async () => {
  const nats = new FakeNats();
  nats.there.set('one', '1');
  nats.watchesThatHang = 1;
  const bucket = new SharedBucket(nats.bus, () => undefined, 50);
  const seen: string[] = [];
  await expect(bucket.watch((key) => void seen.push(key))).rejects.toThrow('the watch ended before it had told all there is');
  await bucket.watch((key) => void seen.push(key));
  expect(seen).toEqual(['one']);
  await bucket.close();
  expect(nats.watches.every(({ isStopped }) => isStopped)).toBe(true);
});
