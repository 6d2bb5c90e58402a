/** The JetStream stream of every engine's events: subjects `flotilla.<engine-id>.events.<type>`. Relays fill it, the gateway reads it. */
import { NatsError, nanos, RetentionPolicy, StorageType } from 'nats';
import type { Bus } from './bus.ts';
import { copiesIn, keepCopies } from './streamCopies.ts';

export const eventStream = 'EVENTS';

/** JetStream's number for it. */
const streamNotFound = 10_059;
const hourMs = 60 * 60 * 1000;

/**
 * Makes the stream where it does not exist; any service may be the first.
 *
 * @returns when it was made: what tells it from one that was lost.
 */
export async function ensureEventStream(bus: Bus): Promise<string> {
  const manager = await bus.connection.jetstreamManager();
  try {
    const info = await manager.streams.info(eventStream);
    await keepCopies(bus, info);
    return String(info.created);
  } catch (error) {
    if (!isMissing(error)) throw error;
    const { created } = await manager.streams.add({
      num_replicas: copiesIn(bus),
      name: eventStream,
      subjects: ['flotilla.*.events.>'],
      retention: RetentionPolicy.Limits,
      storage: StorageType.File,
      max_age: nanos(7 * 24 * hourMs),
      max_bytes: 256 * 1024 * 1024,
      duplicate_window: nanos(hourMs),
    });
    return String(created);
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof NatsError && error.api_error?.err_code === streamNotFound;
}
