/** One connection of a BuildKit client, on which we are the gRPC server. It has a server of its own, so that its calls carry the rights of who opened it. */
import type { Socket } from 'node:net';
import { HealthCheckResponse_ServingStatus, HealthService } from '@flotilla/contracts/grpc/health/v1/health';
import { ControlService } from '@flotilla/contracts/moby/buildkit/v1/control';
import { LLBBridgeService } from '@flotilla/contracts/moby/buildkit/v1/frontend/gateway';
import { errorKind, InvalidParameter, toServiceError } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
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
import type { Bridge } from './bridge.ts';
import type { Control } from './control.ts';
import { StatusError, toServiceError as statusToServiceError } from './failure.ts';
import type { Job, Jobs } from './job.ts';

/** How a call names the build that it is about. */
const buildKey = 'buildkit-controlapi-buildid';
const maxMessageBytes = 64 * 1024 * 1024;
/** At once on one connection: a handful for each build, and Compose builds many services on one. */
const mostCalls = 4096;

export interface ConnectionParts {
  readonly control: Control;
  readonly bridge: Bridge;
  readonly jobs: Jobs;
  readonly logger: Logger;
}

/** Who asks: runs what a call does in the context of the request that opened the connection; `allow` throws for what the policy forbids. */
export interface Caller {
  run<T>(work: () => T): T;
  allow(operation: 'ImageBuild' | 'BuildPrune' | 'SystemDataUsage'): void;
  /** The caller's own name for a build or a session, apart from what others call so. */
  own(name: string): string;
}

/** Serves until the client leaves. */
export async function serveConnection(socket: Socket, caller: Caller, parts: ConnectionParts): Promise<void> {
  const server = new Server({
    'grpc.enable_channelz': 0,
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': maxMessageBytes,
    'grpc.max_concurrent_streams': mostCalls,
  });
  const calls = new Calls(caller, parts);
  server.addService(ControlService as unknown as ServiceDefinition, calls.control());
  server.addService(LLBBridgeService as unknown as ServiceDefinition, calls.bridge());
  server.addService(HealthService as unknown as ServiceDefinition, calls.health());
  const gone = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  injector.injectConnection(socket);
  try {
    await gone;
  } finally {
    injector.destroy();
    server.forceShutdown();
  }
}

class Calls {
  private readonly caller: Caller;
  private readonly parts: ConnectionParts;

  constructor(caller: Caller, parts: ConnectionParts) {
    this.caller = caller;
    this.parts = parts;
  }

  control(): UntypedServiceImplementation {
    const { control } = this.parts;
    const { caller } = this;
    return {
      solve: this.unary((request: Parameters<Control['solve']>[0], signal) => {
        caller.allow('ImageBuild');
        return control.solve({ ...request, ref: caller.own(request.ref), session: caller.own(request.session) }, signal);
      }),
      status: this.stream((request: Parameters<Control['status']>[0], signal) => control.status({ ref: caller.own(request.ref) }, signal)),
      listWorkers: this.unary(() => control.listWorkers()),
      info: this.unary(() => control.info()),
      diskUsage: this.unary((request: Parameters<Control['diskUsage']>[0]) => {
        caller.allow('SystemDataUsage');
        return control.diskUsage(request);
      }),
      prune: this.stream((request: Parameters<Control['prune']>[0]) => {
        caller.allow('BuildPrune');
        return control.prune(request);
      }),
    };
  }

  bridge(): UntypedServiceImplementation {
    const { bridge } = this.parts;
    return {
      ping: this.aboutJob((job, request: Parameters<Bridge['ping']>[1]) => bridge.ping(job, request)),
      solve: this.aboutJob((job, request: Parameters<Bridge['solve']>[1]) => bridge.solve(job, request)),
      evaluate: this.aboutJob((job, request: Parameters<Bridge['evaluate']>[1]) => bridge.evaluate(job, request)),
      warn: this.aboutJob((job, request: Parameters<Bridge['warn']>[1]) => bridge.warn(job, request)),
      return: this.aboutJob((job, request: Parameters<Bridge['return']>[1]) => bridge.return(job, request)),
    };
  }

  /** A call that names its build, which may not have been asked for yet. */
  private aboutJob<Request>(method: (job: Job, request: Request) => Promise<unknown>) {
    return this.unary(async (request: Request, signal, metadata) => {
      const ref = metadata.get(buildKey)[0]?.toString() ?? '';
      if (ref === '') throw new InvalidParameter('the call names no build');
      return method(await this.parts.jobs.wait(this.caller.own(ref), signal), request);
    });
  }

  health(): UntypedServiceImplementation {
    return { check: this.unary(async () => ({ status: HealthCheckResponse_ServingStatus.SERVING })) };
  }

  private unary<Request>(handler: (request: Request, signal: AbortSignal, metadata: Metadata) => Promise<unknown>) {
    return (call: ServerUnaryCall<Request, unknown>, respond: sendUnaryData<unknown>): void => {
      const { signal, settle } = this.watch(call);
      const work = this.caller.run(async () => handler(call.request, signal, call.metadata));
      work.then(
        (answer) => {
          settle();
          respond(null, answer);
        },
        (error: unknown) => {
          settle();
          respond(this.describe(call.getPath(), error));
        },
      );
    };
  }

  private stream<Request>(handler: (request: Request, signal: AbortSignal) => AsyncIterable<unknown>) {
    return (call: ServerWritableStream<Request, unknown>): void => {
      const { signal, settle } = this.watch(call);
      const work = this.caller.run(async () => {
        for await (const message of handler(call.request, signal)) {
          if (signal.aborted) return;
          if (!call.write(message)) await drained(call, signal);
        }
      });
      work.then(
        () => {
          settle();
          call.end();
        },
        (error: unknown) => {
          settle();
          call.emit('error', this.describe(call.getPath(), error));
        },
      );
    };
  }

  /** `cancelled` also comes after an ordinary end, where it means nothing. */
  private watch(call: { on(event: 'cancelled', listener: () => void): unknown }): { signal: AbortSignal; settle: () => void } {
    const abort = new AbortController();
    let isSettled = false;
    call.on('cancelled', () => {
      if (!isSettled) abort.abort();
    });
    return {
      signal: abort.signal,
      settle: () => {
        isSettled = true;
      },
    };
  }

  private describe(path: string, error: unknown): ReturnType<typeof toServiceError> | ReturnType<typeof statusToServiceError> {
    if (error instanceof StatusError) return statusToServiceError(error.status);
    const kind = errorKind(error);
    if (kind === 'System' || kind === 'Unknown' || kind === 'DataLoss')
      this.parts.logger.error({ path, error }, 'a call of BuildKit failed');
    return toServiceError(error);
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
