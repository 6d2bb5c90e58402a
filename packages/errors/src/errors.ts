/**
 * The one error taxonomy of Flotilla. Domain code throws these and never thinks of transports; the two tables beside this
 * file (grpc.ts, http.ts) translate at the edges.
 *
 * `message` is for the user and in Docker's own words where dockerd has some; hosts, paths and stack traces belong in `cause`.
 */

/** The name of a class; travels between services in a gRPC trailer. A new one needs a client that would act differently. */
export type ErrorKind =
  | 'InvalidParameter'
  | 'Unauthorized'
  | 'Forbidden'
  | 'NotFound'
  | 'Conflict'
  | 'NotModified'
  | 'ResourceExhausted'
  | 'NotImplemented'
  | 'Unavailable'
  | 'Cancelled'
  | 'DeadlineExceeded'
  | 'System'
  | 'DataLoss'
  | 'Unknown';

/** Two copies of this package must still agree, so classes are told by this brand and not by `instanceof`. */
const brand = Symbol.for('flotilla.error');

export abstract class FlotillaError extends Error {
  abstract readonly kind: ErrorKind;
  readonly [brand] = true;

  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The request cannot be right. */
export class InvalidParameter extends FlotillaError {
  readonly kind = 'InvalidParameter';
}
/** Who are you? */
export class Unauthorized extends FlotillaError {
  readonly kind = 'Unauthorized';
}
/** Never for you; do not retry. */
export class Forbidden extends FlotillaError {
  readonly kind = 'Forbidden';
}
/** The named object does not exist. */
export class NotFound extends FlotillaError {
  readonly kind = 'NotFound';
}
/** The state forbids it now; a change of state can clear it. */
export class Conflict extends FlotillaError {
  readonly kind = 'Conflict';
}
/** It is already so (start a started container). */
export class NotModified extends FlotillaError {
  readonly kind = 'NotModified';
}
/** A limit, ours or a registry's. */
export class ResourceExhausted extends FlotillaError {
  readonly kind = 'ResourceExhausted';
}
/** A part of the API we do not do. */
export class NotImplemented extends FlotillaError {
  readonly kind = 'NotImplemented';
}
/** A dependency is down; a retry may help. */
export class Unavailable extends FlotillaError {
  readonly kind = 'Unavailable';
}
/** The caller left. */
export class Cancelled extends FlotillaError {
  readonly kind = 'Cancelled';
}
/** Too late. */
export class DeadlineExceeded extends FlotillaError {
  readonly kind = 'DeadlineExceeded';
}
/** Our fault. */
export class System extends FlotillaError {
  readonly kind = 'System';
}
/** Corrupt content. */
export class DataLoss extends FlotillaError {
  readonly kind = 'DataLoss';
}
/** Unclassified. */
export class Unknown extends FlotillaError {
  readonly kind = 'Unknown';
}

const classes: Record<ErrorKind, new (message: string, options?: { cause?: unknown }) => FlotillaError> = {
  InvalidParameter,
  Unauthorized,
  Forbidden,
  NotFound,
  Conflict,
  NotModified,
  ResourceExhausted,
  NotImplemented,
  Unavailable,
  Cancelled,
  DeadlineExceeded,
  System,
  DataLoss,
  Unknown,
};

export function isFlotillaError(error: unknown): error is FlotillaError {
  return typeof error === 'object' && error !== null && (error as { [brand]?: unknown })[brand] === true;
}

export function isErrorKind(name: string): name is ErrorKind {
  return Object.hasOwn(classes, name);
}

/** The class of anything thrown: ours by name; an abort is Cancelled, a time-out DeadlineExceeded, all else Unknown. */
export function errorKind(error: unknown): ErrorKind {
  if (isFlotillaError(error)) return error.kind;
  if (error instanceof Error && error.name === 'AbortError') return 'Cancelled';
  if (error instanceof Error && error.name === 'TimeoutError') return 'DeadlineExceeded';
  return 'Unknown';
}

/** Makes an error of the class called `kind`. */
export function makeError(kind: ErrorKind, message: string, options?: { cause?: unknown }): FlotillaError {
  return new classes[kind](message, options);
}

/** The text of anything thrown. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const is =
  (kind: ErrorKind) =>
  (error: unknown): boolean =>
    errorKind(error) === kind;

export const isInvalidParameter: (error: unknown) => boolean = is('InvalidParameter');
export const isUnauthorized: (error: unknown) => boolean = is('Unauthorized');
export const isForbidden: (error: unknown) => boolean = is('Forbidden');
export const isNotFound: (error: unknown) => boolean = is('NotFound');
export const isConflict: (error: unknown) => boolean = is('Conflict');
export const isNotModified: (error: unknown) => boolean = is('NotModified');
export const isNotImplemented: (error: unknown) => boolean = is('NotImplemented');
export const isUnavailable: (error: unknown) => boolean = is('Unavailable');
export const isCancelled: (error: unknown) => boolean = is('Cancelled');
export const isDeadlineExceeded: (error: unknown) => boolean = is('DeadlineExceeded');
