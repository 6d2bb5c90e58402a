/** Reading a container's log over a ticket. */
import { InvalidParameter, NotImplemented } from '@flotilla/errors';
import { type Ticket, type TicketServer, writeAll } from '@flotilla/streams';
import { logDetails, readLog } from './logs/index.ts';
import type { LogUsers } from './logUsers.ts';
import { findContainer } from './lookup.ts';
import type { Paths } from './paths.ts';
import type { ContainerStore } from './store.ts';
import type { ContainerChanges } from './waiting.ts';

export interface LogsOptions {
  readonly paths: Paths;
  readonly store: ContainerStore;
  readonly changes: ContainerChanges;
  readonly tickets: TicketServer;
  readonly users: LogUsers;
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
}

export class ContainerLogs {
  private readonly options: LogsOptions;

  constructor(options: LogsOptions) {
    this.options = options;
  }

  /** @throws NotFound; InvalidParameter without a stream; NotImplemented with the log driver none. @see Engine API v1.50 ContainerLogs */
  open(request: LogsRequest): { ticket: Ticket; tty: boolean } {
    const { store, tickets, users, paths, changes } = this.options;
    const container = findContainer(store, request.container);
    if (!request.stdout && !request.stderr) throw new InvalidParameter('Bad parameters: you must choose at least one stream');
    if (container.hostConfig.LogConfig?.Type === 'none') throw new NotImplemented('configured logging driver does not support reading');
    const tty = container.config.Tty ?? false;
    const { id, config, hostConfig } = container;
    const release = users.use(id);
    const ticket = tickets.issue(
      async (stream, signal) => {
        stream.resume();
        try {
          const reader = readLog({
            path: paths.log(id),
            stdout: request.stdout,
            stderr: request.stderr,
            tty,
            timestamps: request.timestamps,
            ...(request.details ? { details: logDetails(hostConfig.LogConfig ?? {}, config.Labels, config.Env) } : {}),
            ...(request.tail === undefined ? {} : { tail: request.tail }),
            ...(request.sinceNano === 0n ? {} : { since: request.sinceNano }),
            ...(request.untilNano === 0n ? {} : { until: request.untilNano }),
            follow: request.follow,
            // The log of a container that does not run is complete; of one that a policy starts again it goes on.
            ended: changes.when(
              id,
              store.containers.get(id),
              (now) => now === undefined || (now.state.run === undefined && now.state.status !== 'restarting'),
              signal,
            ),
            signal,
          });
          for await (const chunk of reader) await writeAll(stream, chunk);
        } finally {
          release();
        }
      },
      { onExpired: release },
    );
    return { ticket, tty };
  }
}
