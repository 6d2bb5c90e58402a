import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { proxyGone, send } from './distribution.ts';

/** Closes each connection when a request has come, as a process that ends does. */
const server = createServer((request) => request.socket.resetAndDestroy());
let address = '';

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => server.close());

it.each([
  ['GET', proxyGone],
  ['HEAD', proxyGone],
  ['POST', ''],
])('a %s that loses its instance before the answer is told as such when it can be asked again', async (method, code) => {
  await expect(send(address, { method, path: '/v2/' })).rejects.toMatchObject({ code, passing: true });
});
