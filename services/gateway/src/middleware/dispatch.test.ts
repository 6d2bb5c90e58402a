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

describe('a version that is not spoken', () => {
  it.each([
    ['GET', '/v1.12/containers/json', 400, 'client version 1.12 is too old'],
    ['HEAD', '/v1.12/info', 400, ''],
    ['GET', '/v9.9/version?x=1', 400, 'client version 9.9 is too new'],
    ['GET', '/v1.12/nothing', 404, 'page not found'],
    ['POST', '/v1.12/containers/json', 404, 'page not found'],
    ['GET', '/v9.9', 404, 'page not found'],
  ])('%s %s is answered %i %s', async (method, path, status, message) => {
    server = createServer(dispatch((_request, response) => response.end()));
    await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method });
    expect(answer.status).toBe(status);
    expect(await answer.text()).toContain(message);
  });
});
