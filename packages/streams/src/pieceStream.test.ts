import { mkdtempSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { Unavailable } from '@flotilla/errors';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { dialTicket, type Ticket, TicketServer, writeOutput, writeTaken } from './index.ts';
import { PieceParser } from './pieces.ts';

let folder: string;
let server: TicketServer;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pieces-'));
  server = new TicketServer({ address: `unix:${folder}/s.sock`, logger: { warn: () => undefined } });
  await server.listen();
});
afterEach(async () => {
  await server.close(100);
  rmSync(folder, { recursive: true });
});

async function text(stream: Duplex): Promise<string> {
  let all = '';
  for await (const chunk of stream) all += String(chunk);
  return all;
}

/** Serves the numbers behind `cursor`, and is cut after `count` of them, in the middle of the next piece. */
function counter(from: number, count: number, last: number): Ticket {
  return server.issue(
    async (stream) => {
      stream.resume();
      await writeOutput(stream, Buffer.alloc(0), `${from}`);
      for (let number = from + 1; number <= last; number++) {
        if (number > from + count) {
          // The beginning of a piece of 100 bytes.
          await new Promise((resolve) => stream.write(Buffer.from([1, 1, 0, 0, 0, 100, 0x39, 0x78]), resolve));
          stream.destroy();
          return;
        }
        await writeOutput(stream, Buffer.from(`${number} `), `${number}`);
      }
    },
    { inPieces: true, resumable: true },
  );
}

describe('a stream in pieces', () => {
  it('goes on behind the last whole piece, however often it is cut', async () => {
    const stream = await dialTicket(counter(0, 2, 9), { resume: async (cursor) => counter(Number(cursor), 3, 9) });
    expect(await text(stream)).toBe('1 2 3 4 5 6 7 8 9 ');
  });

  it('waits for an instance that can serve it', async () => {
    let refusals = 3;
    const resume = async (cursor: string): Promise<Ticket> => {
      if (refusals-- > 0) throw new Unavailable('not yet');
      return counter(Number(cursor), 10, 4);
    };
    expect(await text(await dialTicket(counter(0, 1, 4), { resume }))).toBe('1 2 3 4 ');
  });

  it('fails when it is cut and cannot go on, and never looks whole', async () => {
    await expect(text(await dialTicket(counter(0, 2, 9)))).rejects.toMatchObject({ kind: 'Unavailable' });
    const stream = await dialTicket(counter(0, 2, 9), { lastWords: async () => Buffer.from('lost') });
    expect(await text(stream)).toBe('1 2 lost');
  });

  it('is opened anew when it is cut before it has begun, and does not keep its holder waiting when it cannot be', async () => {
    const cut = (): Ticket => server.issue(async (stream) => void stream.destroy(), { inPieces: true, resumable: true });
    const resume = async (cursor: string): Promise<Ticket> => counter(Number(cursor), 10, 4);
    let starts = 0;
    const restart = async (): Promise<Ticket> => (++starts < 3 ? cut() : counter(0, 2, 4));
    expect(await text(await dialTicket(cut(), { resume, restart }))).toBe('1 2 3 4 ');
    expect(starts).toBe(3);
    const nobody: Ticket = { address: `unix:${folder}/gone.sock`, token: 'x', inPieces: true };
    expect(await text(await dialTicket(nobody, { resume, restart }))).toBe('1 2 3 4 ');
    await expect(dialTicket(cut(), { resume })).rejects.toMatchObject({ kind: 'Unavailable' });
    expect(await text(await dialTicket(cut(), { resume, lastWords: async () => Buffer.from('lost') }))).toBe('lost');
  });

  it('gives up when every instance cuts it at once', async () => {
    const resume = async (): Promise<Ticket> => server.issue(async (stream) => void stream.destroy(), { inPieces: true });
    await expect(text(await dialTicket(counter(0, 1, 9), { resume }))).rejects.toThrow('the stream to the service broke');
  });

  it('sends input again that had not reached its goal, and its end', async () => {
    const took: Buffer[] = [];
    const serve = async (stream: Socket, limit: number): Promise<void> => {
      await writeOutput(stream, Buffer.alloc(0), 'x');
      let bytes = 0;
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        const part = chunk.subarray(0, limit - bytes);
        bytes += part.length;
        took.push(Buffer.from(part));
        writeTaken(stream, part.length);
        if (bytes >= limit) {
          await new Promise((resolve) => setTimeout(resolve, 20));
          stream.destroy();
        }
      }
    };
    const ticket = (limit: number): Ticket =>
      server.issue((stream) => serve(stream, limit).catch((error) => (limit === Infinity ? Promise.reject(error) : undefined)), {
        inPieces: true,
      });
    const input = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index % 251));
    const stream = await dialTicket(ticket(100_000), { resume: async () => ticket(Number.POSITIVE_INFINITY) });
    stream.end(input);
    await text(stream);
    expect(Buffer.concat(took).equals(input)).toBe(true);
  });

  it('is read from parts of any size', () => {
    const pieces = new PieceParser();
    const bytes = Buffer.concat([
      Buffer.from([1, 2, 0, 0, 0, 3]),
      Buffer.from('ababc'),
      Buffer.from([2, 0, 0, 0, 0, 9]),
      Buffer.from([3, 0, 0, 0, 0, 0]),
    ]);
    const found = [...bytes].flatMap((byte) => pieces.push(Buffer.from([byte])));
    expect(found.map(({ kind, cursor, length, payload }) => [kind, cursor, length, Buffer.concat(payload).toString()])).toEqual([
      [1, 'ab', 3, 'abc'],
      [2, '', 9, ''],
      [3, '', 0, ''],
    ]);
    expect(() => pieces.push(Buffer.from([9, 0, 0, 0, 0, 0]))).toThrow('a piece of kind 9 is unknown');
  });
});
