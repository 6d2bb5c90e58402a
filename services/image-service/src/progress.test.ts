import type { ProgressMessage } from '@flotilla/engine-api';
import { describe, expect, it } from 'vitest';
import { LineQueue, withProgress } from './lineQueue.ts';
import { bar, failure, humanSize, message, step } from './progress.ts';

describe('progress lines', () => {
  it("are dockerd's", () => {
    expect(message('Pulling from a', 'latest')).toEqual({ status: 'Pulling from a', id: 'latest' });
    expect(step('Waiting', 'abc')).toEqual({ status: 'Waiting', progressDetail: {}, id: 'abc' });
    expect(bar('Downloading', 'abc', 512, 1024)).toEqual({
      status: 'Downloading',
      progressDetail: { current: 512, total: 1024 },
      progress: `[${'='.repeat(25)}>${' '.repeat(25)}]     512B/1.024kB`,
      id: 'abc',
    });
    expect(bar('Extracting', 'abc', 1024, 1024).progress).toBe(`[${'='.repeat(50)}>] ${'1.024kB'.padStart(8)}/1.024kB`);
    expect(failure('no')).toEqual({ errorDetail: { message: 'no' }, error: 'no' });
  });
  it.each([
    [0, '0B'],
    [999, '999B'],
    [1000, '1kB'],
    [1_234_567, '1.235MB'],
    [2_000_000_000, '2GB'],
  ])('%d bytes are %s', (bytes, text) => expect(humanSize(bytes)).toBe(text));
});

describe('a stream of lines', () => {
  const collect = async (lines: AsyncIterable<ProgressMessage>): Promise<ProgressMessage[]> => {
    const all: ProgressMessage[] = [];
    for await (const line of lines) all.push(line);
    return all;
  };

  it('replaces bars that nobody has read yet, and no other line', async () => {
    const queue = new LineQueue();
    queue.push(bar('Downloading', 'a', 1, 3));
    queue.push(bar('Downloading', 'a', 2, 3));
    queue.push(bar('Downloading', 'b', 1, 3));
    queue.push(bar('Downloading', 'a', 3, 3));
    queue.push(message('x'));
    queue.push(message('x'));
    queue.end();
    expect((await collect(queue.read())).map((line) => [line.status, line.progressDetail?.current])).toEqual([
      ['Downloading', 3],
      ['Downloading', 1],
      ['x', undefined],
      ['x', undefined],
    ]);
  });

  it('ends with an error line after the first line, and throws before it', async () => {
    const late = withProgress(
      async (push) => {
        push(message('x'));
        throw new Error('late');
      },
      (error) => failure(String(error)),
    );
    expect((await collect(late)).at(-1)).toEqual(failure('Error: late'));
    const early = withProgress(
      async () => {
        throw new Error('early');
      },
      (error) => failure(String(error)),
    );
    await expect(collect(early)).rejects.toThrow('early');
  });
});
