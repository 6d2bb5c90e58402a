import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { batches } from './batches.ts';

it('gives every byte in order, first ones at once, and stops a sender that is too fast', async () => {
  const body = new PassThrough({ highWaterMark: 1024 });
  const sent = Buffer.from(Array.from({ length: 50_000 }, (_, index) => index % 251));
  const sending = (async () => {
    for (let at = 0; at < sent.length; at += 500) {
      if (!body.write(sent.subarray(at, at + 500))) await new Promise((resolve) => body.once('drain', resolve));
    }
    body.end();
  })();
  const got: Buffer[] = [];
  for await (const batch of batches(body, 4096)) {
    const size = batch.reduce((sum, chunk) => sum + chunk.length, 0);
    expect(size).toBeLessThanOrEqual(4096 + 2048);
    got.push(...batch);
  }
  await sending;
  expect(Buffer.concat(got)).toEqual(sent);
});

it('gives what came before a failure, then the failure', async () => {
  const body = new PassThrough();
  body.write('abc');
  const got: string[] = [];
  await expect(
    (async () => {
      for await (const batch of batches(body, 4096)) {
        got.push(Buffer.concat(batch).toString());
        body.destroy(new Error('cut'));
      }
    })(),
  ).rejects.toThrow('cut');
  expect(got).toEqual(['abc']);
});
