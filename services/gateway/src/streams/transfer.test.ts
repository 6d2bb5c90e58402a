import { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { Unavailable } from '@flotilla/errors';
import { expect, it } from 'vitest';
import { sendRepeatable } from './transfer.ts';

const response = (): ServerResponse => Object.assign(new EventEmitter(), { destroyed: false, headersSent: false }) as ServerResponse;

it.each([
  ['at once', () => 0],
  ['when its deadline has passed', (deadlineMs: number) => deadlineMs],
])('asks again for a stream that nobody has, and is told so %s, until the time for all of it is over', async (_when, tookMs) => {
  const deadlines: number[] = [];
  const began = performance.now();
  const open = async (deadlineMs: number): Promise<never> => {
    deadlines.push(deadlineMs);
    await pause(tookMs(deadlineMs));
    throw new Unavailable('nobody is there');
  };
  await expect(sendRepeatable(response(), open, 800)).rejects.toMatchObject({ kind: 'Unavailable' });
  expect(deadlines[0]).toBeLessThanOrEqual(800);
  expect(deadlines).toEqual([...deadlines].sort((a, b) => b - a));
  expect(deadlines.length > 1).toBe(tookMs(1) === 0);
  expect(performance.now() - began).toBeLessThan(2_000);
});
