/** The bucket that hosts share: JetStream's key-value store, with what it may fail with told apart. */
import { createSocket } from 'node:dgram';
import { setTimeout as sleep } from 'node:timers/promises';
import { Conflict, errorMessage, Unavailable } from '@flotilla/errors';
import type { Bus } from '@flotilla/service-kit';
import type { KV, KvEntry, QueuedIterator } from 'nats';
import type { SharedEntry, SharedStore } from '../overlay/shared.ts';

const bucketName = 'flotilla_overlay';
/** JetStream's error for a compare-and-set that lost. */
const wrongLastSequence = 10_071;
const retryMs = 500;

export class SharedBucket implements SharedStore {
  private readonly bus: Bus;
  private readonly onError: (error: unknown) => void;
  private readonly known = new Set<string>();
  private readonly afterReconnect: (() => void)[] = [];
  private bucket: KV | undefined;
  private watcher: QueuedIterator<KvEntry> | undefined;
  private turn = 0;
  private closed = false;

  constructor(bus: Bus, onError: (error: unknown) => void) {
    this.bus = bus;
    this.onError = onError;
  }

  get connected(): boolean {
    return this.bus.connected;
  }

  private async open(): Promise<KV> {
    if (!this.connected) throw new Unavailable('the NATS that hosts share cannot be reached');
    this.bucket ??= await this.bus.connection.jetstream().views.kv(bucketName, { history: 1 });
    return this.bucket;
  }

  private async call<T>(work: (bucket: KV) => Promise<T>): Promise<T> {
    try {
      return await work(await this.open());
    } catch (error) {
      if (isLost(error)) throw new Conflict('another host was quicker', { cause: error });
      if (error instanceof Unavailable) throw error;
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
      for await (const key of await bucket.keys(filter)) found.push(key);
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
    await this.watchAgain(onChange);
    void this.followConnection(onChange);
  }

  /** A new watch gives all there is; what is gone since is found by comparing. */
  private async watchAgain(onChange: (key: string, value: string | undefined) => void): Promise<void> {
    this.turn += 1;
    const { turn } = this;
    const before = this.watcher;
    this.watcher = undefined;
    before?.stop();
    const bucket = await this.open();
    const there = new Set(await this.keys('>'));
    for (const key of [...this.known]) {
      if (there.has(key)) continue;
      this.known.delete(key);
      onChange(key, undefined);
    }
    const watcher = await bucket.watch({ key: '>' });
    // Begun anew meanwhile, by a reconnect: that one is the watch.
    if (turn !== this.turn) return watcher.stop();
    this.watcher = watcher;
    let missing = there.size;
    await new Promise<void>((resolve) => {
      if (missing === 0) resolve();
      void this.deliver(
        watcher,
        (key, value) => {
          onChange(key, value);
          missing -= 1;
          if (missing <= 0) resolve();
        },
        () => {
          resolve();
          void this.watchUntilDone(onChange);
        },
      );
    });
  }

  private async deliver(
    watcher: QueuedIterator<KvEntry>,
    onChange: (key: string, value: string | undefined) => void,
    onLost: () => void,
  ): Promise<void> {
    try {
      for await (const entry of watcher) {
        const isThere = entry.operation === 'PUT';
        if (isThere) this.known.add(entry.key);
        else this.known.delete(entry.key);
        onChange(entry.key, isThere ? entry.string() : undefined);
      }
    } catch (error) {
      if (!this.closed) this.onError(error);
    }
    // A wire that was cut ends a watch though the connection has outlived it.
    if (this.watcher === watcher && !this.closed) onLost();
  }

  private async followConnection(onChange: (key: string, value: string | undefined) => void): Promise<void> {
    for await (const status of this.bus.connection.status()) {
      if (status.type !== 'reconnect') continue;
      await this.watchUntilDone(onChange);
      for (const work of this.afterReconnect) work();
    }
  }

  /** JetStream may answer a little later than its server. */
  private async watchUntilDone(onChange: (key: string, value: string | undefined) => void): Promise<void> {
    while (!this.closed) {
      try {
        return await this.watchAgain(onChange);
      } catch (error) {
        this.onError(error);
        await sleep(retryMs, undefined, { ref: false });
      }
    }
  }

  onReconnect(work: () => void): void {
    this.afterReconnect.push(work);
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
