/** Go's `%q` and `%v`, as dockerd's history shows instructions. */
import type { Healthcheck } from '@flotilla/oci';

/** A quoted string with Go's escapes. */
export function quoted(text: string): string {
  return JSON.stringify(text).replace(/\\u00([01][0-9a-f])/g, '\\x$1');
}

export function quotedList(list: readonly string[]): string {
  return `[${list.map(quoted).join(' ')}]`;
}

/** A time.Duration in words: `1m30s`. */
export function goDuration(nanoseconds: number): string {
  if (nanoseconds === 0) return '0s';
  if (nanoseconds < 1e3) return `${nanoseconds}ns`;
  if (nanoseconds < 1e6) return `${nanoseconds / 1e3}µs`;
  if (nanoseconds < 1e9) return `${nanoseconds / 1e6}ms`;
  const total = Math.floor(nanoseconds / 1e9);
  const seconds = Number(((nanoseconds - total * 1e9) / 1e9 + (total % 60)).toFixed(9));
  const hours = Math.floor(total / 3600);
  const minutes = Math.floor((total % 3600) / 60);
  if (hours > 0) return `${hours}h${minutes}m${seconds}s`;
  return minutes > 0 ? `${minutes}m${seconds}s` : `${seconds}s`;
}

/** The health check as dockerd writes it into history. */
export function healthcheckText(check: Healthcheck): string {
  const durations = [check.Interval, check.Timeout, check.StartPeriod, check.StartInterval].map((each) => quoted(goDuration(each ?? 0)));
  const retries = check.Retries ?? 0;
  const rune = retries < 32 ? `\\x${retries.toString(16).padStart(2, '0')}` : String.fromCodePoint(retries);
  return `&{${quotedList(check.Test ?? [])} ${durations.join(' ')} '${rune}'}`;
}
