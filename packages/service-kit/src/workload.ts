/** What an instance has to do, for operators: calls and requests under way, how many it answers, and the leases that it holds. */
import type { Server } from 'node:http';

const windowSeconds = 5;

export class Workload {
  private begun = 0;
  private ended = 0;
  /** Answers of the last seconds, each at its second's place. */
  private readonly recent = Array.from({ length: windowSeconds }, () => ({ second: 0, answers: 0 }));
  private readonly streams: (() => number)[] = [];
  private readonly holders: (() => Iterable<string>)[] = [];
  private readonly nowMs: () => number;

  /** @param nowMs - of a clock that only goes forward. */
  constructor(nowMs: () => number = () => performance.now()) {
    this.nowMs = nowMs;
  }

  begin(): void {
    this.begun++;
  }

  end(): void {
    this.ended++;
    const second = this.second();
    const place = this.recent[second % windowSeconds];
    if (place === undefined) return;
    if (place.second !== second) Object.assign(place, { second, answers: 0 });
    place.answers++;
  }

  private second(): number {
    return Math.floor(this.nowMs() / 1000) + windowSeconds;
  }

  get underWay(): number {
    return this.streams.reduce((sum, count) => sum + count(), this.begun - this.ended);
  }

  get answered(): number {
    return this.ended;
  }

  get answeredPerSecond(): number {
    const oldest = this.second() - windowSeconds;
    return this.recent.reduce((sum, { second, answers }) => (second > oldest ? sum + answers : sum), 0) / windowSeconds;
  }

  /** Counts the requests of a server. */
  countRequests(server: Server): void {
    server.on('request', (_request, response) => {
      this.begin();
      response.once('close', () => this.end());
    });
  }

  /** Registers who knows of streams that outlast the calls that began them. */
  addStreams(count: () => number): void {
    this.streams.push(count);
  }

  /** Registers who knows of leases. */
  addHolder(leases: () => Iterable<string>): void {
    this.holders.push(leases);
  }

  get leases(): string[] {
    return this.holders.flatMap((leases) => [...leases()]).sort();
  }
}
