/** What a build shows of itself: vertexes with their states, bars, output and warnings, on their way to the client that follows it. */
import { randomBytes } from 'node:crypto';
import type { Timestamp } from '@flotilla/contracts/google/protobuf/timestamp';
import { type StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning } from '@flotilla/contracts/moby/buildkit/v1/control';
import type { Location } from '../build/dockerfile/instructions.ts';
import type { SourceText } from './sourceText.ts';

/** Output of one vertex that is passed on; the rest is only counted as cut. */
const mostLogBytes = 2 * 1024 * 1024;
const clipped = Buffer.from('\n[output clipped, log limit 2MiB reached]\n');

interface WarningPlace {
  readonly location?: Location;
  /** What it is about, and where more is said. */
  readonly detail?: string;
  readonly url?: string;
}

export interface Bar {
  /** Names it within its vertex. */
  readonly id: string;
  readonly name: string;
  readonly current: number;
  readonly total: number;
  readonly isComplete: boolean;
}

/** One line of the display: a step, or something that belongs to the build as a whole. */
export class VertexHandle {
  readonly digest: string;
  private readonly progress: Progress;
  private readonly bars = new Map<string, Timestamp>();
  private vertex: Vertex;
  private logged = 0;

  constructor(progress: Progress, name: string) {
    this.progress = progress;
    this.digest = `sha256:${randomBytes(32).toString('hex')}`;
    this.vertex = Vertex.create({ digest: this.digest, name });
  }

  get isComplete(): boolean {
    return this.vertex.completed !== undefined;
  }

  start(): this {
    return this.update({ started: now() });
  }

  cached(): void {
    this.update({ cached: true });
  }

  complete(error = ''): void {
    if (!this.isComplete) this.update({ started: this.vertex.started ?? now(), completed: now(), error });
  }

  private update(change: Partial<Vertex>): this {
    this.vertex = { ...this.vertex, ...change };
    this.progress.push({ vertexes: [this.vertex] });
    return this;
  }

  /** @param stream - 1: standard output, 2: errors. */
  log(stream: 1 | 2, msg: Buffer): void {
    if (this.logged > mostLogBytes) return;
    this.logged += msg.length;
    this.progress.push({ logs: [{ vertex: this.digest, timestamp: now(), stream: BigInt(stream), msg }] });
    if (this.logged > mostLogBytes) this.log(2, clipped);
  }

  bar({ id, name, current, total, isComplete }: Bar): void {
    const time = now();
    const started = this.bars.get(id) ?? time;
    this.bars.set(id, started);
    this.progress.push({
      statuses: [
        {
          id,
          vertex: this.digest,
          name,
          current: BigInt(current),
          total: BigInt(total),
          timestamp: time,
          started,
          completed: isComplete ? time : undefined,
        },
      ],
    });
  }

  /** @param location - in the source; undefined: its first line. */
  warn(text: string, source: SourceText, { location, detail, url = '' }: WarningPlace = {}): void {
    const { startLine, endLine } = location ?? { startLine: 1, endLine: 1 };
    this.progress.push({
      warnings: [
        {
          vertex: this.digest,
          level: 1n,
          short: Buffer.from(text),
          detail: detail === undefined ? [] : [Buffer.from(detail)],
          url,
          info: { filename: source.filename, data: source.bytes, language: 'Dockerfile' },
          ranges: [{ start: { line: startLine, character: 0 }, end: { line: endLine, character: 0 } }],
        },
      ],
    });
  }

  /** Something that is done at once. */
  note(text: string): void {
    this.bar({ id: text, name: '', current: 0, total: 0, isComplete: true });
  }
}

type Update = Parameters<typeof StatusResponse.fromPartial>[0];

export class Progress {
  private readonly unread: Update[] = [];
  private readonly wakes = new Set<() => void>();
  private isEnded = false;

  vertex(name: string): VertexHandle {
    return new VertexHandle(this, name);
  }

  /** A step with a beginning and an end. */
  async during<T>(name: string, work: (vertex: VertexHandle) => Promise<T>): Promise<T> {
    const vertex = this.vertex(name).start();
    try {
      const result = await work(vertex);
      vertex.complete();
      return result;
    } catch (error) {
      vertex.complete(error instanceof Error ? error.message : String(error));
      throw error;
    }
  }

  push(update: Update): void {
    if (this.isEnded) return;
    this.unread.push(update);
    for (const wake of this.wakes) wake();
  }

  /** Everything has been said. */
  end(): void {
    this.isEnded = true;
    for (const wake of this.wakes) wake();
  }

  /** What is said from now on and has not been read yet; ends when all is. */
  async *read(signal: AbortSignal): AsyncGenerator<StatusResponse> {
    while (!signal.aborted) {
      const updates = this.unread.splice(0);
      if (updates.length > 0) yield merge(updates);
      else if (this.isEnded) return;
      else await this.news(signal);
    }
  }

  private news(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.wakes.delete(wake);
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.wakes.add(wake);
      signal.addEventListener('abort', wake, { once: true });
    });
  }
}

function merge(updates: readonly Update[]): StatusResponse {
  return {
    vertexes: updates.flatMap(({ vertexes }) => vertexes ?? []).map((each) => Vertex.fromPartial(each)),
    statuses: updates.flatMap(({ statuses }) => statuses ?? []).map((each) => VertexStatus.fromPartial(each)),
    logs: updates.flatMap(({ logs }) => logs ?? []).map((each) => VertexLog.fromPartial(each)),
    warnings: updates.flatMap(({ warnings }) => warnings ?? []).map((each) => VertexWarning.fromPartial(each)),
  };
}

function now(): Timestamp {
  const nanoseconds = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n;
  return { seconds: nanoseconds / 1_000_000_000n, nanos: Number(nanoseconds % 1_000_000_000n) };
}
