import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, request, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '@flotilla/service-kit';
import { waitFor } from '@flotilla/testkit';
import { afterEach, expect, it } from 'vitest';
import { listenShared } from './sharedSocket.ts';

const directory = mkdtempSync(join(tmpdir(), 'flotilla-shared-'));
const path = join(directory, 'docker.sock');
const logger = createLogger({ service: 'test', instance: 'test', level: 'silent' });
const servers: Server[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) if (server.listening) await new Promise((resolve) => server.close(resolve));
  rmSync(directory, { recursive: true, force: true });
});

async function start(instance: string): Promise<Server> {
  const server = createServer((_request, response) => response.end(instance));
  servers.push(server);
  await listenShared(server, path, instance, logger);
  return server;
}

/** Who answers at the name. */
const answer = (): Promise<string> =>
  new Promise((resolve, reject) => {
    request({ socketPath: path, agent: false }, (response) => response.on('data', (body: Buffer) => resolve(body.toString())))
      .on('error', reject)
      .end();
  });

it('is taken over by another replica when the one that had the name is gone', async () => {
  const first = await start('one');
  writeFileSync(`${path}.two.link`, 'left by one that died while it took over');
  await start('two');
  expect(await answer()).toBe('one');
  expect(statSync(path).mode & 0o777).toBe(0o660);
  await new Promise((resolve) => first.close(resolve));
  await waitFor(async () => (await answer().catch(() => '')) === 'two', { what: 'the other to answer' });
  expect(readdirSync(directory).sort()).toEqual(['docker.sock', 'docker.sock.two']);
  await new Promise((resolve) => servers.pop()?.close(resolve));
  expect(existsSync(path)).toBe(false);
});
