/**
 * Waiting for a container over a restart of container-service: the call is made again, and what happened in between is read from the events.
 * A client of `docker wait` or `docker run` notices nothing.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { WaitCondition } from '@flotilla/contracts/flotilla/container/v1/containers';
import { isNotFound, isUnavailable } from '@flotilla/errors';
import type { Backends } from './backends.ts';
import type { Events } from './events/follow.ts';

export type Condition = (typeof WaitCondition)[keyof typeof WaitCondition];
export interface Exit {
  readonly exitCode: number;
  /** empty unless waiting itself failed */
  readonly error: string;
}

const retryMs = 200;
/** How long container-service may be away before the wait fails. */
const patienceMs = 60_000;

export interface WaitOptions {
  readonly containers: Backends['containers'];
  readonly events: Events;
  readonly container: string;
  readonly condition: Condition;
  readonly signal: AbortSignal;
  /** The container is there, and what happens to it from now on counts. Called once. */
  readonly onFound: () => void;
}

/**
 * @throws NotFound when there is no such container; Unavailable when container-service stays away; Cancelled when the signal fires.
 */
export async function waitForExit(options: WaitOptions): Promise<Exit | undefined> {
  const { containers, container, condition, signal } = options;
  const began = BigInt(Date.now()) * 1_000_000n;
  let found = false;
  let lostAtMs = 0;
  for (;;) {
    try {
      for await (const { result } of containers.wait({ container, condition }, { signal })) {
        if (result !== undefined) return result;
        if (!found) options.onFound();
        else {
          const missed = condition === WaitCondition.NEXT_EXIT ? await exitSince(options, began) : undefined;
          if (missed !== undefined) return missed;
        }
        found = true;
        lostAtMs = 0;
      }
      return undefined;
    } catch (error) {
      if (!found || signal.aborted) throw error;
      // It was there when the wait began: it was removed while nobody could tell.
      if (isNotFound(error)) return (await exitSince(options, began)) ?? { exitCode: 0, error: '' };
      if (lostAtMs === 0) lostAtMs = Date.now();
      if (!isUnavailable(error) || Date.now() - lostAtMs > patienceMs) throw error;
    }
    await pause(retryMs);
  }
}

/** The exit of the container that events tell of. */
async function exitSince({ events, container, signal }: WaitOptions, since: bigint): Promise<Exit | undefined> {
  const wanted = container.replace(/^\//, '');
  let exit: Exit | undefined;
  for await (const event of await events.follow({ since, until: BigInt(Date.now()) * 1_000_000n, signal })) {
    if (event.type !== 'container' || event.action !== 'die') continue;
    if (event.attributes.name !== wanted && !event.actorId.startsWith(wanted)) continue;
    exit = { exitCode: Number(event.attributes.exitCode ?? 0), error: '' };
  }
  return exit;
}
