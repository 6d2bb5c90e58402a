/** What routes need of the events; feed.ts has it from JetStream. */
import type { Event } from '@flotilla/contracts/flotilla/events/v1/event';

export interface Events {
  /** Events from `since` (nothing past when undefined) until `until` (for ever when undefined), in order. */
  follow(options: { since?: bigint; until?: bigint; signal: AbortSignal }): Promise<AsyncIterable<Event>>;
  /** How many clients follow. */
  readonly followerCount: number;
}
