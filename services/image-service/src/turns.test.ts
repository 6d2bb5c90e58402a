import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { Turns } from './turns.ts';

const longerThanATurnMs = 20;

it('lets others in once a turn has been long enough, and not before', async () => {
  const turns = new Turns();
  let others = 0;
  const other = nextTurn().then(() => others++);
  await turns.pass();
  expect(others).toBe(0);
  for (const end = performance.now() + longerThanATurnMs; performance.now() < end; );
  await turns.pass();
  await other;
  expect(others).toBe(1);
});

it('ends with its signal', async () => {
  const abort = new AbortController();
  const turns = new Turns(abort.signal);
  abort.abort(new Error('enough'));
  await pause(longerThanATurnMs);
  await expect(turns.pass()).rejects.toThrow('enough');
});
