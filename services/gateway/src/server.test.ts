/** What a server does with clients that do not play fair: slow ones, large ones, and those that speak something else. */
import { rmSync } from 'node:fs';
import type { Server } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { closeServer, createGatewayServer, listen } from './server.ts';

const path = join(tmpdir(), `flotilla-server-${process.pid}.sock`);
let server: Server;

beforeAll(async () => {
  const handler = (_request: unknown, response: { end(text: string): void }): void => response.end('answered');
  server = createGatewayServer(handler, undefined, { headersTimeout: 400, connectionsCheckingInterval: 50 });
  rmSync(path, { force: true });
  await listen(server, { path });
});
afterAll(() => closeServer(server, 100));

/** Writes the pieces with pauses; gives all that came until the server closed. */
function speak(pieces: readonly string[], pauseMs = 0): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(path);
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
    });
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(text));
    const next = (index: number): void => {
      const piece = pieces[index];
      if (piece === undefined || socket.destroyed) return;
      socket.write(piece);
      setTimeout(() => next(index + 1), pauseMs);
    };
    next(0);
  });
}

describe('clients that do not play fair', () => {
  it('one that sends its headers drop by drop is cut', async () => {
    const drops = Array.from('GET /_ping HTTP/1.1\r\nHost: x\r\nX: '.padEnd(300, 'y'));
    expect(await speak(drops, 50)).toMatch(/^(?:HTTP\/1\.1 4(?:00|08) |$)/);
  });

  it('headers beyond a megabyte are 431', async () => {
    expect(await speak([`GET / HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(1100 * 1024)}\r\n\r\n`])).toMatch(/^HTTP\/1\.1 431 /);
  });

  it('what is not HTTP is 400', async () => {
    expect(await speak(['hello there\r\n\r\n'])).toMatch(/^HTTP\/1\.1 400 Bad Request/);
  });

  it('large headers below that are taken, as X-Registry-Config needs them', async () => {
    const request = `GET / HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(700 * 1024)}\r\nConnection: close\r\n\r\n`;
    expect(await speak([request])).toMatch(/^HTTP\/1\.1 200 /);
  });
});
