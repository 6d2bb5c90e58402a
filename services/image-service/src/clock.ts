/** Time to the nanosecond, for events and records. */

const originNs = BigInt(Math.round(performance.timeOrigin * 1000)) * 1000n;

/** Nanoseconds since the epoch; never the same twice in this process. */
export function nowNano(): bigint {
  const now = BigInt(Date.now()) * 1_000_000n + ((BigInt(Math.trunc(performance.now() * 1_000_000)) + originNs) % 1_000_000n);
  last = now > last ? now : last + 1n;
  return last;
}

let last = 0n;

/** RFC 3339 with nanoseconds, as Go prints it (no zeros at the end of the fraction). */
export function rfc3339Nano(nano: bigint = nowNano()): string {
  const seconds = nano / 1_000_000_000n;
  const fraction = (nano % 1_000_000_000n).toString().padStart(9, '0').replace(/0+$/, '');
  const whole = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  return fraction === '' ? `${whole}Z` : `${whole}.${fraction}Z`;
}
