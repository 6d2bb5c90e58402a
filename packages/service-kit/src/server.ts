/** The gRPC side of a service: handlers as plain async functions, errors by their class, request ids, health, draining. */
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { HealthCheckResponse_ServingStatus, HealthService } from '@flotilla/contracts/grpc/health/v1/health';
import { errorKind, errorMessage, toServiceError } from '@flotilla/errors';
import {
  type Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type sendUnaryData,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { Definition, MethodShape, RequestOf, ResponseOf } from './definition.ts';
import type { Health } from './health.ts';
import type { Logger } from './logger.ts';
import { newRequestId, type RequestContext, runWithRequest } from './requestContext.ts';
import { decodeIdentity } from './rights/identity.ts';
import type { PolicySource } from './rights/policyFile.ts';
import type { SubjectsOf } from './rights/subjects.ts';

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
  private subjectsOf: SubjectsOf = async () => [];
  private socketPath: string | undefined;

  /** @param options.policy - rights, checked again here, where the act is carried out. */
  constructor(options: { logger: Logger; health: Health; policy?: PolicySource | undefined }) {
    this.logger = options.logger;
    this.policy = options.policy;
    const report = async (): Promise<{ status: (typeof HealthCheckResponse_ServingStatus)['SERVING' | 'NOT_SERVING'] }> => ({
      status: (await options.health.check()).ready
        ? HealthCheckResponse_ServingStatus.SERVING
        : HealthCheckResponse_ServingStatus.NOT_SERVING,
    });
    this.add(HealthService, {
      check: report,
      watch: async function* (_request, call) {
        while (!call.signal.aborted) {
          yield await report();
          await new Promise((resolve) => setTimeout(resolve, 1000));
        }
      },
    });
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

  /** Serves a proto service. */
  add<D extends Definition>(definition: D, handlers: Handlers<D>): void {
    const implementation: UntypedServiceImplementation = {};
    for (const [name, method] of Object.entries(definition)) {
      const handler = (handlers as Record<string, unknown>)[name];
      implementation[name] = method.responseStream
        ? this.streamCall(name, method.path, handler as (request: unknown, call: CallContext) => AsyncIterable<unknown>)
        : this.unaryCall(name, method.path, handler as (request: unknown, call: CallContext) => Promise<unknown>);
    }
    this.server.addService(definition as unknown as ServiceDefinition, implementation);
  }

  private unaryCall(name: string, path: string, handler: (request: unknown, call: CallContext) => Promise<unknown>) {
    return (call: ServerUnaryCall<unknown, unknown>, respond: sendUnaryData<unknown>): void => {
      const abort = new AbortController();
      let isAnswered = false;
      // It comes after every answer too, where nobody listens any more: an AbortError with its stack is not cheap.
      call.on('cancelled', () => {
        if (!isAnswered) abort.abort();
      });
      const context = contextOf(call.metadata);
      void runWithRequest(context, async () => {
        try {
          if (this.policy !== undefined) await this.checkRights(context, path, call.request);
          const response = await handler(call.request, { requestId: context.requestId, signal: abort.signal });
          isAnswered = true;
          respond(null, response);
          this.logger.debug({ method: name }, 'call answered');
        } catch (error) {
          this.report(name, error);
          respond(toServiceError(error));
        }
      });
    };
  }

  private streamCall(name: string, path: string, handler: (request: unknown, call: CallContext) => AsyncIterable<unknown>) {
    return (call: ServerWritableStream<unknown, unknown>): void => {
      const abort = new AbortController();
      call.on('cancelled', () => abort.abort());
      const context = contextOf(call.metadata);
      void runWithRequest(context, async () => {
        try {
          if (this.policy !== undefined) await this.checkRights(context, path, call.request);
          for await (const message of handler(call.request, { requestId: context.requestId, signal: abort.signal })) {
            if (abort.signal.aborted) return;
            if (!call.write(message)) await drained(call, abort.signal);
          }
          call.end();
        } catch (error) {
          this.report(name, error);
          const { code, details, metadata } = toServiceError(error);
          call.emit('error', { code, details, metadata });
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
