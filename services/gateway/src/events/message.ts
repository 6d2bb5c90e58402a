/** How an event is written for clients: the fields of today, and those of before API 1.22 for containers and images. */
import type { Event } from '@flotilla/contracts/flotilla/events/v1/event';
import type { EventMessage } from '@flotilla/engine-api';

/** TypeScript does not know JSON.rawJSON yet. */
const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };

export function eventMessage(event: Event): EventMessage {
  const attributes: Record<string, string> = {};
  for (const key of Object.keys(event.attributes).sort()) attributes[key] = event.attributes[key] ?? '';
  return {
    ...olderFields(event),
    Type: event.type,
    Action: event.action,
    Actor: { ID: event.actorId, Attributes: attributes },
    scope: 'local',
    time: Number(event.timeNano / 1_000_000_000n),
    timeNano: rawJSON(String(event.timeNano)),
  };
}

function olderFields({ type, action, actorId, attributes }: Event): Pick<EventMessage, 'status' | 'id' | 'from'> {
  if (type !== 'image' && type !== 'container') return {};
  const from = type === 'container' ? attributes.image : undefined;
  return { status: action, ...(actorId === '' ? {} : { id: actorId }), ...(from ? { from } : {}) };
}
