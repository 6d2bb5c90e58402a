/** Wall-clock time in nanoseconds, and its two written forms: RFC3339Nano in documents, bigint in events. */

/** The time Docker writes for "never". */
export const never = '0001-01-01T00:00:00Z';

/** Timers go no further: 24 days. */
export const longestTimerMs = 2 ** 31 - 1;

const billion = 1_000_000_000n;
let last = 0n;

/** Nanoseconds since the epoch; strictly increasing within this process, so that events keep their order. */
export function nowNano(): bigint {
  const micros = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000));
  const now = micros * 1000n;
  last = now > last ? now : last + 1n;
  return last;
}

/** RFC3339Nano in UTC, trailing zeros of the fraction cut as Go does. */
export function formatNano(nano: bigint): string {
  const seconds = nano / billion;
  const fraction = (nano % billion).toString().padStart(9, '0').replace(/0+$/, '');
  const base = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  return fraction === '' ? `${base}Z` : `${base}.${fraction}Z`;
}

/** Nanoseconds since the epoch of an RFC3339 time; 0 for "never" and for what is no time. */
export function parseNano(text: string): bigint {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)$/.exec(text);
  if (match === null || text === never) return 0n;
  const millis = Date.parse(`${match[1]}${match[3]}`);
  if (Number.isNaN(millis)) return 0n;
  return BigInt(millis) * 1_000_000n + BigInt((match[2] ?? '').padEnd(9, '0'));
}

/** Whole seconds since the epoch of an RFC3339 time. */
export function unixSeconds(text: string): number {
  return Number(parseNano(text) / billion);
}
