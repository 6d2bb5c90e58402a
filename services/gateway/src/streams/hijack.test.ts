import { once } from 'node:events';
import { fstatSync, mkdtempSync, rmSync } from 'node:fs';
import { type ClientRequest, createServer, type IncomingMessage, request, type Server } from 'node:http';
import { createServer as createHttp2Server } from 'node:http2';
import { connect as connectSocket, createServer as createNetServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { InvalidParameter } from '@flotilla/errors';
import { openStanding, type TakeConnection, type Ticket, TicketServer, writeAll } from '@flotilla/streams';
import { descriptorOf, takeConnection } from '@flotilla/syscalls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { handOver, handOverWhenSpoken } from './hijack.ts';

let folder: string;
let gateway: Server;
let services: TicketServer[];
/** What a service has been asked to serve. */
let served: Socket[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hijack-'));
  services = [];
  served = [];
});
afterEach(async () => {
  for (const service of services) await service.close(100);
  gateway.closeAllConnections();
  await new Promise((resolve) => gateway.close(resolve));
  rmSync(folder, { recursive: true });
});

/** A service that gives back what it is sent. */
async function service(take?: TakeConnection): Promise<Ticket> {
  const made = new TicketServer({
    address: `unix:${folder}/service${services.length}.sock`,
    logger: { warn: () => undefined },
    ...(take && { take }),
  });
  services.push(made);
  await made.listen();
  return made.issueStanding((word) => {
    if (word.includes('refused')) throw new InvalidParameter('no');
    return async (stream) => {
      served.push(stream);
      // The word has in it what the client has said so far, where it is answered already.
      if (word.length > 0) stream.unshift(word);
      else stream.write(switching);
      for await (const chunk of stream) await writeAll(stream, chunk as Buffer);
    };
  }, 60_000);
}

const switching = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n';
const noWord = Buffer.alloc(0);

type Way = 'at once' | 'when it speaks';

function listen(ticket: Ticket, way: Way, word = noWord): Promise<void> {
  gateway = createServer((asked, response) => {
    const handed =
      way === 'at once'
        ? handOver(asked, response, (given) => openStanding(ticket, word, { given }))
        : handOverWhenSpoken(asked, response, 'h2c', (given, head) => openStanding(ticket, head, { given }));
    handed.catch((error: Error) => {
      response.statusCode = 400;
      response.end(error.message);
    });
  });
  (gateway as Server & { shouldUpgradeCallback: () => boolean }).shouldUpgradeCallback = () => false;
  return new Promise<void>((resolve) => gateway.listen(`${folder}/gateway.sock`, resolve));
}

/** A client that has been answered 101. */
async function connect(ticket: Ticket, way: Way = 'at once'): Promise<Socket> {
  await listen(ticket, way);
  const [answer, client] = (await once(ask(), 'upgrade')) as [{ statusCode: number }, Socket];
  expect(answer.statusCode).toBe(101);
  return client;
}

function ask(): ClientRequest {
  const headers = { Connection: 'Upgrade', Upgrade: 'h2c' };
  return request({ socketPath: `${folder}/gateway.sock`, method: 'POST', headers }).end();
}

async function echo(client: Socket, words: string): Promise<string> {
  client.write(words);
  let heard = '';
  while (heard.length < words.length) heard += String((await once(client, 'data'))[0]);
  return heard;
}

/** Connections that the gateway has. */
function held(): Promise<number> {
  return new Promise((resolve, reject) => gateway.getConnections((error, count) => (error === null ? resolve(count) : reject(error))));
}

const ways: readonly Way[] = ['at once', 'when it speaks'];

describe.each(ways)('an upgrade that is handed over %s', (way) => {
  it("gives the client's connection to a service that takes it, and keeps nothing of it", async () => {
    const client = await connect(await service(takeConnection), way);
    expect(await echo(client, 'one')).toBe('one');
    await expect.poll(held).toBe(0);
    const long = 'long '.repeat(200_000);
    expect(await echo(client, long)).toBe(long);
    client.end();
    await once(client, 'end');
    await expect.poll(() => served[0]?.destroyed).toBe(true);
  });

  it.each<[string, TakeConnection | undefined]>([
    ['that cannot take connections', undefined],
    [
      'that fails to take it',
      () => {
        throw new Error('not permitted');
      },
    ],
    ['that finds another socket under its number', (peer, { fd, inode }) => takeConnection(peer, { fd, inode: inode + 1 })],
    ['that finds no such number', (peer, { inode }) => takeConnection(peer, { fd: 99_999, inode })],
  ])("passes the client's bytes to a service %s", async (_, take) => {
    const client = await connect(await service(take), way);
    expect(await echo(client, 'one')).toBe('one');
    expect(await held()).toBe(1);
    client.end();
    await once(client, 'end');
    await expect.poll(held).toBe(0);
  });
});

describe('an upgrade', () => {
  it('is seen to end by a service that speaks HTTP/2, also when its client leaves while it is given', async () => {
    const speaking = createHttp2Server();
    const taking = new TicketServer({ address: `unix:${folder}/http2.sock`, logger: { warn: () => undefined }, take: takeConnection });
    services.push(taking);
    await taking.listen();
    const ticket = taking.issueStanding(
      () => async (stream) => {
        const gone = once(stream, 'close');
        stream.allowHalfOpen = false;
        speaking.emit('connection', stream);
        await gone;
      },
      60_000,
    );
    gateway = createServer();
    // Whoever is giving it away does not read it.
    const front = createNetServer({ pauseOnConnect: true });
    const came = once(front, 'connection');
    await new Promise<void>((resolve) => front.listen(`${folder}/front.sock`, resolve));
    const client = connectSocket(`${folder}/front.sock`);
    const [own] = (await came) as [Socket];
    const fd = descriptorOf(own) ?? -1;
    client.destroy();
    await pause(50);
    const { isTaken } = await openStanding(ticket, noWord, { given: { fd, inode: fstatSync(fd).ino } });
    expect(isTaken).toBe(true);
    own.destroy();
    front.close();
    await expect.poll(() => taking.isBusy).toBe(false);
  });

  it('that a service refuses is answered as any request is', async () => {
    await listen(await service(takeConnection), 'at once', Buffer.from('refused'));
    const [answer] = (await once(ask(), 'response')) as [IncomingMessage];
    expect([answer.statusCode, String((await once(answer, 'data'))[0])]).toEqual([400, 'no']);
  });

  it('troubles no service with a client that leaves without a word', async () => {
    const client = await connect(await service(takeConnection), 'when it speaks');
    client.end();
    await once(client.resume(), 'close');
    await expect.poll(held).toBe(0);
    expect(served).toEqual([]);
  });

  it('whose client speaks when no service is there any more loses its connection', async () => {
    const client = await connect(await service(takeConnection), 'when it speaks');
    await services.pop()?.close(50);
    client.write('one');
    await once(client.resume(), 'close');
    await expect.poll(held).toBe(0);
  });

  it('ends the connection it has given when the service stops', async () => {
    const client = await connect(await service(takeConnection));
    expect(await echo(client, 'one')).toBe('one');
    const ended = once(client.resume(), 'end');
    await services.pop()?.close(50);
    await ended;
    expect(served[0]?.destroyed).toBe(true);
  });
});
