/**
 * Events for followers. One ordered consumer of the JetStream stream EVENTS runs as long as the gateway does and is shared by every follower; what
 * happened before is read from the stream by a consumer of its own. Both carry stream sequence numbers, so the two join without a gap and
 * without doubles.
 *
 * NATS may lose the stream; relays then fill a new one with what they still have. Its sequence numbers begin anew, so each follower passes over by message id
 * what it has been told already.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { Event } from '@flotilla/contracts/flotilla/events/v1/event';
import { errorMessage, Unavailable } from '@flotilla/errors';
import { type Bus, ensureEventStream, eventStream, type Logger } from '@flotilla/service-kit';
import { type Consumer, type ConsumerMessages, DeliverPolicy, type JetStreamClient, type JsMsg, ReplayPolicy } from 'nats';
import type { Events } from './follow.ts';

const retryMs = 500;
/** How often NATS is to say that a consumer without news is there still; after two that are missing it is made again. */
const beatMs = 3_000;
/** Follower's backlog; who is further behind reads the stream itself instead of our memory. */
const backlogLimit = 10_000;

interface Sequenced {
  readonly sequence: number;
  /** How many streams were lost before the one it came by. */
  readonly generation: number;
  readonly event: Event;
  /** Whose message it is, and which of that: `<revision>:<index>`. Empty for what no relay has sent. */
  readonly relay: string;
  readonly place: string;
}

export class EventFeed implements Events {
  private readonly bus: Bus;
  private readonly logger: Logger;
  private readonly jetStream: JetStreamClient;
  private readonly followers = new Set<(item: Sequenced) => void>();
  private readonly stopped = new AbortController();
  private live: ConsumerMessages | undefined;
  private ready = false;
  private lastSequence = 0;
  private stream: string | undefined;
  /** How many were lost before this one. */
  private generation = 0;

  constructor(options: { bus: Bus; logger: Logger }) {
    this.bus = options.bus;
    this.logger = options.logger;
    this.jetStream = options.bus.connection.jetstream();
  }

  private get subject(): string {
    return `${this.bus.subject('events')}.>`;
  }

  /** Follows the stream until `stop`, over restarts of NATS; resolves when the first connection stands. */
  async start(): Promise<void> {
    let began: () => void = () => undefined;
    const first = new Promise<void>((resolve) => {
      began = resolve;
    });
    void this.run(began);
    const unsubscribe = this.bus.onReconnect(() => void this.lookForLoss());
    this.stopped.signal.addEventListener('abort', unsubscribe, { once: true });
    await Promise.race([first, pause(5_000, undefined, { signal: this.stopped.signal }).catch(() => undefined)]);
  }

  async stop(): Promise<void> {
    this.stopped.abort();
    await this.live?.close().catch(() => undefined);
  }

  /** How many clients follow. */
  get followerCount(): number {
    return this.followers.size;
  }

  /** @throws Unavailable while the stream is not followed: for health. */
  check(): void {
    if (!this.ready) throw new Unavailable('the event stream is not followed');
  }

  private async run(began: () => void): Promise<void> {
    while (!this.stopped.signal.aborted) {
      try {
        const stream = await ensureEventStream(this.bus);
        // By its number also the first time: a consumer of what is new that is made again, as happens when beats are missed, begins later than it did.
        if (this.stream === undefined) this.lastSequence = await this.newest();
        this.know(stream);
        const consumer = await this.jetStream.consumers.get(eventStream, {
          filterSubjects: this.subject,
          deliver_policy: DeliverPolicy.StartSequence,
          opt_start_seq: this.lastSequence + 1,
        });
        const messages = await consumer.consume({ max_messages: 500, idle_heartbeat: beatMs });
        this.live = messages;
        this.ready = true;
        began();
        for await (const message of messages) this.deliver(message);
        letGo(consumer);
      } catch (error) {
        this.logger.debug({ reason: errorMessage(error) }, 'the event stream is away');
      }
      this.ready = false;
      await pause(retryMs, undefined, { signal: this.stopped.signal }).catch(() => undefined);
    }
  }

  private async newest(): Promise<number> {
    const manager = await this.bus.connection.jetstreamManager();
    return (await manager.streams.info(eventStream)).state.last_seq;
  }

  /** A stream that is another one begins anew, and followers go on. */
  private know(stream: string): void {
    if (this.stream !== undefined && this.stream !== stream) {
      this.logger.warn({ lost: this.stream, made: stream }, 'the event stream was lost, and is filled again');
      this.generation++;
      this.lastSequence = 0;
    }
    this.stream = stream;
  }

  /** The consumer alone would wait for sequence numbers that the new stream does not have. */
  private async lookForLoss(): Promise<void> {
    while (!this.stopped.signal.aborted) {
      try {
        if (this.stream !== undefined && (await ensureEventStream(this.bus)) !== this.stream) await this.live?.close();
        return;
      } catch (error) {
        this.logger.debug({ reason: errorMessage(error) }, 'the event stream is away');
      }
      await pause(retryMs, undefined, { signal: this.stopped.signal }).catch(() => undefined);
    }
  }

  private deliver(message: JsMsg): void {
    const item = this.decode(message);
    this.lastSequence = message.seq;
    if (item !== undefined) for (const follower of this.followers) follower(item);
  }

