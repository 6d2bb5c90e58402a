import { AsyncLocalStorage } from 'node:async_hooks';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { InvalidParameter } from '@flotilla/errors';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { dialTicket, joinStreams, openStanding, TicketServer, writeAll } from './index.ts';

let folder: string;
let server: TicketServer;
const logger = { warn: () => undefined };

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ticket-'));
  server = new TicketServer({ address: `unix:${folder}/s.sock`, logger });
  await server.listen();
});
afterEach(async () => {
  await server.close(100);
  rmSync(folder, { recursive: true });
});

async function collect(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

describe('tickets', () => {
  it('carry bytes both ways, and an end in one direction leaves the other open', async () => {
    const ticket = server.issue(async (stream) => {
      const got = await collect(stream);
      await writeAll(stream, `got ${got.length}`);
    });
    const stream = await dialTicket(ticket);
    stream.end(Buffer.alloc(300_000));
    expect((await collect(stream)).toString()).toBe('got 300000');
  });

  it('are served for the request that they were promised to', async () => {
    const request = new AsyncLocalStorage<string>();
    const ticket = request.run('one', () => server.issue((stream) => writeAll(stream, request.getStore() ?? 'nobody')));
    expect((await collect(await request.run('two', () => dialTicket(ticket)))).toString()).toBe('one');
  });

  it('work once', async () => {
    const ticket = server.issue(async () => undefined);
    (await dialTicket(ticket)).destroy();
    await expect(dialTicket(ticket)).rejects.toMatchObject({ kind: 'Unavailable', message: 'this ticket is unknown, used or too old' });
  });

  it('run out, and say so to their issuer', async () => {
    const expired = new Promise<void>((resolve) => server.issue(async () => undefined, { ttlMs: 5, onExpired: resolve }));
    await expired;
  });

  it('say so too when their server closes first', async () => {
    let expired = 0;
    server.issue(async () => undefined, { onExpired: () => expired++ });
    await server.close(100);
    expect(expired).toBe(1);
    await server.listen();
  });

  it.each(['', 'nonsense\n', `${'a'.repeat(1000)}`])('refuse a peer that sends %j', async (hello) => {
    const socket = connect({ path: `${folder}/s.sock`, allowHalfOpen: true });
    socket.end(hello);
    expect((await collect(socket)).toString()).toMatch(/^-/);
    socket.destroy();
  });

  it('tell the server of an output-only stream when the holder has gone', async () => {
    const gone = new Promise<void>((resolve) => {
      const ticket = server.issue(
        async (_stream, signal) => {
          await new Promise<void>((done) => signal.addEventListener('abort', () => done()));
          resolve();
        },
        { outputOnly: true },
      );
      void dialTicket(ticket).then((stream) => stream.destroy());
    });
    await gone;
  });

  it('fail clearly when nobody listens', async () => {
    await expect(dialTicket({ address: `unix:${folder}/none.sock`, token: 'x' })).rejects.toMatchObject({ kind: 'Unavailable' });
  });
});

describe('standing tickets', () => {
  it('open streams as often as they are asked to, each for what its word says', async () => {
    const ticket = server.issueStanding((word) => (stream) => writeAll(stream, `for ${word.toString()}`), 60_000);
    const long = 'long '.repeat(50_000);
    const opened = await Promise.all(['one', long].map((word) => openStanding(ticket, Buffer.from(word), {})));
    const heard = await Promise.all(opened.map(({ stream }) => collect(stream)));
    expect(heard.map(String)).toEqual(['for one', `for ${long}`]);
  });

  it('refuse a word by the class of the error, and in its own words', async () => {
    const ticket = server.issueStanding(() => {
      throw new InvalidParameter('session "é\n" already exists');
    }, 60_000);
    const refused = openStanding(ticket, Buffer.from('x'), {});
    await expect(refused).rejects.toMatchObject({ kind: 'InvalidParameter', message: 'session "é " already exists' });
  });

  it('run out', async () => {
    const ticket = server.issueStanding(() => async () => undefined, 1);
    await new Promise((resolve) => setTimeout(resolve, 20));
    const late = openStanding(ticket, Buffer.from('x'), {});
    await expect(late).rejects.toMatchObject({ kind: 'Unavailable', message: 'this ticket is unknown, used or too old' });
  });

  it('hold up no server that stops', async () => {
    server.issueStanding(() => async () => undefined, 60_000);
    expect(server.isBusy).toBe(false);
  });

  it.each([
    ['that ends in the middle of its word', '10\nabc', /^-InvalidParameter the stream ended/],
    ['whose word is too long', '9999999\nabc', /^-InvalidParameter what the stream is for/],
    ['that sends what is no number', '12x\nabc', /^-this ticket is unknown/],
  ])('refuse a peer %s', async (_, rest, answer) => {
    const { token } = server.issueStanding(() => async () => undefined, 60_000);
    const socket = connect({ path: `${folder}/s.sock`, allowHalfOpen: true });
    socket.end(`${token} ${rest}`);
    expect((await collect(socket)).toString()).toMatch(answer);
  });
});

describe('joinStreams', () => {
  it('passes 20 MB through unharmed with half-close and leaves nothing open', async () => {
    const content = randomBytes(20_000_000);
    const ticket = server.issue(async (stream) => {
      const hash = createHash('sha256');
      for await (const chunk of stream) {
        hash.update(chunk as Buffer);
        await writeAll(stream, chunk as Buffer);
      }
      await writeAll(stream, hash.digest());
    });
    const joined: Promise<void>[] = [];
    const front = createServer({ allowHalfOpen: true }, (client) => {
      void dialTicket(ticket).then((upstream) => joined.push(joinStreams(client, upstream)));
    });
    await new Promise<void>((resolve) => front.listen(`${folder}/front.sock`, resolve));
    const client = connect({ path: `${folder}/front.sock`, allowHalfOpen: true });
    client.end(content);
    const answer = await collect(client);
    expect(answer.subarray(0, content.length).equals(content)).toBe(true);
    expect(answer.subarray(content.length).equals(createHash('sha256').update(content).digest())).toBe(true);
    await Promise.all(joined);
    await new Promise((resolve) => front.close(resolve));
  });
});
