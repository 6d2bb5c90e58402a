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
/** How long container-service may be away before the wait fails: its client has seen nothing of it yet, or waits already. */
const beginPatienceMs = 4_000;
const patienceMs = 60_000;
/** How long the news of a removal may take to come. */
const newsMs = 10_000;

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
    const attempt = new AbortController();
    let missed: Exit | undefined;
    try {
      for await (const { result } of containers.wait({ container, condition }, { signal: AbortSignal.any([signal, attempt.signal]) })) {
        if (result !== undefined) return result;
        if (!found) options.onFound();
        else if (condition === WaitCondition.NEXT_EXIT) {
          // It may have ended while nobody waited: then its next end is not the one.
          void news(options, began, ({ exit }) => exit !== undefined, attempt.signal).then(({ exit }) => {
            missed = exit;
            if (exit !== undefined) attempt.abort();
          }, noNews);
        }
        found = true;
        lostAtMs = 0;
      }
      return missed;
    } catch (error) {
      if (missed !== undefined) return missed;
      if (signal.aborted) throw error;
      // It was there when the wait began: it was removed while nobody could tell.
      if (found && isNotFound(error))
        return (await news(options, began, ({ removed }) => removed, signal)).exit ?? { exitCode: 0, error: '' };
      if (lostAtMs === 0) lostAtMs = Date.now();
      if (!isUnavailable(error) || Date.now() - lostAtMs > (found ? patienceMs : beginPatienceMs)) throw error;
    } finally {
      attempt.abort();
    }
    await pause(retryMs);
  }
}

const noNews = (): void => undefined;

interface Life {
  readonly exit?: Exit;
  readonly removed: boolean;
}

/**
 * What has become of the container, when events tell enough of it: they come some time after its record has changed, and not while NATS is away.
 *
 * @throws Unavailable when NATS stays away.
 */
async function news(options: WaitOptions, since: bigint, enough: (life: Life) => boolean, signal: AbortSignal): Promise<Life> {
  const askedAt = Date.now();
  let heardAt: number | undefined;
  for (;;) {
    try {
      const life = await lifeSince(options, since);
      heardAt ??= Date.now();
      if (enough(life) || signal.aborted || Date.now() - heardAt > newsMs) return life;
    } catch (error) {
      if (!isUnavailable(error) || signal.aborted || Date.now() - askedAt > patienceMs) throw error;
      // What it is told when it is back counts from then.
      heardAt = undefined;
    }
    await pause(retryMs);
  }
}

/** What events tell of the container: its last exit, and whether it was removed. */
async function lifeSince({ events, container, signal }: WaitOptions, since: bigint): Promise<Life> {
  const wanted = container.replace(/^\//, '');
  let exit: Exit | undefined;
  let removed = false;
  for await (const event of await events.follow({ since, until: BigInt(Date.now()) * 1_000_000n, signal })) {
    if (event.type !== 'container') continue;
    if (event.attributes.name !== wanted && !event.actorId.startsWith(wanted)) continue;
    if (event.action === 'die') exit = { exitCode: Number(event.attributes.exitCode ?? 0), error: '' };
    if (event.action === 'destroy') removed = true;
  }
  return { ...(exit && { exit }), removed };
}
