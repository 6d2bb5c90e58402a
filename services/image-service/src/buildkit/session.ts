/** Sessions: what clients offer the builds that they ask for. A build names its session, which may come a moment after it. */
import { InvalidParameter } from '@flotilla/errors';
import type { GrpcConnection } from './grpcConnection.ts';
import { givenName } from './ownedName.ts';
import { WaitingRoom } from './waitingRoom.ts';

export interface Session {
  readonly id: string;
  /** Contexts of builds with one key are kept for each other; may be empty. */
  readonly sharedKey: string;
  readonly connection: GrpcConnection;
  /** Whether the client answers a method, `/package.Service/Method`. */
  offers(path: string): boolean;
}

export interface SessionOptions {
  readonly id: string;
  readonly sharedKey: string;
  readonly methods: readonly string[];
  readonly connection: GrpcConnection;
}

export class Sessions {
  private readonly open = new WaitingRoom<Session>();

  /** @throws InvalidParameter in BuildKit's words for an id that is in use: what builds ask of one client is not another's to answer. */
  checkNew(id: string): void {
    if (this.open.has(id)) throw new InvalidParameter(`session ${givenName(id)} already exists`);
  }

  /** Lasts as long as its connection. @throws InvalidParameter */
  add({ id, sharedKey, methods, connection }: SessionOptions): void {
    this.checkNew(id);
    const known = new Set(methods.map((method) => method.toLowerCase()));
    const session: Session = { id, sharedKey, connection, offers: (path) => known.has(path.toLowerCase()) };
    this.open.enter(id, session);
    connection.closed.addEventListener('abort', () => this.open.leave(id, session));
  }

  /** @throws NotFound when it does not come. */
  wait(id: string, signal: AbortSignal): Promise<Session> {
    return this.open.wait(id, `no active session for ${givenName(id)}: context deadline exceeded`, signal);
  }
}
