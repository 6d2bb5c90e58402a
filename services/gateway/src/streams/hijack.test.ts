import { once } from 'node:events';
import { fstatSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, request, type Server } from 'node:http';
import { createServer as createHttp2Server } from 'node:http2';
import { connect as connectSocket, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { giveConnection, type TakeConnection, type Ticket, TicketServer, writeAll } from '@flotilla/streams';
import { descriptorOf, takeConnection } from '@flotilla/syscalls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { upgrade } from './hijack.ts';

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
  return made.issue(
    async (stream) => {
      served.push(stream);
      for await (const chunk of stream) await writeAll(stream, chunk as Buffer);
    },
    { takesConnection: true },
  );
}

/** A client that has been answered 101. */
async function connect(ticket: Ticket): Promise<Socket> {
  gateway = createServer((asked, response) => void upgrade(asked, response, ticket, 'h2c', new AbortController().signal));
  (gateway as Server & { shouldUpgradeCallback: () => boolean }).shouldUpgradeCallback = () => false;
  await new Promise<void>((resolve) => gateway.listen(`${folder}/gateway.sock`, resolve));
  const asked = request({ socketPath: `${folder}/gateway.sock`, method: 'POST', headers: { Connection: 'Upgrade', Upgrade: 'h2c' } });
  asked.end();
  const [answer, client] = (await once(asked, 'upgrade')) as [{ statusCode: number }, Socket];
  expect(answer.statusCode).toBe(101);
  return client;
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

describe('an upgrade', () => {
  it("gives the client's connection to a service that takes it, and keeps nothing of it", async () => {
    const client = await connect(await service(takeConnection));
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
    const client = await connect(await service(take));
    expect(await echo(client, 'one')).toBe('one');
    expect(await held()).toBe(1);
    client.end();
    await once(client, 'end');
    await expect.poll(held).toBe(0);
  });

  it('is seen to end by a service that speaks HTTP/2, also when its client leaves while it is given', async () => {
    const speaking = createHttp2Server();
    const taking = new TicketServer({ address: `unix:${folder}/http2.sock`, logger: { warn: () => undefined }, take: takeConnection });
    services.push(taking);
    await taking.listen();
    const ticket = taking.issue(
      async (stream) => {
        const gone = once(stream, 'close');
        stream.allowHalfOpen = false;
        speaking.emit('connection', stream);
        await gone;
      },
      { takesConnection: true },
    );
    gateway = createServer();
    const came = once(gateway, 'connection');
    await new Promise<void>((resolve) => gateway.listen(`${folder}/gateway.sock`, resolve));
    const client = connectSocket(`${folder}/gateway.sock`);
    const [own] = (await came) as [Socket];
    const fd = descriptorOf(own) ?? -1;
    const { stream, isTaken } = await giveConnection(ticket, { fd, inode: fstatSync(fd).ino }, {});
    expect(isTaken).toBe(true);
    client.destroy();
    await pause(50);
    own.destroy();
    stream.end();
    await expect.poll(() => taking.isBusy).toBe(false);
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
