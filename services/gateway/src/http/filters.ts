/** The `filters` parameter: a JSON object in either of its two forms, `{"name":{"value":true}}` and the older `{"name":["value"]}`. */
import type { IncomingMessage } from 'node:http';
import { InvalidParameter } from '@flotilla/errors';
import { text } from './query.ts';

/** Filter name → its values, each once. */
export type Filters = ReadonlyMap<string, readonly string[]>;

/** @throws InvalidParameter `invalid filter` for anything that has neither form. */
export function parseFilters(json: string): Filters {
  if (json === '') return new Map();
  let document: unknown;
  try {
    document = JSON.parse(json);
  } catch {
    throw new InvalidParameter('invalid filter');
  }
  if (document === null) return new Map();
  if (typeof document !== 'object' || Array.isArray(document)) throw new InvalidParameter('invalid filter');
  const filters = new Map<string, readonly string[]>();
  for (const [name, values] of Object.entries(document)) filters.set(name, valuesOf(values));
  return filters;
}

function valuesOf(values: unknown): readonly string[] {
  if (values === null) return [];
  if (Array.isArray(values)) {
    if (values.every((value) => typeof value === 'string')) return [...new Set(values)];
  } else if (typeof values === 'object') {
    // The flags of the newer form are true in every client; dockerd looks at the names alone.
    if (Object.values(values).every((flag) => typeof flag === 'boolean' || flag === null)) return Object.keys(values);
  }
  throw new InvalidParameter('invalid filter');
}

export function filtersOf(request: IncomingMessage): Filters {
  return parseFilters(text(request, 'filters'));
}

/** As the services' requests carry them. */
export function toProto(filters: Filters): { [name: string]: { values: string[] } } {
  const result: { [name: string]: { values: string[] } } = Object.create(null);
  for (const [name, values] of filters) result[name] = { values: [...values] };
  return result;
}

/** With one more value. */
export function withFilter(filters: Filters, name: string, value: string): Filters {
  return new Map([...filters, [name, [...new Set([...(filters.get(name) ?? []), value])]]]);
}
