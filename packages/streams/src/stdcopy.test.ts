import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeLine, frame, parseLines, type StandardStream, StdcopyDemultiplexer } from './index.ts';

describe('stdcopy frames', () => {
  it('have the header of the Engine API', () => {
    expect(frame(2, Buffer.from('hi'))).toEqual(Buffer.from([2, 0, 0, 0, 0, 0, 0, 2, 104, 105]));
  });

  it('survive any cutting', () => {
    const aFrame = fc.tuple(fc.constantFrom<StandardStream>(0, 1, 2), fc.uint8Array({ maxLength: 40 }));
    fc.assert(
      fc.property(fc.array(aFrame), fc.integer({ min: 1, max: 17 }), (frames, step) => {
        const bytes = Buffer.concat(frames.map(([stream, payload]) => frame(stream, payload)));
        const demultiplexer = new StdcopyDemultiplexer();
        const seen: [number, number[]][] = [];
        for (let at = 0; at < bytes.length; at += step) {
          for (const { stream, payload } of demultiplexer.push(bytes.subarray(at, at + step))) seen.push([stream, [...payload]]);
        }
        expect(seen).toEqual(frames.map(([stream, payload]) => [stream, [...payload]]));
        expect(demultiplexer.pending).toBe(0);
      }),
    );
  });

  it('refuse a header that is none', () => {
    expect(() => new StdcopyDemultiplexer().push(Buffer.from('HTTP/1.1'))).toThrow(/unknown stream/);
  });
});

describe('JSON lines', () => {
  async function* cut(bytes: Buffer, step: number): AsyncGenerator<Buffer> {
    for (let at = 0; at < bytes.length; at += step) yield bytes.subarray(at, at + step);
  }

  it('survive any cutting', async () => {
    const documents = [{ status: 'é' }, { id: 'x', progressDetail: {} }];
    const bytes = Buffer.concat(documents.map(encodeLine));
    for (const step of [1, 3, 7, 1000]) {
      const seen = [];
      for await (const document of parseLines(cut(bytes, step))) seen.push(document);
      expect(seen).toEqual(documents);
    }
  });

  it('do not grow without bound', async () => {
    const read = async (): Promise<void> => {
      for await (const _document of parseLines(cut(Buffer.alloc(5000, 97), 100), 1000));
    };
    await expect(read()).rejects.toThrow(RangeError);
  });
});
