/** Whether a client is still there: one that is stopped, or beyond a network that is gone, closes nothing. What builds of it hold goes with its session. */
import { setTimeout as sleep } from 'node:timers/promises';
import { HealthService } from '@flotilla/contracts/grpc/health/v1/health';
import { isNotImplemented } from '@flotilla/errors';
import type { GrpcConnection } from './grpcConnection.ts';

export interface HealthPace {
  readonly everyMs: number;
  /** For one answer. */
  readonly patienceMs: number;
}

/** BuildKit's own. HTTP/2's pings are nothing for that: clients end connections that ping them more than every five minutes. */
const defaultPace: HealthPace = { everyMs: 5000, patienceMs: 30_000 };
const mostMissed = 2;

/** Closes a connection when the client has missed two questions in a row. Ends with the connection. */
export async function closeWhenSilent(connection: GrpcConnection, { everyMs, patienceMs }: HealthPace = defaultPace): Promise<void> {
  const { closed } = connection;
  for (let missed = 0; !closed.aborted; ) {
    await sleep(everyMs, undefined, { signal: closed, ref: false }).catch(() => undefined);
    if (closed.aborted) return;
    missed = (await answers(connection, patienceMs)) ? 0 : missed + 1;
    if (missed >= mostMissed) connection.close();
  }
}

async function answers(connection: GrpcConnection, patienceMs: number): Promise<boolean> {
  try {
    await connection.call(HealthService.check, { service: '' }, connection.closed, patienceMs);
    return true;
  } catch (error) {
    // Somebody says so.
    return isNotImplemented(error);
  }
}
