import { expect, it } from 'vitest';
import { SingleFlight } from './singleFlight.ts';
import { Slots } from './slots.ts';

it('gives so many slots a key, and passes each on in order', async () => {
  const slots = new Slots(() => 1);
  const order: string[] = [];
  const first = await slots.take('a');
  const second = slots.take('a').then((give) => {
    order.push('second');
    return give;
  });
  const third = slots.take('a').then((give) => {
    order.push('third');
    return give;
  });
  (await slots.take('b'))();
  expect(order).toEqual([]);
  first();
  first();
  (await second)();
  (await third)();
  expect(order).toEqual(['second', 'third']);
  (await slots.take('a'))();
});

it('lets callers at the same time share one piece of work, and forgets a failure', async () => {
  const flight = new SingleFlight<number>();
  let times = 0;
  const work = async (): Promise<number> => {
    times++;
    if (times === 1) throw new Error('no');
    return times;
  };
  const results = await Promise.allSettled([flight.do('a', work), flight.do('a', work)]);
  expect([results.map((each) => each.status), times]).toEqual([['rejected', 'rejected'], 1]);
  expect(await flight.do('a', work)).toBe(2);
});
