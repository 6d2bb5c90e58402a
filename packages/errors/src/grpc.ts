/** The table between our error classes and gRPC status codes; nothing else in the project names a gRPC code for an error. */
import { Metadata, type ServiceError, type StatusObject, status } from '@grpc/grpc-js';
import { type ErrorKind, errorKind, errorMessage, type FlotillaError, isErrorKind, makeError } from './errors.ts';

/** Several classes share a code, so the class itself travels by name in this trailer. */
export const errorKindTrailer = 'flotilla-error-kind';

const codeOf: Record<ErrorKind, status> = {
  InvalidParameter: status.INVALID_ARGUMENT,
  Unauthorized: status.UNAUTHENTICATED,
  Forbidden: status.PERMISSION_DENIED,
  NotFound: status.NOT_FOUND,
  Conflict: status.FAILED_PRECONDITION,
  NotModified: status.FAILED_PRECONDITION,
  ResourceExhausted: status.RESOURCE_EXHAUSTED,
  NotImplemented: status.UNIMPLEMENTED,
  Unavailable: status.UNAVAILABLE,
  Cancelled: status.CANCELLED,
  DeadlineExceeded: status.DEADLINE_EXCEEDED,
  System: status.INTERNAL,
  DataLoss: status.DATA_LOSS,
  Unknown: status.UNKNOWN,
};

const kindOf = new Map<number, ErrorKind>([
  [status.INVALID_ARGUMENT, 'InvalidParameter'],
  [status.OUT_OF_RANGE, 'InvalidParameter'],
  [status.UNAUTHENTICATED, 'Unauthorized'],
  [status.PERMISSION_DENIED, 'Forbidden'],
  [status.NOT_FOUND, 'NotFound'],
  [status.ALREADY_EXISTS, 'Conflict'],
  [status.ABORTED, 'Conflict'],
  [status.FAILED_PRECONDITION, 'Conflict'],
  [status.RESOURCE_EXHAUSTED, 'ResourceExhausted'],
  [status.UNIMPLEMENTED, 'NotImplemented'],
  [status.UNAVAILABLE, 'Unavailable'],
  [status.CANCELLED, 'Cancelled'],
  [status.DEADLINE_EXCEEDED, 'DeadlineExceeded'],
  [status.INTERNAL, 'System'],
  [status.DATA_LOSS, 'DataLoss'],
]);

/** What a handler's failure is on the wire. */
export function toServiceError(error: unknown): Pick<StatusObject, 'code' | 'details' | 'metadata'> {
  const kind = errorKind(error);
  const metadata = new Metadata();
  metadata.set(errorKindTrailer, kind);
  return { code: codeOf[kind], details: errorMessage(error), metadata };
}

/** What a caller's failure is in our classes; `cause` keeps the original. */
export function fromServiceError(error: ServiceError): FlotillaError {
  const named = error.metadata?.get(errorKindTrailer)[0]?.toString() ?? '';
  const kind = isErrorKind(named) ? named : (kindOf.get(error.code) ?? 'Unknown');
  return makeError(kind, error.details || error.message, { cause: error });
}

/** Whether something thrown by grpc-js is one of its status errors. */
export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && typeof (error as Partial<ServiceError>).code === 'number' && 'details' in error;
}
