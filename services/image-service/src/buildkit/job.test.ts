import { expect, it } from 'vitest';
import { Jobs } from './job.ts';

it('who leaves waits for what ended builds have still to clear away', async () => {
  const jobs = new Jobs();
  const job = jobs.open('ref', 'session', new Set());
  const cleared = Promise.withResolvers<void>();
  const done: string[] = [];
  job.during(cleared.promise.then(() => done.push('cleared')));
  void jobs.close(job);
  const settled = jobs.settled().then(() => done.push('settled'));
  await job.ended;
  expect(done).toEqual([]);
  cleared.resolve();
  await settled;
  expect(done).toEqual(['cleared', 'settled']);
});
