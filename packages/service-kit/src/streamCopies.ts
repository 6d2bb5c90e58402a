/** How many servers of a NATS cluster keep a stream; a key-value bucket is one too. */
import { errorMessage } from '@flotilla/errors';
import type { StreamInfo } from 'nats';
import type { Bus } from './bus.ts';

/** How many servers shall keep a stream: three where there is a cluster of so many, so that one may be lost. */
export function copiesIn(bus: Bus): number {
  const { info } = bus.connection;
  return info?.cluster !== undefined && (info.connect_urls?.length ?? 0) >= 3 ? 3 : 1;
}

/** Has a stream that was made for fewer servers kept by as many as there should be now; never by fewer. What the cluster refuses is logged, and tried again by the next call. */
export async function keepCopies(bus: Bus, { config }: StreamInfo): Promise<void> {
  const copies = copiesIn(bus);
  if (config.num_replicas >= copies) return;
  try {
    const manager = await bus.connection.jetstreamManager();
    await manager.streams.update(config.name, { num_replicas: copies });
  } catch (error) {
    bus.logger.warn({ stream: config.name, copies, reason: errorMessage(error) }, 'a stream is kept by fewer servers than it should be');
  }
}
