/** One line of `GET /events`. */
export interface EventMessage {
  /** status, id and from repeat Action, Actor.ID and the image, for clients older than API 1.22; only container and image events */
  status?: string;
  id?: string;
  from?: string;
  Type: string;
  Action: string;
  Actor: { ID: string; Attributes: Record<string, string> };
  scope: 'local' | 'swarm';
  /** unix seconds */
  time: number;
  /** unix nanoseconds: beyond 2^53, so it is written with JSON.rawJSON */
  timeNano: unknown;
}
