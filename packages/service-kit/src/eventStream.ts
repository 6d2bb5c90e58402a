/** The JetStream stream of every engine's events: subjects `flotilla.<engine-id>.events.<type>`. Relays fill it, the gateway reads it. */
import { nanos, RetentionPolicy, StorageType } from 'nats';
import type { Bus } from './bus.ts';

export const eventStream = 'EVENTS';

const hourMs = 60 * 60 * 1000;

/** Makes the stream where it does not exist; any service may be the first. */
export async function ensureEventStream(bus: Bus): Promise<void> {
  const manager = await bus.connection.jetstreamManager();
  try {
    await manager.streams.info(eventStream);
  } catch {
    await manager.streams.add({
      name: eventStream,
      subjects: ['flotilla.*.events.>'],
      retention: RetentionPolicy.Limits,
      storage: StorageType.File,
      max_age: nanos(7 * 24 * hourMs),
      max_bytes: 256 * 1024 * 1024,
      duplicate_window: nanos(hourMs),
    });
  }
}
