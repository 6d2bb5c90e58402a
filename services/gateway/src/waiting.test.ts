import { WaitCondition } from '@flotilla/contracts/flotilla/container/v1/containers';
import { Event } from '@flotilla/contracts/flotilla/events/v1/event';
import { isNotFound, NotFound, Unavailable } from '@flotilla/errors';
import { describe, expect, it } from 'vitest';
import type { Events } from './events/follow.ts';
import { FakeBackends } from './testing/fakeBackends.ts';
import { type Condition, type Exit, waitForExit } from './waiting.ts';

const untilAborted = Symbol('until the call is cancelled');

/** Each attempt is what the wait says: messages, then perhaps an error. */
async function waited(
  condition: Condition,
  attempts: unknown[][],
  events: Event[] = [],
  /** How often events are asked for before these are there. */
  late = 0,
  /** How often before that NATS does not answer. */
  away = 0,
): Promise<{ exit: Exit | undefined; found: number }> {
  const backends = new FakeBackends();
  const pending = [...attempts];
  const containers = {
    ...backends.containers,
    wait: async function* (_request: unknown, options?: { readonly signal?: AbortSignal }) {
      for (const step of pending.shift() ?? [new Unavailable('gone')]) {
        if (step instanceof Error) throw step;
        if (step === untilAborted) {
          await new Promise((resolve) => options?.signal?.addEventListener('abort', resolve));
          options?.signal?.throwIfAborted();
        }
        yield step as { result?: Exit };
      }
    },
  };
  let asked = 0;
  const feed: Events = {
    followerCount: 0,
    follow: async () => {
      if (asked++ < away) throw new Unavailable('the event stream is not available');
      return (async function* () {
        if (asked > away + late) yield* events;
      })();
    },
  };
  let found = 0;
  const exit = await waitForExit({
    containers,
    events: feed,
    container: 'web',
    condition,
    signal: new AbortController().signal,
    onFound: () => {
      found++;
    },
  });
  return { exit, found };
}

const die = Event.fromPartial({ type: 'container', action: 'die', actorId: 'abc', attributes: { name: 'web', exitCode: '7' } });
const destroy = Event.fromPartial({ type: 'container', action: 'destroy', actorId: 'abc', attributes: { name: 'web' } });
const result = { result: { exitCode: 3, error: '' } };
const lost = new Unavailable('connection dropped');

describe('waiting', () => {
  it('gives the result', async () => {
    expect(await waited(WaitCondition.NOT_RUNNING, [[{}, result]])).toEqual({ exit: result.result, found: 1 });
  });

  it('waits again when the service was lost', async () => {
    expect(await waited(WaitCondition.NOT_RUNNING, [[{}, lost], [lost], [{}, result]])).toEqual({ exit: result.result, found: 1 });
  });

  it('asks again when the service was lost before the container was found', async () => {
    expect(await waited(WaitCondition.NEXT_EXIT, [[lost], [{}, result]])).toEqual({ exit: { exitCode: 3, error: '' }, found: 1 });
  });

  it('learns from events what it missed', async () => {
    expect((await waited(WaitCondition.REMOVED, [[{}, lost], [new NotFound('No such container: web')]], [die, destroy])).exit).toEqual({
      exitCode: 7,
      error: '',
    });
    expect(
      (
        await waited(
          WaitCondition.NEXT_EXIT,
          [
            [{}, lost],
            [{}, untilAborted],
          ],
          [die],
        )
      ).exit,
    ).toEqual({ exitCode: 7, error: '' });
  });

  it('waits for events that come after the record has changed', async () => {
    const gone = [[{}, lost], [new NotFound('No such container: web')]];
    expect((await waited(WaitCondition.REMOVED, gone, [die, destroy], 2)).exit).toEqual({ exitCode: 7, error: '' });
    expect((await waited(WaitCondition.REMOVED, gone, [destroy], 1)).exit).toEqual({ exitCode: 0, error: '' });
    expect(
      (
        await waited(
          WaitCondition.NEXT_EXIT,
          [
            [{}, lost],
            [{}, untilAborted],
          ],
          [die],
          2,
        )
      ).exit,
    ).toEqual({ exitCode: 7, error: '' });
  });

  it('waits for events also while nobody tells any', async () => {
    const gone = [[{}, lost], [new NotFound('No such container: web')]];
    expect((await waited(WaitCondition.REMOVED, gone, [die, destroy], 1, 3)).exit).toEqual({ exitCode: 7, error: '' });
    const again = [
      [{}, lost],
      [{}, untilAborted],
    ];
    expect((await waited(WaitCondition.NEXT_EXIT, again, [die], 0, 3)).exit).toEqual({ exitCode: 7, error: '' });
  });

  it('fails soon before the container was found', async () => {
    await expect(waited(WaitCondition.REMOVED, [[new NotFound('No such container: web')]])).rejects.toSatisfy(isNotFound);
    await expect(waited(WaitCondition.REMOVED, [[lost]])).rejects.toThrow('gone');
  });
});
