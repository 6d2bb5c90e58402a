/** The gRPC side of a service: handlers as plain async functions, errors by their class, request ids, health, draining. */
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { WorkloadsService } from '@flotilla/contracts/flotilla/discovery/v1/workloads';
import { HealthCheckResponse_ServingStatus, HealthService } from '@flotilla/contracts/grpc/health/v1/health';
import { errorKind, errorMessage, toServiceError, Unavailable } from '@flotilla/errors';
import {
  type Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type sendUnaryData,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { Definition, MethodShape, RequestOf, ResponseOf } from './definition.ts';
import type { Health } from './health.ts';
import type { Logger } from './logger.ts';
import { newRequestId, type RequestContext, runWithRequest } from './requestContext.ts';
import { decodeIdentity } from './rights/identity.ts';
import type { PolicySource } from './rights/policyFile.ts';
import type { SubjectsOf } from './rights/subjects.ts';
import type { Span, Tracer } from './tracing.ts';
import { Workload } from './workload.ts';

export interface CallContext {
  readonly requestId: string;
  /** Fires when the caller is gone or its deadline has passed. */
  readonly signal: AbortSignal;
}

type Handler<M extends MethodShape> = M['responseStream'] extends true
  ? (request: RequestOf<M>, call: CallContext) => AsyncIterable<ResponseOf<M>>
  : (request: RequestOf<M>, call: CallContext) => Promise<ResponseOf<M>>;

/** A handler for each method of a definition. */
export type Handlers<D extends Definition> = { readonly [K in keyof D]: Handler<D[K]> };

/** Metadata keys that carry the request context. */
export const requestIdKey = 'flotilla-request-id';
export const traceparentKey = 'traceparent';
export const identityKey = 'flotilla-identity';

const maxMessageBytes = 64 * 1024 * 1024;

function contextOf(metadata: Metadata): RequestContext {
  const traceparent = metadata.get(traceparentKey)[0]?.toString();
  const identity = decodeIdentity(metadata.get(identityKey)[0]?.toString() ?? '');
  return {
    requestId: metadata.get(requestIdKey)[0]?.toString() || newRequestId(),
    ...(traceparent === undefined ? {} : { traceparent }),
    ...(identity === undefined ? {} : { identity }),
  };
}

export class GrpcServer {
  private readonly server = new Server({
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': maxMessageBytes,
  });
  private readonly logger: Logger;
  private readonly policy: PolicySource | undefined;
  private readonly tracer: Tracer | undefined;
  private subjectsOf: SubjectsOf = async () => [];
  private socketPath: string | undefined;
  private readonly workload: Workload;
  private callsHere = 0;
  /** Streams that say something and that their callers have go on at another instance. */
  private readonly movable = new Set<() => void>();

  /** @param options.policy - rights, checked again here, where the act is carried out. */
  constructor(options: {
    logger: Logger;
    health: Health;
    policy?: PolicySource | undefined;
    tracer?: Tracer | undefined;
    workload?: Workload;
  }) {
    this.workload = options.workload ?? new Workload();
    this.logger = options.logger;
    this.policy = options.policy;
    this.tracer = options.tracer;
    const report = async (): Promise<{ status: (typeof HealthCheckResponse_ServingStatus)['SERVING' | 'NOT_SERVING'] }> => ({
      status: (await options.health.check()).ready
        ? HealthCheckResponse_ServingStatus.SERVING
        : HealthCheckResponse_ServingStatus.NOT_SERVING,
    });
    // Not counted: who asks how the instance is gives it nothing to do.
    this.serve(HealthService, {
      check: report,
      watch: async function* (_request, call) {
        while (!call.signal.aborted) {
          yield await report();
          await new Promise((resolve) => setTimeout(resolve, 1000));
        }
      },
    });
    this.serve(WorkloadsService, {
      read: async () => {
        const { underWay, answered, answeredPerSecond, leases } = this.workload;
        return { underWay, answered: BigInt(answered), answeredPerSecond, leases };
      },
    });
  }

  /** Calls that are not answered whole. */
  get callsUnderWay(): number {
    return this.callsHere;
  }

  /** Ends the streams that their callers open again elsewhere. */
  move(): void {
    for (const end of this.movable) end();
  }

  /** Has rights checked on what calls work on, too. */
  guard(subjectsOf: SubjectsOf): void {
    this.subjectsOf = subjectsOf;
  }

  /** @throws Forbidden; NotFound for what the caller may not see. */
  private async checkRights({ identity }: RequestContext, path: string, request: unknown): Promise<void> {
    this.policy?.current.checkCall(identity, path, request);
    if (identity !== undefined) this.policy?.current.checkSubjects(identity, path, await this.subjectsOf(path, request));
  }

  /**
   * Serves a proto service.
   *
   * @param movable - streams whose callers ask another instance when this one ends them with Unavailable after their first message.
   */
  add<D extends Definition>(definition: D, handlers: Handlers<D>, movable: readonly (keyof D)[] = []): void {
    this.serve(definition, handlers, { counted: true, movable });
  }

  private serve<D extends Definition>(
    definition: D,
    handlers: Handlers<D>,
    { counted, movable }: { counted: boolean; movable: readonly (keyof D)[] } = { counted: false, movable: [] },
  ): void {
    const implementation: UntypedServiceImplementation = {};
    for (const [name, method] of Object.entries(definition)) {
      const handler = (handlers as Record<string, unknown>)[name];
      implementation[name] = method.responseStream
        ? this.streamCall(name, method.path, handler as (request: unknown, call: CallContext) => AsyncIterable<unknown>, {
            counted,
            mayMove: movable.includes(name),
          })
        : this.unaryCall(name, method.path, handler as (request: unknown, call: CallContext) => Promise<unknown>, counted);
    }
    this.server.addService(definition as unknown as ServiceDefinition, implementation);
  }

  private begin(counted: boolean): void {
    if (!counted) return;
    this.callsHere++;
    this.workload.begin();
  }

  private end(counted: boolean): void {
    if (!counted) return;
    this.callsHere--;
    this.workload.end();
  }

  /** The request that a call works for, and its span: calls that no client's request has led to have none. */
  private enter(metadata: Metadata, path: string): { context: RequestContext; span: Span | undefined } {
    const given = contextOf(metadata);
    if (this.tracer === undefined || given.traceparent === undefined) return { context: given, span: undefined };
    const span = this.tracer.begin(path.slice(1), given.traceparent, { 'rpc.system': 'grpc', 'flotilla.request_id': given.requestId });
    return { context: span === undefined ? given : { ...given, traceparent: span.traceparent }, span };
  }

  private unaryCall(name: string, path: string, handler: (request: unknown, call: CallContext) => Promise<unknown>, counted: boolean) {
    return (call: ServerUnaryCall<unknown, unknown>, respond: sendUnaryData<unknown>): void => {
      const abort = new AbortController();
      let isAnswered = false;
      // It comes after every answer too, where nobody listens any more: an AbortError with its stack is not cheap.
      call.on('cancelled', () => {
        if (!isAnswered) abort.abort();
      });
      const { context, span } = this.enter(call.metadata, path);
      this.begin(counted);
      void runWithRequest(context, async () => {
        try {
          if (this.policy !== undefined) await this.checkRights(context, path, call.request);
          const response = await handler(call.request, { requestId: context.requestId, signal: abort.signal });
          isAnswered = true;
          respond(null, response);
          span?.end(answered);
          this.logger.debug({ method: name }, 'call answered');
        } catch (error) {
          this.report(name, error);
          const failure = toServiceError(error);
          endFailed(span, failure);
          respond(failure);
        } finally {
          this.end(counted);
        }
      });
    };
  }

  private streamCall(
    name: string,
    path: string,
    handler: (request: unknown, call: CallContext) => AsyncIterable<unknown>,
    { counted, mayMove }: { counted: boolean; mayMove: boolean },
  ) {
    return (call: ServerWritableStream<unknown, unknown>): void => {
      const abort = new AbortController();
      call.on('cancelled', () => abort.abort());
      let moved: Unavailable | undefined;
      const move = (): void => {
        moved = new Unavailable('this instance leaves: another one goes on');
        abort.abort();
      };
      const { context, span } = this.enter(call.metadata, path);
      this.begin(counted);
      void runWithRequest(context, async () => {
        try {
          if (this.policy !== undefined) await this.checkRights(context, path, call.request);
          for await (const message of handler(call.request, { requestId: context.requestId, signal: abort.signal })) {
            if (moved !== undefined) throw moved;
            if (abort.signal.aborted) {
              span?.end(answered);
              return;
            }
            if (!call.write(message)) await drained(call, abort.signal);
            if (mayMove) this.movable.add(move);
          }
          if (moved !== undefined) throw moved;
          call.end();
          span?.end(answered);
        } catch (error) {
          const told = moved ?? error;
          this.report(name, told);
          const failure = toServiceError(told);
          endFailed(span, failure);
          call.emit('error', { code: failure.code, details: failure.details, metadata: failure.metadata });
        } finally {
          this.movable.delete(move);
          this.end(counted);
        }
      });
    };
  }

  /** Our faults are errors with their cause; the caller's are news at debug. */
  private report(method: string, error: unknown): void {
    const kind = errorKind(error);
    if (kind === 'System' || kind === 'Unknown' || kind === 'DataLoss') this.logger.error({ method, error }, 'call failed');
    else this.logger.debug({ method, kind, reason: errorMessage(error) }, 'call refused');
  }

  /** Listens on `unix:/path` (0660, the folder's group) or `host:port`. A socket file left by a dead process is replaced. */
  async listen(address: string): Promise<void> {
    if (address.startsWith('unix:')) {
      this.socketPath = address.slice('unix:'.length);
      mkdirSync(dirname(this.socketPath), { recursive: true });
      rmSync(this.socketPath, { force: true });
    }
    await new Promise<number>((resolve, reject) => {
      this.server.bindAsync(address, ServerCredentials.createInsecure(), (error, port) => (error ? reject(error) : resolve(port)));
    });
    if (this.socketPath !== undefined) chmodSync(this.socketPath, 0o660);
  }

  /** Refuses new calls, lets running ones end until the deadline, then cuts them. */
  async shutdown(deadlineMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => {
        this.server.forceShutdown();
        resolve();
      }, deadlineMs);
      this.server.tryShutdown(() => {
        clearTimeout(timer);
        resolve();
      });
    });
    if (this.socketPath !== undefined) rmSync(this.socketPath, { force: true });
  }
}

const answered = { 'rpc.grpc.status_code': status.OK };
/** Those that are ours to blame for; the others are the caller's news. */
const faults: ReadonlySet<number> = new Set([
  status.UNKNOWN,
  status.DEADLINE_EXCEEDED,
  status.UNIMPLEMENTED,
  status.INTERNAL,
  status.UNAVAILABLE,
  status.DATA_LOSS,
]);

function endFailed(span: Span | undefined, { code, details }: { code: number; details: string }): void {
  span?.end({ 'rpc.grpc.status_code': code }, faults.has(code) ? details : undefined);
}

function drained(call: ServerWritableStream<unknown, unknown>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      call.off('drain', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    call.on('drain', done);
    signal.addEventListener('abort', done, { once: true });
  });
}
