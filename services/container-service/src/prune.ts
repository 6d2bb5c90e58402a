/** Removing every container that does not run. */
import { InvalidParameter, isConflict, isNotFound } from '@flotilla/errors';
import type { DomainEvent } from '@flotilla/records';
import { nowNano, parseNano } from './clock.ts';
import { type ContainerRecord, isRunning } from './container.ts';
import { checkFilterNames, type Filters, labelTest } from './list.ts';

export interface PrunerOptions {
  readonly containers: () => Iterable<ContainerRecord>;
  readonly remove: (id: string) => Promise<void>;
  /** bytes of a container's writable layer. */
  readonly sizeOf: (id: string) => Promise<bigint>;
  /** Tells of it when it is done. */
  readonly tell: (event: DomainEvent) => Promise<void>;
}

/** @see Engine API v1.50 ContainerPrune */
export async function pruneContainers(
  options: PrunerOptions,
  filters: Filters,
  nowMs: number,
): Promise<{ ids: string[]; spaceReclaimed: bigint }> {
  checkFilterNames(filters, ['label', 'label!', 'until']);
  const labels = (filters.label ?? []).map(labelTest);
  const unwanted = (filters['label!'] ?? []).map(labelTest);
  const until = parseUntil(filters.until ?? [], nowMs);
  const chosen = [...options.containers()].filter(
    (container) =>
      !isRunning(container) &&
      container.state.status !== 'restarting' &&
      labels.every((test) => test(container)) &&
      !unwanted.some((test) => test(container)) &&
      (until === undefined || parseNano(container.created) < until),
  );
  const ids: string[] = [];
  let spaceReclaimed = 0n;
  for (const { id } of chosen) {
    try {
      const size = await options.sizeOf(id);
      await options.remove(id);
      ids.push(id);
      spaceReclaimed += size;
    } catch (error) {
      // Started or removed by somebody else meanwhile.
      if (!isConflict(error) && !isNotFound(error)) throw error;
    }
  }
  const attributes = { reclaimed: `${spaceReclaimed}` };
  await options.tell({ type: 'container', action: 'prune', actorId: '', attributes, timeNano: nowNano() });
  return { ids, spaceReclaimed };
}

const unitSeconds: Record<string, number> = { h: 3600, m: 60, s: 1, ms: 0.001 };

/** A time (RFC3339 or unix seconds) or a span before now (`24h`). @returns nanoseconds since the epoch. */
export function parseUntil(values: readonly string[], nowMs: number): bigint | undefined {
  const [value] = values;
  if (value === undefined) return undefined;
  if (values.length > 1) throw new InvalidParameter('more than one until filter specified');
  const span = /^(?:\d+(?:\.\d+)?(?:ms|h|m|s))+$/.test(value);
  if (span) {
    let seconds = 0;
    for (const [, number = '0', unit = 's'] of value.matchAll(/(\d+(?:\.\d+)?)(ms|h|m|s)/g))
      seconds += Number(number) * (unitSeconds[unit] ?? 1);
    return BigInt(Math.round(nowMs - seconds * 1000)) * 1_000_000n;
  }
  if (/^\d+(\.\d+)?$/.test(value)) return BigInt(Math.round(Number(value) * 1000)) * 1_000_000n;
  const at = Date.parse(/^\d{4}-\d\d-\d\d$/.test(value) ? `${value}T00:00:00Z` : value);
  if (Number.isNaN(at)) throw new InvalidParameter(`failed to parse value as time or duration: ${JSON.stringify(value)}`);
  return BigInt(at) * 1_000_000n;
}
