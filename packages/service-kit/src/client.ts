/**
 * Calling another service: a promise or an async iterable for each method of a definition. Every call has a deadline or a signal, carries
 * the request's id and trace context, and is repeated only when its caller says that this is safe.
 */
import { createHash } from 'node:crypto';
import {
  Cancelled,
  DeadlineExceeded,
  errorKindTrailer,
  fromServiceError,
  isCancelled,
  isDeadlineExceeded,
  isServiceError,
  isUnavailable,
  Unavailable,
} from '@flotilla/errors';
import { type ChannelOptions, Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import type { Definition, MethodShape, RequestOf, ResponseOf } from './definition.ts';
import type { Discovery } from './discovery.ts';
import { currentRequest } from './requestContext.ts';
import { discoveryTarget } from './resolver.ts';
import { encodeIdentity } from './rights/identity.ts';
import { identityKey, requestIdKey, traceparentKey } from './server.ts';

export interface CallOptions {
  /** Milliseconds until the call fails with DeadlineExceeded. Default 30,000 for unary calls; none for a stream with a signal. */
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal;
  /** The call may be repeated when the instance is lost (Unavailable), or may be: one of the service has fallen silent. */
  readonly idempotent?: boolean;
  /** Calls with one key go to one instance as long as it lives (rendezvous hash). */
  readonly rendezvousKey?: string;
  /** Calls exactly this instance, and no other (tickets and uploads have a home). */
  readonly instance?: string;
}

type Call<M extends MethodShape> = M['responseStream'] extends true
  ? (request: RequestOf<M>, options?: CallOptions) => AsyncIterable<ResponseOf<M>>
  : (request: RequestOf<M>, options?: CallOptions) => Promise<ResponseOf<M>>;

export type Calls<D extends Definition> = { readonly [K in keyof D]: Call<D[K]> };

const defaultDeadlineMs = 30_000;
/** An instance that answers lets no read wait longer, as a rule: who waits less when another one is dropped is probably not waiting for that one. */
const promptMs = 1_000;
const retryPausesMs = [50, 150, 400, 800, 1200];

const channelOptions: ChannelOptions = {
  'grpc.service_config': JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }], methodConfig: [] }),
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1000,
  'grpc.max_receive_message_length': 64 * 1024 * 1024,
  'grpc.max_send_message_length': 64 * 1024 * 1024,
};

/** The channels to one service: one that goes round, and one an instance for calls that have a home. */
class Channels {
  private readonly discovery: Discovery;
  private readonly service: string;
  private roundRobin: Client | undefined;
  private readonly byAddress = new Map<string, Client>();
  /** Of calls under way that may be made again: what gives each up, unless it is answered promptly. */
  private readonly repeatable = new Set<() => void>();

  constructor(discovery: Discovery, service: string) {
    this.discovery = discovery;
    this.service = service;
    discovery.onSilence((silent) => {
      if (silent === service) for (const wait of this.repeatable) wait();
    });
  }

  /**
   * Which instance has a call is not known before it answers: so `giveUp` is called when any is silent and the call is no prompt one. Answers a function that
   * ends that.
   */
  whenSilent(giveUp: () => void): () => void {
    const beganMs = performance.now();
    let timer: NodeJS.Timeout | undefined;
    const wait = (): void => {
      timer ??= setTimeout(giveUp, Math.max(0, beganMs + promptMs - performance.now()));
    };
    this.repeatable.add(wait);
    return () => {
      clearTimeout(timer);
      this.repeatable.delete(wait);
    };
  }

  pick(options: CallOptions): Client {
    const home = this.home(options);
    if (home === undefined) {
      this.roundRobin ??= new Client(discoveryTarget(this.discovery, this.service), credentials.createInsecure(), channelOptions);
      return this.roundRobin;
    }
    let client = this.byAddress.get(home);
    if (client === undefined) {
      client = new Client(home, credentials.createInsecure(), channelOptions);
      this.byAddress.set(home, client);
      this.forgetTheDead();
    }
    return client;
  }

  /** What a failed call is in our classes. A deadline of our own is told in words a person understands. */
  failure(error: unknown, signal: AbortSignal | undefined): unknown {
    if (signal?.aborted)
      return signal.reason instanceof DeadlineExceeded ? signal.reason : new Cancelled('the caller left', { cause: error });
    if (!isServiceError(error)) return error;
    const ofPeer = fromServiceError(error);
    const isPeersOwn = (error.metadata?.get(errorKindTrailer).length ?? 0) > 0;
    // A connection that broke, or an instance that stops and waited for its calls no longer.
    const isLost = !isPeersOwn && (isUnavailable(ofPeer) || isCancelled(ofPeer));
    if (isLost) return new Unavailable(`${this.service} went away before it answered`, { cause: error });
    if (!isDeadlineExceeded(ofPeer) || isPeersOwn) return ofPeer;
    if (this.discovery.instances(this.service).length === 0) return new Unavailable(`${this.service} is not available`, { cause: error });
    return new DeadlineExceeded(`${this.service} did not answer in time`, { cause: error });
  }

