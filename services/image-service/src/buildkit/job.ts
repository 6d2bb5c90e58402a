/** Builds that clients have asked for, by the name that the client gave each. What belongs to one comes in several calls, in any order. */
import type { Readable } from 'node:stream';
import type { ReturnRequest } from '@flotilla/contracts/moby/buildkit/v1/frontend/gateway';
import { Cancelled, Conflict } from '@flotilla/errors';
import type { Digest } from '@flotilla/oci';
import type { Made } from '../build/builder.ts';
import type { Entitlement } from './entitlements.ts';
import { givenName } from './ownedName.ts';
import { Progress } from './progress.ts';
import type { SourceText } from './sourceText.ts';
import { WaitingRoom } from './waitingRoom.ts';

/** How long a build that has ended can still be followed. */
const afterglowMs = 10_000;
const mostResults = 10_000;

export class Job {
  readonly ref: string;
  readonly sessionId: string;
  /** What its steps may, beside what all may. */
  readonly entitlements: ReadonlySet<Entitlement>;
  /** A tar that is the context; undefined: the options say where it is. */
  readonly body: Readable | undefined;
  readonly progress = new Progress();
  /** What the frontend has made, by the id that the client knows it by. */
  readonly results = new Map<string, Made>();
  /** The Dockerfile, once it is known. */
  source: SourceText | undefined;
  private readonly abort = new AbortController();
  private readonly answer = Promise.withResolvers<ReturnRequest>();
  private readonly end = Promise.withResolvers<void>();
  private readonly work = new Set<Promise<unknown>>();

  constructor(ref: string, sessionId: string, entitlements: ReadonlySet<Entitlement>, body: Readable | undefined) {
    this.ref = ref;
    this.body = body;
    this.sessionId = sessionId;
    this.entitlements = entitlements;
    this.answer.promise.catch(() => undefined);
  }

  get signal(): AbortSignal {
    return this.abort.signal;
  }

  /** What the client wants of it in the end. */
  get returned(): Promise<ReturnRequest> {
    return this.answer.promise;
  }

  /** Resolves when results are no longer needed. */
  get ended(): Promise<void> {
    return this.end.promise;
  }

  return(answer: ReturnRequest): void {
    this.answer.resolve(answer);
  }

  cancel(reason = new Cancelled('context canceled')): void {
    this.abort.abort(reason);
    this.answer.reject(reason);
  }

  /** Notes work that has to be over before the build is. */
  during(work: Promise<unknown>): void {
    this.work.add(work);
    work.catch(() => undefined).finally(() => this.work.delete(work));
  }

  /** Lets go of the results, and waits until all is cleared away. */
  async finish(): Promise<void> {
    this.end.resolve();
    await Promise.allSettled(this.work);
    this.progress.end();
  }
}

export class Jobs {
  private readonly jobs = new WaitingRoom<Job>();
  private readonly closing = new Set<Promise<void>>();
  /** Images that results were, for builds that stand on them. */
  private readonly images = new Map<string, Digest>();

  /** @throws Conflict for a name that is in use. */
  open(ref: string, sessionId: string, entitlements: ReadonlySet<Entitlement>, body?: Readable): Job {
    if (this.jobs.has(ref)) throw new Conflict(`job ID ${givenName(ref)} exists`);
    const job = new Job(ref, sessionId, entitlements, body);
    this.jobs.enter(ref, job);
    return job;
  }

  /** Resolves when nothing of it is left but what can still be followed. */
  async close(job: Job): Promise<void> {
    const finished = job.finish();
    this.closing.add(finished);
    await finished;
    this.closing.delete(finished);
    setTimeout(() => this.jobs.leave(job.ref, job), afterglowMs).unref();
  }

  /** For who leaves: what is cleared away behind an answer is cleared away. */
  async settled(): Promise<void> {
    await Promise.all(this.closing);
  }

  /** @throws NotFound when it does not come. */
  wait(ref: string, signal: AbortSignal): Promise<Job> {
    return this.jobs.wait(ref, `no such job ${givenName(ref)}`, signal);
  }

  /** One that is not there is no error. */
  cancel(ref: string): void {
    this.jobs.get(ref)?.cancel();
  }

  noteImage(resultId: string, image: Digest): void {
    this.images.set(resultId, image);
    const [oldest] = this.images.keys();
    if (this.images.size > mostResults && oldest !== undefined) this.images.delete(oldest);
  }

  imageOf(resultId: string): Digest | undefined {
    return this.images.get(resultId);
  }
}
