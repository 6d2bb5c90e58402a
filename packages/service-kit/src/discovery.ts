/**
 * Who is there: every instance says so once a second on `flotilla.<engine-id>.beat.<service>`, and `bye` when it drains. An instance that
 * missed three beats by our own clock is dropped; while we are cut off from NATS the last known ones are kept. One that drains goes on beating
 * until its end. Whoever does not hear its own beats is cut off too: a link may be silent long before it is broken, and who was stopped for a
 * while finds everybody late.
 */
import { Beat } from '@flotilla/contracts/flotilla/discovery/v1/discovery';
import type { Bus } from './bus.ts';
import type { Health } from './health.ts';

const beatEveryMs = 1000;
const missedBeats = 3;

interface Seen {
  readonly beat: Beat;
  readonly atMs: number;
}

export class Discovery {
  private readonly bus: Bus;
  private readonly seen = new Map<string, Map<string, Seen>>();
  private readonly listeners = new Set<(service: string) => void>();
  private readonly silenceListeners = new Set<(service: string) => void>();
  private readonly unsubscribes: (() => void)[] = [];
  private readonly timers: NodeJS.Timeout[] = [];
  private announcement: { self: Beat; health: Health; draining: boolean } | undefined;
  private isCutOff = false;
  /** When this instance's own beat was last heard. */
  private heardMyselfAtMs = 0;
  private leaving = false;

  constructor(options: { bus: Bus }) {
    this.bus = options.bus;
    this.unsubscribes.push(
      this.bus.subscribe(this.bus.subject('beat', '*'), (payload) => this.hear(Beat.decode(payload))),
      this.bus.subscribe(this.bus.subject('who'), () => void this.beat()),
    );
    this.timers.push(setInterval(() => this.sweep(), beatEveryMs).unref());
    // Whoever is there answers at once, so nobody waits a second to know the others.
    this.bus.publish(this.bus.subject('who'), new Uint8Array());
  }

  /** Starts to say that this instance is there. */
  announce(self: Omit<Beat, 'ready' | 'notReadyReason' | 'bye' | 'draining'>, health: Health): void {
    this.announcement = { self: Beat.create(self), health, draining: false };
    this.heardMyselfAtMs = performance.now();
    void this.beat();
    this.timers.push(setInterval(() => void this.beat(), beatEveryMs).unref());
  }

  /** Says `bye` and stops listening. */
  async stop(): Promise<void> {
    for (const timer of this.timers) clearInterval(timer);
    for (const unsubscribe of this.unsubscribes) unsubscribe();
    const announcement = this.announcement;
    this.announcement = undefined;
    if (announcement !== undefined && this.bus.connected) {
      this.publish({ ...announcement.self, ready: false, notReadyReason: 'stopping', bye: true, draining: false });
      await this.bus.connection.flush();
    }
  }

  /** No new calls, please; those under way may take their time. */
  drain(): void {
    if (this.announcement === undefined) return;
    this.announcement.draining = true;
    this.leaving = true;
    void this.beat();
  }

  /** Whether this instance has said that it leaves. */
  get isLeaving(): boolean {
    return this.leaving;
  }

  /** Says `bye` at once: no new calls, please; those under way go on. */
  leave(): void {
    if (this.announcement !== undefined) {
      this.publish({ ...this.announcement.self, ready: false, notReadyReason: 'stopping', bye: true, draining: false });
      this.announcement = undefined;
      this.leaving = true;
    }
  }

  /** The live instances of a service that take calls, in a stable order. */
  instances(service: string): Beat[] {
    return this.present(service).filter((beat) => !beat.draining);
  }

  /** All that are there, those that drain too: what they work on is not abandoned. */
  present(service: string): Beat[] {
    const instances = [...(this.seen.get(service)?.values() ?? [])].map((seen) => seen.beat);
    return instances.sort((a, b) => (a.instance < b.instance ? -1 : 1));
  }

  /** Calls `listener` when the instances of a service have changed; answers a function that ends it. */
  onChange(listener: (service: string) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Calls `listener` when an instance of a service was dropped because it is silent: whoever waits for its answer may wait for long. */
  onSilence(listener: (service: string) => void): () => void {
    this.silenceListeners.add(listener);
    return () => this.silenceListeners.delete(listener);
  }

  private async beat(): Promise<void> {
    if (this.announcement === undefined) return;
    const { self, health } = this.announcement;
    const report = await health.check();
    const draining = this.announcement?.draining;
    if (draining !== undefined) this.publish({ ...self, ready: report.ready, notReadyReason: report.reason, bye: draining, draining });
  }

  private publish(beat: Beat): void {
    this.bus.publish(this.bus.subject('beat', beat.service), Beat.encode(beat).finish());
  }

  private hear(beat: Beat): void {
    const instances = this.seen.get(beat.service) ?? new Map<string, Seen>();
    this.seen.set(beat.service, instances);
    const known = instances.get(beat.instance);
    if (beat.bye && !beat.draining) {
      if (instances.delete(beat.instance)) this.changed(beat.service);
      return;
    }
    instances.set(beat.instance, { beat, atMs: performance.now() });
    if (beat.instance === this.announcement?.self.instance) this.heardMyselfAtMs = performance.now();
    const isAsKnown = (['grpcAddress', 'httpAddress', 'draining'] as const).every((field) => known?.beat[field] === beat[field]);
    if (!isAsKnown) this.changed(beat.service);
  }

  private sweep(): void {
    const now = performance.now();
    const isDeaf = this.announcement !== undefined && now - this.heardMyselfAtMs > 2 * beatEveryMs;
    if (!this.bus.connected || isDeaf) {
      this.isCutOff = true;
      return;
    }
    // Beats were not heard while we were cut off: that is no sign of death, so their time starts again.
    const resumed = this.isCutOff;
    this.isCutOff = false;
    for (const [service, instances] of this.seen) {
      let dropped = false;
      for (const [instance, seen] of instances) {
        if (resumed) instances.set(instance, { beat: seen.beat, atMs: now });
        else if (now - seen.atMs > missedBeats * beatEveryMs + beatEveryMs / 2) dropped = instances.delete(instance) || dropped;
      }
      if (!dropped) continue;
      this.changed(service);
      for (const listener of this.silenceListeners) listener(service);
    }
  }

  private changed(service: string): void {
    for (const listener of this.listeners) listener(service);
  }
}