  private home(options: CallOptions): string | undefined {
    const instances = this.discovery.instances(this.service);
    if (options.instance !== undefined) {
      const found = instances.find((beat) => beat.instance === options.instance);
      if (found === undefined) throw new Unavailable(`instance ${options.instance} of ${this.service} is gone`);
      return found.grpcAddress;
    }
    if (options.rendezvousKey === undefined || instances.length < 2) return undefined;
    return homeOf(this.discovery, this.service, options.rendezvousKey)?.grpcAddress;
  }

  private forgetTheDead(): void {
    const live = new Set(this.discovery.instances(this.service).map((beat) => beat.grpcAddress));
    for (const [address, client] of this.byAddress) {
      if (!live.has(address)) {
        client.close();
        this.byAddress.delete(address);
      }
    }
  }
}

/** The instance that calls with a key go to; undefined while none is known. */
export function homeOf(discovery: Discovery, service: string, key: string): { instance: string; grpcAddress: string } | undefined {
  const instances = discovery.instances(service);
  if (instances.length < 2) return instances[0];
  const address = rendezvous(
    key,
    instances.map((beat) => beat.grpcAddress),
  );
  return instances.find(({ grpcAddress }) => grpcAddress === address);
}

/** The candidate with the highest hash of key and name: stable while it lives, and only its keys move when it dies. */
export function rendezvous(key: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestScore = '';
  for (const candidate of candidates) {
    const score = createHash('sha1').update(`${key}\0${candidate}`).digest('hex');
    if (score > bestScore) {
      best = candidate;
      bestScore = score;
    }
  }
  return best;
}

/** Calls to the live instances of `service`; waits for one within a call's deadline. */
export function serviceCalls<D extends Definition>(definition: D, service: string, discovery: Discovery): Calls<D> {
  const channels = new Channels(discovery, service);
  const calls: Record<string, unknown> = {};
  for (const [name, method] of Object.entries(definition)) {
    calls[name] = method.responseStream
      ? (request: unknown, options: CallOptions = {}) => streamCall(channels, method, request, options)
      : (request: unknown, options: CallOptions = {}) => unaryCall(channels, method, request, options);
  }
  return calls as Calls<D>;
}

function outgoingMetadata(): Metadata {
  const metadata = new Metadata({ waitForReady: true });
  const request = currentRequest();
  if (request !== undefined) {
    metadata.set(requestIdKey, request.requestId);
    if (request.identity !== undefined) metadata.set(identityKey, encodeIdentity(request.identity));
    if (request.traceparent !== undefined) metadata.set(traceparentKey, request.traceparent);
  }
  return metadata;
}

async function unaryCall(channels: Channels, method: MethodShape, request: unknown, options: CallOptions): Promise<unknown> {
  const deadline = Date.now() + (options.deadlineMs ?? defaultDeadlineMs);
  for (let attempt = 0; ; attempt++) {
    try {
      return await oneUnaryCall(channels, method, request, options, deadline);
    } catch (error) {
      const pauseMs = retryPausesMs[attempt];
      const mayRepeat = options.idempotent === true && isUnavailable(error) && pauseMs !== undefined;
      if (!mayRepeat || Date.now() + pauseMs >= deadline || options.signal?.aborted) throw error;
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }
}

function oneUnaryCall(channels: Channels, method: MethodShape, request: unknown, options: CallOptions, deadline: number): Promise<unknown> {
  options.signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const call = channels
      .pick(options)
      .makeUnaryRequest(method.path, method.requestSerialize, method.responseDeserialize, request, outgoingMetadata(), { deadline }, done);
    const abort = (): void => call.cancel();
    options.signal?.addEventListener('abort', abort, { once: true });
    // Cancelled without a signal that fired, it fails as one whose instance is lost.
    const stopWatching = options.idempotent === true ? channels.whenSilent(abort) : undefined;
    function done(error: ServiceError | null, response?: unknown): void {
      options.signal?.removeEventListener('abort', abort);
      stopWatching?.();
      if (error === null) resolve(response);
      else reject(channels.failure(error, options.signal));
    }
  });
}

async function* streamCall(channels: Channels, method: MethodShape, request: unknown, options: CallOptions): AsyncIterable<unknown> {
  options.signal?.throwIfAborted();
  const deadlineMs = options.deadlineMs ?? (options.signal === undefined ? defaultDeadlineMs : undefined);
  const call = channels
    .pick(options)
    .makeServerStreamRequest(method.path, method.requestSerialize, method.responseDeserialize, request, outgoingMetadata(), {
      ...(deadlineMs === undefined ? {} : { deadline: Date.now() + deadlineMs }),
    });
  const abort = (): void => call.cancel();
  options.signal?.addEventListener('abort', abort, { once: true });
  try {
    for await (const message of call) yield message;
  } catch (error) {
    throw channels.failure(error, options.signal);
  } finally {
    options.signal?.removeEventListener('abort', abort);
    call.cancel();
  }
}
