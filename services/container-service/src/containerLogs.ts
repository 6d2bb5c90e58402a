/** Reading a container's log: over a ticket, or at once when it is short. */
import { InvalidParameter, NotImplemented } from '@flotilla/errors';
import { type Ticket, type TicketServer, writeOutput } from '@flotilla/streams';
import { discard } from './input.ts';
import type { LogClaim, LogClaims } from './logClaims.ts';
import { type LogPlace, logDetails, type ReadLogOptions, readLog } from './logs/index.ts';
import { findContainer } from './lookup.ts';
import type { Paths } from './paths.ts';
import type { ContainerStore } from './store.ts';
import type { ContainerChanges } from './waiting.ts';

export interface LogsOptions {
  readonly paths: Paths;
  readonly store: ContainerStore;
  readonly changes: ContainerChanges;
  readonly tickets: TicketServer;
  readonly claims: LogClaims;
}

export interface LogsRequest {
  readonly container: string;
  readonly follow: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** nanoseconds since the epoch; 0: no bound. */
  readonly sinceNano: bigint;
  readonly untilNano: bigint;
  readonly timestamps: boolean;
  readonly details: boolean;
  readonly tail: number | undefined;
  /** where a stream stood that another instance served */
  readonly cursor?: string | undefined;
  readonly mayBeWhole?: boolean | undefined;
}

/** What is answered whole has at most this many bytes. */
const shortBytes = 64 * 1024;

export class ContainerLogs {
  private readonly options: LogsOptions;

  constructor(options: LogsOptions) {
    this.options = options;
  }

  /** @throws NotFound; InvalidParameter without a stream; NotImplemented with the log driver none. @see Engine API v1.50 ContainerLogs */
  async open(request: LogsRequest): Promise<{ ticket: Ticket | undefined; tty: boolean; whole?: Buffer }> {
    const { store, tickets, changes } = this.options;
    if (!request.stdout && !request.stderr) throw new InvalidParameter('Bad parameters: you must choose at least one stream');
    const { claim, place } = request.cursor ? this.options.claims.resume(request.cursor) : this.begin(request);
    const { containerId, tty } = claim.stream;
    if (request.mayBeWhole && !request.follow && place === undefined) {
      const whole = await this.readShort(request, claim);
      if (whole !== undefined) return { ticket: undefined, tty, whole };
    }
    const ticket = tickets.issue(
      async (stream, signal) => {
        discard(stream);
        try {
          const reader = readLog({
            ...this.reading(request, claim.stream, place),
            // The log of a container that does not run is complete; of one that a policy starts again it goes on.
            ended: changes.when(
              containerId,
              store.containers.get(containerId),
              (now) => now === undefined || (now.state.run === undefined && now.state.status !== 'restarting'),
              signal,
            ),
            signal,
          });
          for await (const chunk of reader) await writeOutput(stream, chunk, claim.cursorOf(reader));
        } finally {
          claim.release(signal.aborted);
        }
      },
      { inPieces: true, resumable: true, onExpired: () => claim.release(true) },
    );
    return { ticket, tty };
  }

  private reading(request: LogsRequest, { containerId, tty, details }: LogClaim['stream'], place?: LogPlace): ReadLogOptions {
    return {
      path: this.options.paths.log(containerId),
      stdout: request.stdout,
      stderr: request.stderr,
      tty,
      timestamps: request.timestamps,
      ...(details === undefined ? {} : { details }),
      ...(place === undefined ? { tail: request.tail } : { from: place }),
      ...(request.sinceNano === 0n ? {} : { since: request.sinceNano }),
      ...(request.untilNano === 0n ? {} : { until: request.untilNano }),
      follow: request.follow,
    };
  }

  private begin(request: LogsRequest): { claim: LogClaim; place?: LogPlace } {
    const { id, config, hostConfig } = findContainer(this.options.store, request.container);
    if (hostConfig.LogConfig?.Type === 'none') throw new NotImplemented('configured logging driver does not support reading');
    const details = request.details ? { details: logDetails(hostConfig.LogConfig ?? {}, config.Labels, config.Env) } : {};
    return { claim: this.options.claims.claim({ containerId: id, tty: config.Tty ?? false, ...details }) };
  }

  /** All there is, and the claim is given back; undefined, and it is kept, when that is too much for one answer. */
  private async readShort(request: LogsRequest, claim: LogClaim): Promise<Buffer | undefined> {
    const chunks: Buffer[] = [];
    let bytes = 0;
    try {
      for await (const chunk of readLog(this.reading(request, claim.stream))) {
        chunks.push(chunk);
        bytes += chunk.length;
        if (bytes > shortBytes) return undefined;
      }
    } catch (error) {
      claim.release(false);
      throw error;
    }
    claim.release(false);
    return Buffer.concat(chunks);
  }
}
