/**
 * How connections of BuildKit's clients come to image-service: by a standing ticket, which is asked for once for a caller and an instance. A build opens six
 * connections, and a call for each would take longer than all that is done on some of them.
 */
import { ClientConnection } from '@flotilla/contracts/flotilla/image/v1/buildkit';
import { isUnavailable } from '@flotilla/errors';
import { currentRequest } from '@flotilla/service-kit';
import { describeIdentity } from '@flotilla/service-kit/rights';
import { type GivenConnection, type Opened, openStanding, type Ticket } from '@flotilla/streams';
import type { Backends } from './backends.ts';
import { promised } from './streams/transfer.ts';

/** A build's connections do not name each other before they are open: all go to one instance, which also does equal steps of concurrent builds once. */
export const sameInstance = { rendezvousKey: 'buildkit' } as const;

/** Shorter than a ticket stands. */
const usedMs = 10 * 60_000;

interface Kept {
  readonly ticket: Ticket;
  readonly until: number;
}

export interface DoorOptions {
  readonly buildkit: Pick<Backends['buildkit'], 'openConnections'>;
  /** The instance that all connections go to; undefined while none is known. */
  readonly home: () => string | undefined;
}

export class BuildKitDoor {
  private readonly options: DoorOptions;
  private readonly kept = new Map<string, Kept>();

  constructor(options: DoorOptions) {
    this.options = options;
  }

  /** Whether somebody is there. */
  get isOpen(): boolean {
    return this.options.home() !== undefined;
  }

  /**
   * Opens a connection with the rights of the current request.
   *
   * @param given - the client's own connection, where it can be given.
   * @throws Unavailable when no instance comes in time; what image-service refuses it with.
   */
  async open(
    what: Omit<Partial<ClientConnection>, 'requestId' | 'traceparent'>,
    { given, signal }: { given: GivenConnection | undefined; signal: AbortSignal },
  ): Promise<Opened> {
    const request = currentRequest();
    const context = { requestId: request?.requestId ?? '', traceparent: request?.traceparent ?? '' };
    const word = ClientConnection.encode(ClientConnection.fromPartial({ ...what, ...context })).finish();
    const home = this.options.home();
    const key = `${home ?? ''}\0${request?.identity === undefined ? '' : describeIdentity(request.identity)}`;
    const known = home === undefined ? undefined : this.known(key);
    if (known !== undefined) {
      try {
        return await openStanding(known, word, { given, signal });
      } catch (error) {
        if (!isUnavailable(error)) throw error;
        this.kept.delete(key);
      }
    }
    const to = home === undefined ? sameInstance : { instance: home };
    const ticket = promised((await this.options.buildkit.openConnections({}, { ...to, signal })).ticket);
    if (home !== undefined) this.kept.set(key, { ticket, until: performance.now() + usedMs });
    return openStanding(ticket, word, { given, signal });
  }

  private known(key: string): Ticket | undefined {
    const now = performance.now();
    for (const [each, { until }] of this.kept) {
      if (until > now) break;
      this.kept.delete(each);
    }
    return this.kept.get(key)?.ticket;
  }
}
