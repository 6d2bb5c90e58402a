import { createServer, get, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { guardAccess } from './access.ts';
import { operationOf } from './operations.ts';

let stop = (): void => {};
afterEach(() => stop());

describe('requests at once', () => {
  it('beyond the limit are told to come back, and only while it lasts', async () => {
    const waiting: ServerResponse[] = [];
    const application = (_request: IncomingMessage, response: ServerResponse): unknown => waiting.push(response);
    const server = createServer(guardAccess(application, { policy: undefined, audit: undefined, maxRequests: 1 }));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    stop = () => server.closeAllConnections();
    const { port } = server.address() as AddressInfo;
    const ask = (): Promise<{ status: number | undefined; text: string }> =>
      new Promise((resolve, reject) => {
        get({ port, path: '/info', agent: false }, async (response) => {
          let text = '';
          for await (const chunk of response) text += String(chunk);
          resolve({ status: response.statusCode, text });
        }).on('error', reject);
      });
    const first = ask();
    while (waiting.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(await ask()).toEqual({ status: 503, text: '{"message":"too many requests at once: 1 are under way"}' });
    waiting[0]?.end('done');
    expect(await first).toEqual({ status: 200, text: 'done' });
    const next = ask();
    while (waiting.length === 1) await new Promise((resolve) => setTimeout(resolve, 5));
    waiting[1]?.end('again');
    expect((await next).text).toBe('again');
  });
});

it.each([
  ['GET', '/containers/json', { id: 'ContainerList', object: '' }],
  ['HEAD', '/containers/json', { id: 'ContainerList', object: '' }],
  ['HEAD', '/containers/web/archive', { id: 'ContainerArchiveInfo', object: 'web' }],
  ['GET', '/images/library/busybox/json', { id: 'ImageInspect', object: 'library/busybox' }],
  ['GET', '/containers/a/attach/ws', { id: 'ContainerAttachWebsocket', object: 'a' }],
  ['POST', '/containers/prune', { id: 'ContainerPrune', object: '' }],
  ['POST', '/containers/x/exec', { id: 'ContainerExec', object: 'x' }],
  ['GET', '/networks/', { id: 'NetworkList', object: '' }],
  ['DELETE', '/volumes/data', { id: 'VolumeDelete', object: 'data' }],
  ['POST', '/nowhere', undefined],
  ['GET', 'http://d/containers/json', undefined],
])('%s %s is %j', (method, path, expected) => {
  expect(operationOf(method, path)).toEqual(expected);
});
