import { once } from 'node:events';
import { Agent, createServer, get, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { drainHttp } from './httpDrain.ts';
import { Lifecycle } from './lifecycle.ts';
import { createLogger } from './logger.ts';

const logger = createLogger({ service: 'test', instance: 'i', level: 'silent' });

async function answerOf(port: number, path: string, agent: Agent): Promise<IncomingMessage> {
  const [answer] = (await once(get({ port, path, agent }), 'response')) as [IncomingMessage];
  return answer;
}

it('a drain takes nothing new, cuts nothing, and stops when the last is done', async () => {
  const held: ServerResponse[] = [];
  const server = createServer((request, response) => {
    if (request.url === '/long') {
      response.write('begun');
      held.push(response);
    } else response.end('short');
  });
  await new Promise<void>((resolve) => server.listen(0, resolve));
  const { port } = server.address() as AddressInfo;
  const lifecycle = new Lifecycle(logger);
  lifecycle.onDrain(drainHttp('server', server));
  let stopped = false;
  lifecycle.onStop('the rest', () => {
    stopped = true;
  });

  const [kept, other] = [new Agent({ keepAlive: true }), new Agent({ keepAlive: true })];
  (await answerOf(port, '/short', kept)).resume();
  const long = await answerOf(port, '/long', other);
  const drained = lifecycle.drain();
  // A client that goes on on its connection is answered, and told to come by another one.
  const last = await answerOf(port, '/short', kept);
  expect(last.statusCode).toBe(200);
  expect(last.headers.connection).toBe('close');
  await expect(answerOf(port, '/short', new Agent())).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  await pause(700);
  expect(stopped).toBe(false);
  held[0]?.end(' and ended');
  let text = '';
  for await (const chunk of long.setEncoding('utf8')) text += chunk;
  expect(text).toBe('begun and ended');
  await drained;
  expect(stopped).toBe(true);
  for (const agent of [kept, other]) agent.destroy();
});

it('a drain sends on its way what can go on elsewhere, and does not outlast a stop', async () => {
  let streams = 1;
  const moving = new Lifecycle(logger);
  moving.onDrain({
    name: 'streams',
    move: () => {
      streams = 0;
    },
    isBusy: () => streams > 0,
  });
  await moving.drain();
  expect(streams).toBe(0);

  const stuck = new Lifecycle(logger);
  stuck.onDrain({ name: 'a client who stays', isBusy: () => true });
  const draining = stuck.drain();
  await stuck.stop();
  await draining;
});
