/** The filters of list and prune: which there are, and what each means. */
import { InvalidParameter } from '@flotilla/errors';

/** Filter name → values. */
export type Filters = ReadonlyMap<string, readonly string[]>;

/** @throws InvalidParameter `invalid filter 'x'` for one that is not among `known`. */
export function checkFilters(filters: Filters, known: readonly string[]): void {
  for (const name of filters.keys()) if (!known.includes(name)) throw new InvalidParameter(`invalid filter '${name}'`);
}

/** A filter that is true or false. @throws InvalidParameter `invalid filter 'dangling=[x]'`. */
export function booleanFilter(filters: Filters, name: string): boolean | undefined {
  const values = filters.get(name);
  if (values === undefined || values.length === 0) return undefined;
  const isTrue = values.some((value) => value === '1' || value === 'true');
  const isFalse = values.some((value) => value === '0' || value === 'false');
  if (isTrue === isFalse || values.length > 1) throw new InvalidParameter(`invalid filter '${name}=[${values.join(' ')}]'`);
  return isTrue;
}

/** Whether labels have each `key` or `key=value` of the filter. */
export function matchesLabels(filters: Filters, name: string, labels: Readonly<Record<string, string>>): boolean {
  return (filters.get(name) ?? []).every((wanted) => hasLabel(labels, wanted));
}

/** Whether labels have none of the filter's. */
export function lacksLabels(filters: Filters, name: string, labels: Readonly<Record<string, string>>): boolean {
  return !(filters.get(name) ?? []).some((unwanted) => hasLabel(labels, unwanted));
}

function hasLabel(labels: Readonly<Record<string, string>>, wanted: string): boolean {
  const equals = wanted.indexOf('=');
  const key = equals === -1 ? wanted : wanted.slice(0, equals);
  return Object.hasOwn(labels, key) && (equals === -1 || labels[key] === wanted.slice(equals + 1));
}

/**
 * The moment of `until`, in milliseconds since the epoch: a Unix time, a duration back from now (`10m`, `1h30m`), or a date.
 *
 * @throws InvalidParameter in dockerd's words.
 */
export function untilFilter(filters: Filters, nowMs: number = Date.now()): number | undefined {
  const values = filters.get('until');
  if (values === undefined || values.length === 0) return undefined;
  const [value = ''] = values;
  if (values.length > 1) throw new InvalidParameter('more than one until filter specified');
  const moment = parseMoment(value, nowMs);
  if (moment === undefined) throw new InvalidParameter(`invalid filter 'until=[${value}]'`);
  return moment;
}

const durationUnits: Readonly<Record<string, number>> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

function parseMoment(text: string, nowMs: number): number | undefined {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  if (/^([\d.]+(ns|us|µs|ms|s|m|h))+$/.test(text)) {
    let back = 0;
    for (const [, amount, unit] of text.matchAll(/([\d.]+)(ns|us|µs|ms|s|m|h)/g))
      back += Number(amount) * (durationUnits[unit ?? ''] ?? Number.NaN);
    return Number.isNaN(back) ? undefined : nowMs - back;
  }
  if (!/^\d{4}-\d{2}-\d{2}/.test(text)) return undefined;
  const moment = Date.parse(text);
  return Number.isNaN(moment) ? undefined : moment;
}
