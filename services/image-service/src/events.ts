/** Events of images, with dockerd's actors and attributes. */
import type { DomainEvent } from '@flotilla/records';
import { nowNano } from './clock.ts';
import type { Image } from './image.ts';

export type ImageAction = 'pull' | 'push' | 'tag' | 'untag' | 'delete' | 'load' | 'save' | 'import' | 'create';

/** What a prune has freed; told also when that is nothing. */
export function pruneEvent(type: 'image' | 'builder', freedBytes: number): DomainEvent {
  return { type, action: 'prune', actorId: '', attributes: { reclaimed: String(freedBytes) }, timeNano: nowNano() };
}

/**
 * @param actorId - the image's id, or the reference for pull and push.
 * @param name - the attribute `name`, beside the image's labels.
 */
export function imageEvent(action: ImageAction, actorId: string, name: string, image?: Image): DomainEvent {
  return { type: 'image', action, actorId, attributes: { ...image?.config.config.Labels, name }, timeNano: nowNano() };
}
