import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { dispatch } from './dispatch.ts';

let server: Server | undefined;
afterEach(() => server?.close());

describe('a ping', () => {
  it.each([
    ['2', {}],
    ['2', { classicBuilder: false }],
    ['1', { classicBuilder: true }],
  ])('names builder %s with %j, whichever way it is asked', async (version, options) => {
    server = createServer(dispatch((_request, response) => response.end(), options));
    await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    for (const method of ['GET', 'HEAD']) {
      const answer = await fetch(`http://127.0.0.1:${port}/v1.41/_ping`, { method });
      expect([answer.status, answer.headers.get('builder-version'), await answer.text()]).toEqual([
        200,
        version,
        method === 'GET' ? 'OK' : '',
      ]);
    }
  });
});
