import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { hasLeft, watchDeparture } from './departure.ts';

it('tells a peer that has left from one that has only ended its input', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'flotilla-departure-'));
  const path = join(directory, 'socket');
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => accepted.resolve(socket)).listen(path);
  const peer = connect({ path, allowHalfOpen: true });
  const socket = await accepted.promise;
  let failure: string | undefined;
  socket.on('error', (error: NodeJS.ErrnoException) => {
    failure = error.code;
  });
  const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()));
  watchDeparture(socket, 10);
  socket.resume();
  peer.end();
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(socket.destroyed).toBe(false);
  expect(await hasLeft(socket)).toBe(false);
  let heard = '';
  peer.on('data', (chunk: Buffer) => {
    heard += chunk.toString();
  });
  socket.write('still here');
  await new Promise((resolve) => peer.once('data', resolve));
  expect(heard).toBe('still here');
  peer.destroy();
  await new Promise((resolve) => peer.once('close', resolve));
  expect(await hasLeft(socket)).toBe(true);
  await closed;
  expect(failure).toBe('EPIPE');
  server.close();
  rmSync(directory, { recursive: true });
});
