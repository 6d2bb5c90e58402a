import { PassThrough, Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { chunksOf } from './chunks.ts';

async function readAll(stream: Readable): Promise<Buffer[]> {
  const chunks: Buffer[] = [];
  for await (const chunk of chunksOf(stream)) chunks.push(chunk);
  return chunks;
}

describe('chunksOf', () => {
  it('gives every chunk as it came', async () => {
    const stream = new PassThrough({ highWaterMark: 1024 });
    const sent = Array.from({ length: 50 }, (_, index) => Buffer.alloc(100, index));
    Readable.from(sent).pipe(stream);
    const got: Buffer[] = [];
    for await (const chunk of chunksOf(stream)) {
      got.push(chunk);
      if (got.length % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    expect(got).toEqual(sent);
  });

  it('tells a stream that was cut from one that has ended', async () => {
    const stream = new PassThrough();
    const reading = readAll(stream);
    stream.write('half');
    setImmediate(() => stream.destroy());
    await expect(reading).rejects.toThrow('closed before its end');
    await expect(readAll(stream)).rejects.toThrow('closed before its end');
  });

  it('passes a failure on', async () => {
    const stream = new PassThrough();
    const reading = readAll(stream);
    setImmediate(() => stream.destroy(new Error('broken')));
    await expect(reading).rejects.toThrow('broken');
  });

  it('leaves the stream open, and nothing of its own on it, when it is left early', async () => {
    const stream = new PassThrough();
    stream.write('one');
    for await (const _ of chunksOf(stream)) break;
    expect(stream.destroyed).toBe(false);
    expect(stream.listenerCount('data')).toBe(0);
  });
});
