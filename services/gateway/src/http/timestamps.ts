/** Points in time as clients write them: unix seconds with a fraction, RFC 3339, or a duration before now. */
import { InvalidParameter } from '@flotilla/errors';

const units: Record<string, number> = { ns: 1, us: 1e3, µs: 1e3, μs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };

/**
 * @param now - nanoseconds since the epoch.
 * @returns nanoseconds since the epoch; undefined for an empty value.
 * @throws InvalidParameter
 */
export function parseTimestamp(value: string, now: bigint = BigInt(Date.now()) * 1_000_000n): bigint | undefined {
  if (value === '') return undefined;
  const unix = /^(-?)([0-9]+)(?:\.([0-9]*))?$/.exec(value);
  if (unix !== null) {
    const [, sign, seconds = '0', fraction = ''] = unix;
    // Beyond what 64 bits of nanoseconds hold there is nothing to find on either side.
    if (seconds.length > 10) throw new InvalidParameter(`strconv.ParseInt: parsing ${JSON.stringify(value)}: value out of range`);
    const nanoseconds = BigInt(seconds) * 1_000_000_000n + BigInt(fraction.slice(0, 9).padEnd(9, '0'));
    return sign === '-' ? -nanoseconds : nanoseconds;
  }
  const ago = parseDuration(value);
  if (ago !== undefined) return now - ago;
  return parseDate(value);
}

/** Go's time.ParseDuration: `1h30m`, `-1.5s`; undefined for anything else. */
export function parseDuration(value: string): bigint | undefined {
  const whole = /^([+-]?)((?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)$/.exec(value);
  if (whole === null) return undefined;
  let nanoseconds = 0;
  for (const [, amount, unit] of (whole[2] ?? '').matchAll(/([0-9.]+)(ns|us|µs|μs|ms|s|m|h)/g)) {
    nanoseconds += Number(amount) * (units[unit ?? ''] ?? 0);
  }
  if (!Number.isFinite(nanoseconds) || nanoseconds > 2 ** 63) return undefined;
  return BigInt(Math.round(nanoseconds)) * (whole[1] === '-' ? -1n : 1n);
}

function parseDate(value: string): bigint {
  const shape = /^(\d{4}-\d{2}-\d{2})(?:T(\d{2}(?::\d{2}(?::\d{2}(?:[.,](\d{1,9}))?)?)?)(Z|[+-]\d{2}:\d{2})?)?(Z|[+-]\d{2}:\d{2})?$/.exec(
    value,
  );
  if (shape !== null) {
    const [, date = '', time = '00:00:00', fraction = '', timeZone, dateZone] = shape;
    const parts = time.replace(/[.,]\d+$/, '').split(':');
    const full = `${date}T${parts[0] ?? '00'}:${parts[1] ?? '00'}:${parts[2] ?? '00'}${timeZone ?? dateZone ?? ''}`;
    const milliseconds = Date.parse(full);
    if (!Number.isNaN(milliseconds)) return BigInt(milliseconds) * 1_000_000n + BigInt(fraction.padEnd(9, '0'));
  }
  throw new InvalidParameter(`failed to parse value as time or duration: ${JSON.stringify(value)}`);
}