  /**
   * Events from `since` (nothing past when undefined) until `until` (for ever when undefined), in order. Following has begun when this
   * returns: what happens from then on is seen.
   *
   * @throws Unavailable when the past is asked for and the stream is away.
   */
  async follow(options: { since?: bigint; until?: bigint; signal: AbortSignal }): Promise<AsyncIterable<Event>> {
    const began = BigInt(Date.now()) * 1_000_000n;
    const queue = new Queue();
    const follower = (item: Sequenced): void => queue.push(item);
    this.followers.add(follower);
    const release = (): void => {
      this.followers.delete(follower);
      queue.end();
    };
    options.signal.addEventListener('abort', release, { once: true });
    if (options.signal.aborted) release();
    let past: Sequenced[] = [];
    try {
      if (options.since !== undefined) past = await this.past(options.since, options.until, options.signal);
    } catch (error) {
      release();
      throw new Unavailable('the event stream is not available', { cause: error });
    }
    return this.join(past, queue, release, options.until, options.since ?? began);
  }

  private async *join(
    past: Sequenced[],
    queue: Queue,
    release: () => void,
    until: bigint | undefined,
    from: bigint,
  ): AsyncGenerator<Event> {
    let timer: NodeJS.Timeout | undefined;
    try {
      const last = past.at(-1);
      const told = new Told();
      for (const item of past) told.tell(item);
      // A stream that was filled again has each service's events in order, not all of them.
      for (const { event } of past.sort((a, b) => Number(a.event.timeNano - b.event.timeNano))) yield event;
      if (until !== undefined) {
        const leftMs = Number(until / 1_000_000n) - Date.now();
        if (leftMs <= 0) return;
        timer = setTimeout(() => queue.end(), Math.min(leftMs, 2 ** 31 - 1));
      }
      for await (const item of queue) {
        const { event } = item;
        const isPast = last !== undefined && item.generation === last.generation && item.sequence <= last.sequence;
        if (isPast || event.timeNano < from || !told.tell(item)) continue;
        if (until !== undefined && event.timeNano > until) return;
        yield event;
      }
    } finally {
      clearTimeout(timer);
      release();
    }
  }

  private decode(message: JsMsg): Sequenced | undefined {
    const [, relay = '', place = ''] = /^(.*):(\d+-\d+:\d+)$/.exec(message.headers?.get('Nats-Msg-Id') ?? '') ?? [];
    try {
      return { sequence: message.seq, generation: this.generation, event: Event.decode(message.data), relay, place };
    } catch {
      return undefined;
    }
  }

  /** Everything the stream holds between two points in time. */
  private async past(since: bigint, until: bigint | undefined, signal: AbortSignal): Promise<Sequenced[]> {
    const last = await this.newest();
    if (last === 0 || signal.aborted) return [];
    // A little earlier than asked: events are published after they happened, and never the other way round.
    const consumer = await this.jetStream.consumers.get(eventStream, {
      filterSubjects: this.subject,
      deliver_policy: DeliverPolicy.StartTime,
      opt_start_time: new Date(Math.max(0, Number(since / 1_000_000n))).toISOString(),
      replay_policy: ReplayPolicy.Instant,
    });
    const items: Sequenced[] = [];
    try {
      const { num_pending: pending } = await consumer.info();
      if (pending === 0) return items;
      const messages = await consumer.consume({ max_messages: 1000 });
      const leave = (): void => void messages.close().catch(() => undefined);
      signal.addEventListener('abort', leave, { once: true });
      try {
        for await (const message of messages) {
          const item = this.decode(message);
          if (item !== undefined && item.event.timeNano >= since && (until === undefined || item.event.timeNano <= until)) items.push(item);
          if (signal.aborted || message.info.pending === 0 || message.seq >= last) break;
        }
      } finally {
        signal.removeEventListener('abort', leave);
        await messages.close().catch(() => undefined);
      }
    } finally {
      letGo(consumer);
    }
    return items;
  }
}

/** NATS would keep it, and count for it, for minutes. Nobody waits for that: NATS may be what is away. */
function letGo(consumer: Consumer): void {
  consumer.delete().catch(() => undefined);
}

/** What a follower has been told: the successor of a lost stream tells it once more. */
class Told {
  private generation: number | undefined;
  /** Of each relay the newest. */
  private readonly newest = new Map<string, string>();
  /** The same when the last stream was lost. */
  private before: ReadonlyMap<string, string> = new Map();

  /** Whether it is news; from now on it is not. */
  tell({ generation, relay, place }: Sequenced): boolean {
    if (relay === '') return true;
    if (this.generation !== undefined && this.generation !== generation) this.before = new Map(this.newest);
    this.generation = generation;
    if (comparePlaces(place, this.before.get(relay)) <= 0) return false;
    if (comparePlaces(place, this.newest.get(relay)) > 0) this.newest.set(relay, place);
    return true;
  }
}

/** Orders `<revision>:<index>` of one relay; nothing comes before everything. */
function comparePlaces(a: string, b: string | undefined): number {
  if (b === undefined) return 1;
  const [inA, inB] = [a, b].map((place) => place.split(/[-:]/).map(Number));
  for (let part = 0; part < 3; part++) {
    const difference = (inA?.[part] ?? 0) - (inB?.[part] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** A follower's backlog. It ends when the follower is too far behind: a client that does not read is told by the end of its answer. */
class Queue implements AsyncIterable<Sequenced> {
  private readonly items: Sequenced[] = [];
  private wake: (() => void) | undefined;
  private ended = false;

  push(item: Sequenced): void {
    if (this.ended) return;
    if (this.items.length >= backlogLimit) this.end();
    else this.items.push(item);
    this.wake?.();
  }

  end(): void {
    this.ended = true;
    this.wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Sequenced> {
    for (;;) {
      for (let item = this.items.shift(); item !== undefined; item = this.items.shift()) yield item;
      if (this.ended) return;
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
  }
}
