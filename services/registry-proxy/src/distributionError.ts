/**
 * Errors as the Distribution API writes them: `{"errors":[{"code","message","detail"}]}`. The codes and their HTTP statuses are in one
 * table here. An upstream's own answer is passed on as it came, so that a client sees the registry's words and not ours.
 *
 * @see OCI distribution-spec, "Error Codes"
 */

/** Codes of the specification, and the two that its reference implementation adds (UNAVAILABLE, UNKNOWN). */
const statusOf = {
  BLOB_UNKNOWN: 404,
  BLOB_UPLOAD_INVALID: 400,
  BLOB_UPLOAD_UNKNOWN: 404,
  DENIED: 403,
  DIGEST_INVALID: 400,
  MANIFEST_BLOB_UNKNOWN: 404,
  MANIFEST_INVALID: 400,
  MANIFEST_UNKNOWN: 404,
  NAME_INVALID: 400,
  NAME_UNKNOWN: 404,
  PAGINATION_NUMBER_INVALID: 400,
  RANGE_INVALID: 416,
  SIZE_INVALID: 400,
  TOOMANYREQUESTS: 429,
  UNAUTHORIZED: 401,
  UNAVAILABLE: 503,
  UNKNOWN: 500,
  UNSUPPORTED: 405,
} as const;

export type DistributionCode = keyof typeof statusOf;

export interface ErrorItem {
  /** One of the specification's codes, or whatever an upstream wrote. */
  readonly code: string;
  readonly message: string;
  readonly detail?: unknown;
}

export interface ErrorOptions {
  /** Instead of the code's own status: 502 for an upstream that lies, say. */
  readonly status?: number;
  readonly detail?: unknown;
  /** Headers the answer carries: Retry-After, WWW-Authenticate. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly cause?: unknown;
}

/** What a request of the Distribution API failed with. */
export class DistributionError extends Error {
  override readonly name = 'DistributionError';
  readonly status: number;
  readonly items: readonly ErrorItem[];
  readonly headers: Readonly<Record<string, string>>;

  constructor(code: DistributionCode, message: string, options: ErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.status = options.status ?? statusOf[code];
    this.items = [{ code, message, ...(options.detail === undefined ? {} : { detail: options.detail }) }];
    this.headers = options.headers ?? {};
  }

  get code(): string {
    return this.items[0]?.code ?? 'UNKNOWN';
  }

  /** The body of the answer. */
  body(): string {
    return `${JSON.stringify({ errors: this.items })}\n`;
  }
}

/** An upstream's refusal, passed on. */
export class UpstreamRefusal extends DistributionError {
  override readonly items: readonly ErrorItem[];

  constructor(status: number, items: readonly [ErrorItem, ...ErrorItem[]], headers: Readonly<Record<string, string>>) {
    super('UNKNOWN', items[0].message, { status, headers });
    this.items = items;
  }
}

/** An upstream that could not be reached, did not answer in time, or answered that it is not well. Cached content may stand in. */
export class UpstreamAway extends DistributionError {
  constructor(message: string, options: { status: 502 | 503 | 504; cause?: unknown; headers?: Readonly<Record<string, string>> }) {
    super('UNAVAILABLE', message, options);
  }
}

const codeOfStatus: Readonly<Record<number, DistributionCode>> = {
  401: 'UNAUTHORIZED',
  403: 'DENIED',
  404: 'NAME_UNKNOWN',
  405: 'UNSUPPORTED',
  429: 'TOOMANYREQUESTS',
  503: 'UNAVAILABLE',
};

/** The code that fits a status when an upstream said no more than that. */
export function codeForStatus(status: number): DistributionCode {
  return codeOfStatus[status] ?? 'UNKNOWN';
}

export function isDistributionError(error: unknown): error is DistributionError {
  return error instanceof DistributionError;
}

/** Whether cached content may be served instead: no answer, 5xx or 429, as opposed to a definite no. */
export function isUpstreamAway(error: unknown): boolean {
  return error instanceof DistributionError && (error instanceof UpstreamAway || error.status === 429 || error.status >= 500);
}

/** Whether the upstream definitely refused these credentials. */
export function isRefused(error: unknown): boolean {
  return error instanceof DistributionError && (error.status === 401 || error.status === 403);
}

export function isMissing(error: unknown): boolean {
  return error instanceof DistributionError && error.status === 404;
}
