/** Which events a follower asked for. The rules are dockerd's, filter by filter. */
import type { Event } from '@flotilla/contracts/flotilla/events/v1/event';
import type { Filters } from '../http/filters.ts';

/** Filters that name one object, by id or name, exactly or by a prefix. */
const objects = ['daemon', 'container', 'plugin', 'volume', 'network', 'node', 'service', 'secret', 'config'];

/** Actions with details after a colon that a filter may leave out. */
const detailed = ['exec_create', 'exec_start', 'health_status'];

export function matches(filters: Filters, event: Event): boolean {
  if (filters.size === 0) return true;
  return (
    matchesAction(filters.get('event'), event.action) &&
    exactly(filters.get('type'), event.type) &&
    exactly(filters.get('scope'), 'local') &&
    objects.every((object) => byPrefix(filters.get(object), event.actorId) || byPrefix(filters.get(object), event.attributes.name ?? '')) &&
    matchesImage(filters.get('image'), event) &&
    matchesLabels(filters.get('label'), event.attributes)
  );
}

type Values = readonly string[] | undefined;

function exactly(values: Values, value: string): boolean {
  return values === undefined || values.length === 0 || values.includes(value);
}

function byPrefix(values: Values, value: string): boolean {
  return values === undefined || values.length === 0 || values.some((prefix) => value.startsWith(prefix));
}

function matchesAction(values: Values, action: string): boolean {
  if (exactly(values, action)) return true;
  return values?.some((value) => detailed.includes(value) && action.startsWith(value)) ?? false;
}

/** Events of the image itself, and of containers made from it; with its tag or without. */
function matchesImage(values: Values, event: Event): boolean {
  const name = event.attributes[event.type === 'image' ? 'name' : 'image'] ?? '';
  return [event.actorId, name, withoutTag(event.actorId), withoutTag(name)].some((candidate) => exactly(values, candidate));
}

function withoutTag(reference: string): string {
  const name = reference.split('@', 1)[0] ?? '';
  const colon = name.lastIndexOf(':');
  return colon > name.lastIndexOf('/') ? name.slice(0, colon) : name;
}

function matchesLabels(values: Values, attributes: { readonly [name: string]: string }): boolean {
  return (values ?? []).every((label) => {
    const equals = label.indexOf('=');
    const key = equals < 0 ? label : label.slice(0, equals);
    const value = Object.hasOwn(attributes, key) ? attributes[key] : undefined;
    return value !== undefined && (equals < 0 || value === label.slice(equals + 1));
  });
}
