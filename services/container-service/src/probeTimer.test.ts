import { expect, it } from 'vitest';
import { ProbeTimer } from './probeTimer.ts';

const expiry = (timer: ProbeTimer): Promise<string | undefined> =>
  new Promise((resolve) => timer.signal.addEventListener('abort', () => resolve(timer.expired)));
const rest = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

it('what the process takes to come up is not taken from its time', async () => {
  const timer = new ProbeTimer(10_000, 300);
  await rest(400);
  timer.started();
  expect(timer.expired).toBeUndefined();
  const begun = performance.now();
  // A second telling gives no second time.
  setTimeout(timer.started, 100);
  expect(await expiry(timer)).toBe('running');
  expect(performance.now() - begun).toBeGreaterThan(290);
});

it('one that never comes up is given up', async () => {
  const timer = new ProbeTimer(10, 10_000);
  expect(await expiry(timer)).toBe('starting');
  timer.started();
  expect(timer.expired).toBe('starting');
});
