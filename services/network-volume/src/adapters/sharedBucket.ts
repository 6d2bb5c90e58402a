/** The bucket that hosts share: JetStream's key-value store, with what it may fail with told apart. */
import { createSocket } from 'node:dgram';
import { setTimeout as sleep } from 'node:timers/promises';
import { Conflict, errorMessage, Unavailable } from '@flotilla/errors';
import { type Bus, copiesIn, keepCopies } from '@flotilla/service-kit';
import type { KV, KvEntry, QueuedIterator } from 'nats';
import type { SharedEntry, SharedStore } from '../overlay/shared.ts';

const bucketName = 'flotilla_overlay';
/** JetStream's error for a compare-and-set that lost. */
const wrongLastSequence = 10_071;
const retryMs = 500;

export class SharedBucket implements SharedStore {
  private readonly bus: Bus;
  private readonly onError: (error: unknown) => void;
  /** How long a listing may take: the client's own waits for ever. */
  private readonly answerMs: number;
  private readonly known = new Set<string>();
  private readonly afterReconnect: (() => void)[] = [];
  private whenLost: () => Promise<void> = () => Promise.resolve();
  /** When the bucket that was told last was made: what tells it from one that NATS has lost. */
  private made: string | undefined;
  private bucket: KV | undefined;
  private watcher: QueuedIterator<KvEntry> | undefined;
  /** Counts reconnects: a watch that was begun before one is not trusted. */
  private connections = 0;
  private closed = false;

  constructor(bus: Bus, onError: (error: unknown) => void, answerMs = 10_000) {
    this.bus = bus;
    this.onError = onError;
    this.answerMs = answerMs;
  }

  get connected(): boolean {
    return this.bus.connected;
  }

  private async open(): Promise<KV> {
    if (!this.connected) throw new Unavailable('the NATS that hosts share cannot be reached');
    this.bucket ??= await this.bus.connection.jetstream().views.kv(bucketName, { history: 1, replicas: copiesIn(this.bus) });
    return this.bucket;
  }

  private async call<T>(work: (bucket: KV) => Promise<T>): Promise<T> {
    try {
      return await work(await this.open());
    } catch (error) {
      if (isLost(error)) throw new Conflict('another host was quicker', { cause: error });
      if (error instanceof Unavailable) throw error;
      // It may be gone with the data of NATS: the next call makes it anew.
      this.bucket = undefined;
      throw new Unavailable(`the NATS that hosts share does not answer: ${errorMessage(error)}`, { cause: error });
    }
  }

  async get(key: string): Promise<SharedEntry | undefined> {
    const entry = await this.call((bucket) => bucket.get(key));
    return entry === null || entry.operation !== 'PUT' ? undefined : { value: entry.string(), revision: entry.revision };
  }

  async keys(filter: string): Promise<string[]> {
    return this.call(async (bucket) => {
      const found: string[] = [];
      const listing = await bucket.keys(filter);
      const limit = setTimeout(() => listing.stop(new Error('a listing did not end')), this.answerMs);
      try {
        for await (const key of listing) found.push(key);
      } finally {
        clearTimeout(limit);
      }
      return found;
    });
  }

  async create(key: string, value: string): Promise<void> {
    await this.call((bucket) => bucket.create(key, Buffer.from(value)));
  }

  async update(key: string, value: string, revision: number): Promise<void> {
    await this.call((bucket) => bucket.update(key, Buffer.from(value), revision));
  }

  async put(key: string, value: string): Promise<void> {
    await this.call((bucket) => bucket.put(key, Buffer.from(value)));
  }

  async delete(key: string): Promise<void> {
    await this.call((bucket) => bucket.delete(key));
  }

  async watch(onChange: (key: string, value: string | undefined) => void): Promise<void> {
    const { ended } = await this.beginWatch(onChange);
    void this.followConnection();
    void this.keepWatching(onChange, ended);
  }

  /** One watch after the other, never two: what a late listing says must not overrule a newer one. */
  private async keepWatching(onChange: (key: string, value: string | undefined) => void, first: Promise<void>): Promise<void> {
    let ended = first;
    while (true) {
      await ended;
      const next = await this.watchAgain(onChange);
      if (next === undefined) return;
      ended = next.ended;
      for (const work of this.afterReconnect) work();
    }
  }

