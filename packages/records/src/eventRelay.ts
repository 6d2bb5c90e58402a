/**
 * Takes events from the outbox in the change stream to JetStream, in order, each once: the message id is the revision, so that what a crash makes us send
 * again is dropped by the server. One replica relays, by lease. A stream that is another one (NATS has lost the first) gets all that the change stream still has.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { Event } from '@flotilla/contracts/flotilla/events/v1/event';
import { type Bus, ensureEventStream, type Lifecycle, type Logger } from '@flotilla/service-kit';
import type { JetStreamClient } from 'nats';
import type { Lease } from './leases.ts';
import { compareRevisions } from './revision.ts';
import type { RecordStore } from './store.ts';

const batch = 200;
const saveEveryMs = 1000;

export class EventRelay {
  private readonly store: RecordStore;
  private readonly bus: Bus;
  private readonly service: string;
  private readonly logger: Logger;
  private readonly stopped = new AbortController();
  private wake: () => void = () => undefined;
  private pending = true;
  private reconnected = false;
  /** All up to here is relayed. */
  private revision = '0-0';

  constructor(options: { store: RecordStore; bus: Bus; service: string; logger: Logger; lifecycle: Lifecycle }) {
    this.store = options.store;
    this.bus = options.bus;
    this.service = options.service;
    this.logger = options.logger;
    this.store.outbox.onEvents((revision) => {
      if (compareRevisions(revision, this.revision) <= 0) return;
      this.pending = true;
      this.wake();
    });
    const unsubscribe = this.bus.onReconnect(() => {
      this.reconnected = true;
      this.wake();
    });
    const running = this.run();
    options.lifecycle.onStop('event relay', async () => {
      unsubscribe();
      this.stopped.abort();
      this.wake();
      await running;
    });
  }

  private async run(): Promise<void> {
    while (!this.stopped.signal.aborted) {
      try {
        await this.store.withLease('event-relay', (lease) => this.relay(lease), { waitMs: 2 ** 31 - 1, signal: this.stopped.signal });
      } catch (error) {
        if (this.stopped.signal.aborted) return;
        this.logger.warn({ error }, 'relaying events failed; trying again');
        await pause(250);
      }
    }
  }

  private async relay(lease: Lease): Promise<void> {
    const jetstream = this.bus.connection.jetstream();
    const relayed = await this.store.outbox.relayed();
    let stream = relayed.stream;
    this.revision = relayed.revision;
    this.reconnected = true;
    let savedAt = 0;
    let saved = this.revision;
    this.pending = true;
    while (!lease.signal.aborted) {
      if (this.reconnected) {
        this.reconnected = false;
        const found = await ensureEventStream(this.bus);
        if (stream !== undefined && stream !== found) {
          this.logger.warn({ lost: stream, made: found }, 'the event stream was lost: it gets what is kept of its events');
          this.revision = '0-0';
          this.pending = true;
        }
        if (stream !== found) saved = '';
        stream = found;
      }
      while (this.pending) {
        this.pending = false;
        const { entries, last, isAll } = await this.store.outbox.read(this.revision, batch);
        for (const entry of entries) await this.publish(jetstream, entry.revision, entry.events);
        if (!isAll) this.pending = true;
        this.revision = last;
      }
      const stopping = this.stopped.signal.aborted;
      if (saved !== this.revision && (stopping || Date.now() - savedAt >= saveEveryMs)) {
        await this.store.outbox.saveRelayed(this.revision, stream);
        saved = this.revision;
        savedAt = Date.now();
      }
      if (stopping) return;
      await this.nextOutbox(saved === this.revision ? undefined : saveEveryMs);
    }
  }

  private nextOutbox(timeoutMs: number | undefined): Promise<void> {
    if (this.pending || this.reconnected || this.stopped.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = timeoutMs === undefined ? undefined : setTimeout(() => this.wake(), timeoutMs);
      this.wake = () => {
        clearTimeout(timer);
        this.wake = () => undefined;
        resolve();
      };
    });
  }

  private async publish(jetstream: JetStreamClient, revision: string, events: readonly Parameters<typeof encodeEvent>[0][]): Promise<void> {
    await Promise.all(
      events.map((event, index) =>
        jetstream.publish(this.bus.subject('events', event.type), encodeEvent(event), {
          msgID: `${this.bus.engineId}:${this.service}:${revision}:${index}`,
          timeout: 5000,
        }),
      ),
    );
  }
}

function encodeEvent(event: {
  type: string;
  action: string;
  actorId: string;
  attributes: Readonly<Record<string, string>>;
  timeNano: bigint;
  inheritedLabels?: readonly string[] | undefined;
}): Uint8Array {
  return Event.encode({ ...event, attributes: { ...event.attributes }, inheritedLabels: [...(event.inheritedLabels ?? [])] }).finish();
}
