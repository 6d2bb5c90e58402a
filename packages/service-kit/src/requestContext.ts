/** The request a piece of code works for: one id from the client's call to the runtime's log line, carried by gRPC metadata. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';
import type { Identity } from './rights/identity.ts';

export interface RequestContext {
  readonly requestId: string;
  /** W3C trace context of the caller, passed on as it came. */
  readonly traceparent?: string;
  /** Who asked; absent for work that no client asked for. */
  readonly identity?: Identity;
}

const storage = new AsyncLocalStorage<RequestContext>();

export function currentRequest(): RequestContext | undefined {
  return storage.getStore();
}

export function runWithRequest<T>(context: RequestContext, work: () => T): T {
  return storage.run(context, work);
}

/** 16 hex digits: unique enough for a log, short enough to read. */
export function newRequestId(): string {
  return randomBytes(8).toString('hex');
}

/** What goes with a request by HTTP to another service. */
export function outgoingHeaders(): Record<string, string> {
  const request = storage.getStore();
  if (request === undefined) return {};
  return { 'x-request-id': request.requestId, ...(request.traceparent === undefined ? {} : { traceparent: request.traceparent }) };
}