  /** JetStream may answer a little later than its server. */
  private async watchAgain(onChange: (key: string, value: string | undefined) => void): Promise<{ ended: Promise<void> } | undefined> {
    while (!this.closed) {
      try {
        return await this.beginWatch(onChange);
      } catch (error) {
        // That NATS is away is told by the bus, once.
        if (this.connected) this.onError(error);
        await sleep(retryMs, undefined, { ref: false });
      }
    }
    return undefined;
  }

  /**
   * A new watch gives all there is; what is gone since is found by comparing.
   *
   * @returns once all there is was told; `ended` when the watch has.
   * @throws Unavailable; then nothing is watched.
   */
  private async beginWatch(onChange: (key: string, value: string | undefined) => void): Promise<{ ended: Promise<void> }> {
    const { connections } = this;
    const { streamInfo } = await this.call((bucket) => bucket.status());
    await keepCopies(this.bus, streamInfo);
    const made = String(streamInfo.created);
    // Hosts tell another bucket what they have, each for itself: nothing that is not in it yet is gone.
    const isLost = this.made !== undefined && this.made !== made;
    if (isLost) await this.whenLost();
    const there = new Set(await this.keys('>'));
    for (const key of isLost ? [] : [...this.known]) {
      if (there.has(key)) continue;
      this.known.delete(key);
      onChange(key, undefined);
    }
    const watcher = await this.call((bucket) => bucket.watch({ key: '>' }));
    this.watcher = watcher;
    if (this.closed || connections !== this.connections) watcher.stop();
    let missing = there.size;
    const told = Promise.withResolvers<true>();
    if (missing === 0) told.resolve(true);
    const ended = this.deliver(watcher, (key, value) => {
      onChange(key, value);
      missing -= 1;
      if (missing <= 0) told.resolve(true);
    });
    const limit = setTimeout(() => watcher.stop(), this.answerMs);
    const isWhole = await Promise.race([told.promise, ended]);
    clearTimeout(limit);
    if (isWhole !== true) throw new Unavailable('the watch ended before it had told all there is');
    this.made = made;
    return { ended };
  }

  private async deliver(watcher: QueuedIterator<KvEntry>, onChange: (key: string, value: string | undefined) => void): Promise<void> {
    try {
      for await (const entry of watcher) {
        const isThere = entry.operation === 'PUT';
        if (isThere) this.known.add(entry.key);
        else this.known.delete(entry.key);
        onChange(entry.key, isThere ? entry.string() : undefined);
      }
    } catch (error) {
      // A wire that was cut ends a watch though the connection has outlived it.
      if (!this.closed) this.onError(error);
    }
  }

  /** What a watch missed while NATS was away is not told again by itself. */
  private async followConnection(): Promise<void> {
    for await (const status of this.bus.connection.status()) {
      if (status.type !== 'reconnect') continue;
      this.connections += 1;
      this.watcher?.stop();
    }
  }

  onReconnect(work: () => void): void {
    this.afterReconnect.push(work);
  }

  onLost(work: () => Promise<void>): void {
    this.whenLost = work;
  }

  async close(): Promise<void> {
    this.closed = true;
    this.watcher?.stop();
  }
}

function isLost(error: unknown): boolean {
  if (typeof error !== 'object' || error === null || !('api_error' in error)) return false;
  return (error as { api_error?: { err_code?: number } }).api_error?.err_code === wrongLastSequence;
}

/** This host's address on the way to the NATS it shares; undefined when that is on the host itself, and shared with nobody. */
export function underlayAddress(natsUrl: string): Promise<string | undefined> {
  const [first = ''] = natsUrl.split(',');
  const url = URL.canParse(first) ? new URL(first) : undefined;
  if (url === undefined) return Promise.resolve(undefined);
  return new Promise((resolve) => {
    const host = url.hostname.replace(/^\[|\]$/g, '');
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
    const finish = (address: string | undefined): void => {
      socket.close();
      resolve(address);
    };
    socket.on('error', () => finish(undefined));
    // Nothing is sent: connecting only chooses the route.
    socket.connect(Number(url.port || 4222), host, () => {
      const { address } = socket.address();
      finish(address.startsWith('127.') || address === '::1' ? undefined : address);
    });
  });
}
