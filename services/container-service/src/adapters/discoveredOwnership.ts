/** Which instance has the duties of a container: rendezvous hash over the instances that are heard of. */
import { type Discovery, rendezvous } from '@flotilla/service-kit';
import type { Ownership } from '../duties.ts';
import { isAlive, startTimeOf } from '../processes.ts';

const lookMs = 1_000;

export class DiscoveredOwnership implements Ownership {
  private readonly discovery: Discovery;
  private readonly service: string;
  private readonly instance: string;

  constructor(discovery: Discovery, service: string, instance: string) {
    this.discovery = discovery;
    this.service = service;
    this.instance = instance;
  }

  isMine(id: string): boolean {
    const names = this.discovery.instances(this.service).map((beat) => beat.instance);
    // The duties of one that leaves are another's, as soon as there is one.
    if (this.discovery.isLeaving && names.some((name) => name !== this.instance)) return false;
    // Before its own first beat an instance is not heard of, by itself neither.
    if (names.length < 2) return true;
    return rendezvous(id, names.includes(this.instance) ? names : [...names, this.instance]) === this.instance;
  }

  /** Whether no other instance is heard. */
  isAlone(): boolean {
    return this.discovery.present(this.service).every((beat) => beat.instance === this.instance);
  }

  onChange(listener: () => void): void {
    this.discovery.onChange((service) => {
      if (service === this.service) listener();
    });
  }

  /** Calls back when the process of another instance has ended: what it says of its leaving comes before that, and one that is killed says nothing. */
  onEnded(listener: () => void): void {
    const others = new Map<number, string>();
    const look = (): void => {
      for (const { instance, pid } of this.discovery.present(this.service)) {
        const start = instance === this.instance || others.has(pid) ? undefined : startTimeOf(pid);
        if (start !== undefined) others.set(pid, start);
      }
      const ended = [...others].filter(([pid, start]) => !isAlive(pid, start));
      for (const [pid] of ended) others.delete(pid);
      if (ended.length > 0) listener();
    };
    this.onChange(look);
    setInterval(look, lookMs).unref();
  }
}
