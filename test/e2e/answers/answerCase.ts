/** One line of the table of answers: a request that is put to two engines. */

export interface AnswerCase {
  /** `METHOD /path?query`, without the version. */
  readonly request: string;
  /** Sent as it is when a string, else as JSON. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** `v1.41` unless told; '' for none. */
  readonly version?: string;
}

export function ask(request: string, body?: unknown, more: Omit<AnswerCase, 'request' | 'body'> = {}): AnswerCase {
  return { request, ...(body === undefined ? {} : { body }), ...more };
}

/** The `filters` parameter's value. */
export function filters(document: unknown): string {
  return encodeURIComponent(JSON.stringify(document));
}

/** How messages and exceptions call a case. */
export function caseName({ request, body, headers, version }: AnswerCase): string {
  const type = headers?.['content-type'];
  return [
    ...(version === undefined ? [] : [version]),
    decodeURIComponent(request),
    ...(body === undefined ? [] : [typeof body === 'string' ? body : JSON.stringify(body)]),
    ...(type === undefined ? [] : [`as ${type === '' ? 'nothing' : type}`]),
  ].join(' ');
}
