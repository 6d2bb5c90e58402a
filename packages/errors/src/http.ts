/** The table between our error classes and HTTP; nothing else in the project names an HTTP status for an error. */
import { type ErrorKind, errorKind, errorMessage } from './errors.ts';

const statusOf: Record<ErrorKind, number> = {
  InvalidParameter: 400,
  Unauthorized: 401,
  Forbidden: 403,
  NotFound: 404,
  Conflict: 409,
  NotModified: 304,
  ResourceExhausted: 429,
  NotImplemented: 501,
  Unavailable: 503,
  Cancelled: 499,
  DeadlineExceeded: 500,
  System: 500,
  DataLoss: 500,
  Unknown: 500,
};

/** An HTTP answer for anything thrown: the status, and the Engine API's ErrorResponse; a 304 has no body. */
export function toHttp(error: unknown): { status: number; body?: { message: string } } {
  const status = statusOf[errorKind(error)];
  return status === 304 ? { status } : { status, body: { message: errorMessage(error) } };
}
