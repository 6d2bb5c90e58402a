import type { ServiceError } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import {
  Conflict,
  type ErrorKind,
  errorKind,
  fromServiceError,
  isConflict,
  isNotModified,
  makeError,
  NotModified,
  toHttp,
  toServiceError,
} from './index.ts';

const kinds: [ErrorKind, number][] = [
  ['InvalidParameter', 400],
  ['Unauthorized', 401],
  ['Forbidden', 403],
  ['NotFound', 404],
  ['Conflict', 409],
  ['NotModified', 304],
  ['ResourceExhausted', 429],
  ['NotImplemented', 501],
  ['Unavailable', 503],
  ['Cancelled', 499],
  ['DeadlineExceeded', 500],
  ['System', 500],
  ['DataLoss', 500],
  ['Unknown', 500],
];

/** What grpc-js gives a caller for a status. */
function asReceived(error: unknown): ServiceError {
  const sent = toServiceError(error);
  return Object.assign(new Error(`${sent.code}: ${sent.details}`), sent) as ServiceError;
}

describe('the taxonomy', () => {
  it.each(kinds)('%s survives a gRPC hop and becomes HTTP %i', (kind, status) => {
    const received = fromServiceError(asReceived(makeError(kind, 'some words')));
    expect(received.kind).toBe(kind);
    expect(received.message).toBe('some words');
    expect(toHttp(received).status).toBe(status);
  });

  it('tells classes that share a gRPC code apart', () => {
    expect(isConflict(fromServiceError(asReceived(new Conflict('x'))))).toBe(true);
    expect(isNotModified(fromServiceError(asReceived(new NotModified('x'))))).toBe(true);
  });

  it('gives a 304 no body and every other status a message', () => {
    expect(toHttp(new NotModified('x'))).toEqual({ status: 304 });
    expect(toHttp(new Conflict('x'))).toEqual({ status: 409, body: { message: 'x' } });
  });

  it('classifies what is not ours', () => {
    expect(errorKind(new Error('x'))).toBe('Unknown');
    expect(errorKind(AbortSignal.abort().reason)).toBe('Cancelled');
    expect(errorKind('text')).toBe('Unknown');
  });

  it('takes the class from the code when a peer sends no trailer', () => {
    const error = Object.assign(new Error('5 NOT_FOUND: gone'), { code: 5, details: 'gone' }) as unknown as ServiceError;
    expect(fromServiceError(error).kind).toBe('NotFound');
  });
});
