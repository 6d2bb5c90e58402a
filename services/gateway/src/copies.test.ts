import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { answerFromCopies, copyKey } from './copies.ts';
import { sendJson } from './http/respond.ts';
import { Metrics } from './metrics.ts';
import { dispatch } from './middleware/dispatch.ts';
import { ReadCopies } from './readCopies.ts';
import { createGatewayServer, listen } from './server.ts';
import { ask } from './testing/exchange.ts';
import { FakeBackends } from './testing/fakeBackends.ts';

const directory = mkdtempSync(join(tmpdir(), 'flotilla-copies-'));
const socket = join(directory, 'docker.sock');
const mark = join(directory, 'changes');
const change = (): void => writeFileSync(mark, Math.random().toFixed(14));
const open = (): ReadCopies => new ReadCopies({ markPaths: [() => mark] });
let asked: string[] = [];
let metrics: Metrics;
let server: Server;

beforeAll(async () => {
  change();
  const copies = { containers: open(), containerLists: open(), images: open() };
  metrics = new Metrics({ backends: new FakeBackends(), eventFollowers: () => 0 });
  const application = dispatch(
    async (request, response) => {
      if (request.url === '/metrics') return metrics.answer(request, response);
      asked.push(`${request.method} ${request.url}`);
      const document = async (): Promise<Uint8Array> => Buffer.from(`["${asked.length}"]`);
      sendJson(
        response,
        200,
        await (request.url?.startsWith('/containers/json?') ? copies.containerLists : copies.containers).read(copyKey(request), document),
      );
    },
    { answerAtOnce: answerFromCopies(copies, metrics) },
  );
  server = createGatewayServer(application);
  await listen(server, { path: socket });
});
beforeEach(() => {
  asked = [];
  change();
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
  rmSync(directory, { recursive: true });
});

it('answers what it has a copy of as the application did, and asks again after a change', async () => {
  const first = await ask(socket, 'GET', '/v1.50/containers/json?all=1');
  const second = await ask(socket, 'GET', '/v1.50/containers/json?all=1');
  expect(asked).toEqual(['GET /containers/json?all=1']);
  expect(second.body).toBe(first.body);
  expect({ ...second.headers, date: '' }).toEqual({ ...first.headers, date: '' });
  change();
  expect((await ask(socket, 'GET', '/v1.50/containers/json?all=1')).body).toBe('["2"]');
});

it('keeps apart versions, parameters and methods', async () => {
  for (const [method, path] of [
    ['GET', '/containers/json'],
    ['GET', '/v1.40/containers/json'],
    ['GET', '/containers/json?limit=1'],
    ['HEAD', '/containers/json'],
    ['POST', '/containers/json'],
    ['GET', '/images/json'],
  ] as const) {
    await ask(socket, method, path);
  }
  expect(asked).toHaveLength(6);
});

it('is counted as the route is', async () => {
  for (const path of ['/containers/a/json', '/containers/a/json', '/containers/b/json']) await ask(socket, 'GET', path);
  await ask(socket, 'GET', '/containers/b/json');
  expect((await ask(socket, 'GET', '/metrics')).body).toContain(
    'flotilla_gateway_requests_total{method="GET",path="/containers/{name}/json",status="200"} 2\n',
  );
});
