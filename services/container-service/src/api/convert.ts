/** Between proto messages and the domain: enums, wide numbers, JSON documents. The only place that knows both. */
import { type FilterValues, WaitCondition as WireCondition } from '@flotilla/contracts/flotilla/container/v1/containers';
import type { Filters } from '../list.ts';
import type { WaitCondition } from '../waiting.ts';

export function filtersFromWire(filters: Readonly<Record<string, FilterValues>>): Filters {
  return Object.fromEntries(Object.entries(filters).map(([name, { values }]) => [name, values]));
}

export function waitConditionFromWire(condition: WireCondition): WaitCondition {
  switch (condition) {
    case WireCondition.NEXT_EXIT:
      return 'next-exit';
    case WireCondition.REMOVED:
      return 'removed';
    default:
      return 'not-running';
  }
}

export function jsonBytes(document: unknown): Buffer {
  return Buffer.from(JSON.stringify(document));
}
