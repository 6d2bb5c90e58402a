/** The Engine API's filters over networks and volumes. */
import { goBoolean } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import { textFilter } from '@flotilla/service-kit/regularExpression';

export type Filters = Readonly<Record<string, { readonly values: readonly string[] }>>;

/** @throws InvalidParameter in dockerd's words for a filter that is not known. */
export function checkFilters(filters: Filters, known: readonly string[]): void {
  for (const name of Object.keys(filters)) {
    if (!known.includes(name)) throw new InvalidParameter(`invalid filter '${name}'`);
  }
}

export function filterValues(filters: Filters, name: string): readonly string[] {
  return filters[name]?.values ?? [];
}

/** Several values of one filter: any of them. None: everything. */
export function anyOf(filters: Filters, name: string, matches: (value: string) => boolean): boolean {
  const values = filterValues(filters, name);
  return values.length === 0 || values.some(matches);
}

/** What any of a filter's values is, or finds as a regular expression. None: everything. */
export function textMatcher(filters: Filters, name: string): (text: string) => boolean {
  const values = filterValues(filters, name).map(textFilter);
  return (text) => values.length === 0 || values.some((matches) => matches(text));
}

/** `key` or `key=value`, all of them. */
export function matchesLabels(labels: Readonly<Record<string, string>>, wanted: readonly string[]): boolean {
  return wanted.every((text) => hasLabel(labels, text));
}

function hasLabel(labels: Readonly<Record<string, string>>, text: string): boolean {
  const equals = text.indexOf('=');
  const key = equals === -1 ? text : text.slice(0, equals);
  return Object.hasOwn(labels, key) && (equals === -1 || labels[key] === text.slice(equals + 1));
}

/** `label` and `label!` of a prune. */
export function matchesPruneLabels(labels: Readonly<Record<string, string>>, filters: Filters): boolean {
  return matchesLabels(labels, filterValues(filters, 'label')) && !filterValues(filters, 'label!').some((text) => hasLabel(labels, text));
}

/** @throws InvalidParameter for what is neither true nor false. */
export function booleanFilter(filters: Filters, name: string): boolean | undefined {
  const values = filterValues(filters, name);
  if (values.length === 0) return undefined;
  const parsed = values.map(goBoolean);
  const [yes, no] = [parsed.includes(true), parsed.includes(false)];
  if (yes === no) throw new InvalidParameter(`invalid filter '${name}=[${values.join(' ')}]'`);
  return yes;
}

/**
 * A time of an `until` filter: RFC 3339 and its shorter forms, seconds since the epoch, or a Go duration before now.
 *
 * @returns milliseconds since the epoch.
 * @throws InvalidParameter
 */
export function untilMs(text: string, nowMs = Date.now()): number {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  const durationMs = goDurationMs(text);
  if (durationMs !== undefined) return nowMs - durationMs;
  const parsed = Date.parse(/^\d{4}-\d{2}-\d{2}(T.*)?$/.test(text) ? text : '');
  if (Number.isNaN(parsed)) throw new InvalidParameter(`failed to parse value as time or duration: "${text}"`);
  return parsed;
}

function goDurationMs(text: string): number | undefined {
  const unitsMs: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 };
  if (!/^(\d+(\.\d+)?(h|ms|m|s))+$/.test(text)) return undefined;
  return [...text.matchAll(/(\d+(?:\.\d+)?)(h|ms|m|s)/g)].reduce(
    (sum, [, value, unit]) => sum + Number(value) * (unitsMs[unit ?? ''] ?? 0),
    0,
  );
}
