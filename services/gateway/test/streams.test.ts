/** Streams through the gateway, over a real socket, real gRPC and real tickets: wait, attach, exec, logs, archives. What stands behind it is made up. */
import { once } from 'node:events';
import { InvalidParameter, NotFound } from '@flotilla/errors';
import { frame, writeOutput } from '@flotilla/streams';
import { waitFor } from '@flotilla/testkit';
import { describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { ask, RawClient } from '../src/testing/exchange.ts';
import { useFakeStack } from './fakeStack.ts';

const stack = useFakeStack();

const json = (document: unknown): Buffer => Buffer.from(JSON.stringify(document));

describe('wait', () => {
  it('flushes its headers at once, then answers', async () => {
    let finish: () => void = () => undefined;
    const done = new Promise<void>((resolve) => {
      finish = resolve;
    });
    stack.services.containers = {
      wait: async function* () {
        yield {};
        await done;
        yield { result: { exitCode: 42, error: '' } };
      },
    };
    const client = new RawClient(stack.socketPath);
    client.send('POST /v1.50/containers/x/wait?condition=removed HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n');
    await waitFor(() => client.text.includes('\r\n\r\n'));
    expect(client.text).toMatch(/^HTTP\/1.1 200 OK/);
    expect(client.text).not.toContain('StatusCode');
    finish();
    await waitFor(() => client.text.includes('{"StatusCode":42}'));
    client.socket.destroy();
    expect(await ask(stack.socketPath, 'POST', '/containers/x/wait?condition=bogus')).toMatchObject({
      status: 400,
      body: '{"message":"invalid condition: \\"bogus\\""}',
    });
  });
});

describe('attach and exec', () => {
  /** A container that reads its input to the end, then answers with it in upper case. */
  function upperCase(tty: boolean): void {
    stack.services.containers = {
      attach: async () => ({
        tty,
        ticket: stack.tickets.issue(async (stream) => {
          let input = '';
          stream.write(tty ? 'ready ' : frame(1, Buffer.from('ready ')));
          for await (const chunk of stream) input += String(chunk);
          stream.write(tty ? input.toUpperCase() : frame(2, Buffer.from(input.toUpperCase())));
        }),
      }),
    };
  }

  it.each([
    [true, '/v1.50', 'application/vnd.docker.raw-stream'],
    [false, '/v1.50', 'application/vnd.docker.multiplexed-stream'],
    [false, '/v1.41', 'application/vnd.docker.raw-stream'],
  ])('upgrades (tty %s, %s), passes both ways and half-closes', async (tty, prefix, type) => {
    upperCase(tty);
    const client = new RawClient(stack.socketPath);
    client.send(
      `POST ${prefix}/containers/x/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n`,
    );
    await waitFor(() => client.text.includes('ready'));
    expect(client.text).toMatch(/^HTTP\/1\.1 101 UPGRADED\r\n/);
    expect(client.text).toContain(`Content-Type: ${type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n`);
    client.send('hello');
    client.socket.end();
    await waitFor(() => client.ended);
    expect(client.text).toMatch(/HELLO$/);
  });

  it('answers 200 and raw bytes where no upgrade was asked for', async () => {
    upperCase(false);
    const client = new RawClient(stack.socketPath);
    client.send('POST /containers/x/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n');
    await waitFor(() => client.text.includes('ready'));
    expect(client.text).toMatch(/^HTTP\/1\.1 200 OK\r\nContent-Type: application\/vnd\.docker\.raw-stream\r\n\r\n/);
    client.send('GET / HTTP/1.1\r\n\r\n');
    client.socket.end();
    await waitFor(() => client.ended);
    expect(client.text).toMatch(/GET \/ HTTP\/1\.1\r\n\r\n$/);
  });

  it('takes standard input from a body that comes in chunks, where no upgrade was asked for', async () => {
    upperCase(true);
    const client = new RawClient(stack.socketPath);
    client.send(
      'POST /containers/x/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n',
    );
    await waitFor(() => client.text.includes('ready'));
    client.send('0\r\n\r\n');
    await waitFor(() => client.text.includes('HELLO'));
    client.socket.destroy();
  });

  it('lets the service know that the client is gone, and the client that the service is', async () => {
    const events: string[] = [];
    stack.services.containers = {
      attach: async () => ({
        tty: true,
        ticket: stack.tickets.issue(async (stream, signal) => {
          signal.addEventListener('abort', () => events.push('gone'));
          const timer = setInterval(() => stream.write('tick'), 10);
          await new Promise((resolve) => signal.addEventListener('abort', resolve));
          clearInterval(timer);
        }),
      }),
    };
    const client = new RawClient(stack.socketPath);
    client.send('POST /containers/x/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n');
    await waitFor(() => client.text.includes('tick'));
    client.socket.destroy();
    await waitFor(() => events.includes('gone'));
  });

  it('notices that a client has left which had ended its input before, though nothing is printed', async () => {
    let gone = false;
    stack.services.containers = {
      attach: async () => ({
        tty: true,
        ticket: stack.tickets.issue(async (stream, signal) => {
          stream.write('ready');
          stream.resume();
          await new Promise((resolve) => signal.addEventListener('abort', resolve));
          gone = true;
        }),
      }),
    };
    const client = new RawClient(stack.socketPath);
    client.send('POST /containers/x/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n');
    await waitFor(() => client.text.includes('ready'));
    client.socket.end();
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(gone).toBe(false);
    client.socket.destroy();
    await waitFor(() => gone, { timeoutMs: 15_000 });
  });

  it('answers an error before the upgrade as dockerd does: by its status, and in plain text', async () => {
    stack.services.containers = {
      attach: async () => {
        throw new NotFound('No such container: x');
      },
    };
    const answer = await ask(stack.socketPath, 'POST', '/containers/x/attach?stream=1', {
      headers: { Connection: 'Upgrade', Upgrade: 'tcp' },
    });
    expect([answer.status, answer.body]).toEqual([404, 'No such container: x\r\n']);
    expect(answer.headers['transfer-encoding']).toBeUndefined();
  });

  it.each([
    ['by its length', 'Content-Length: 24\r\n\r\n{"Detach":false,"a":"b"}'],
    ['in chunks', 'Transfer-Encoding: chunked\r\n\r\n18\r\n{"Detach":false,"a":"b"}\r\n0\r\n\r\n'],
    ['in chunks that never end', 'Transfer-Encoding: chunked\r\n\r\n18\r\n{"Detach":false,"a":"b"}\r\n'],
  ])('starts an exec whose body comes %s', async (_how, body) => {
    stack.services.execs = {
      start: async () => ({
        tty: false,
        ticket: stack.tickets.issue(async (stream) => {
          for await (const chunk of stream) stream.write(frame(1, chunk));
        }),
      }),
    };
    const client = new RawClient(stack.socketPath);
    client.send(
      `POST /exec/e/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n${body}`,
    );
    await waitFor(() => client.text.includes('\r\n\r\n'));
    expect(client.text).toMatch(/^HTTP\/1\.1 101/);
    client.send('over and out');
    client.socket.end();
    await waitFor(() => client.ended);
    expect(client.text).toMatch(/over and out$/);
  });

  it('keeps back-pressure: a client that does not read stops the service', async () => {
    let sent = 0;
    stack.services.containers = {
      attach: async () => ({
        tty: true,
        ticket: stack.tickets.issue(async (stream, signal) => {
          const chunk = Buffer.alloc(64 * 1024);
          while (!signal.aborted && sent < 512 * 1024 * 1024) {
            sent += chunk.length;
            if (!stream.write(chunk)) {
              await new Promise((resolve) => {
                stream.once('drain', resolve);
                signal.addEventListener('abort', resolve, { once: true });
              });
            }
          }
        }),
      }),
    };
    const client = new RawClient(stack.socketPath);
    client.socket.pause();
    client.send('POST /containers/x/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n');
    let before = -1;
    await waitFor(
      () => {
        const still = sent === before && sent > 0;
        before = sent;
        return still;
      },
      { intervalMs: 300 },
    );
    expect(sent).toBeLessThan(16 * 1024 * 1024);
    client.socket.destroy();
  });

  it('serves a websocket', async () => {
    upperCase(true);
    const websocket = new WebSocket(`ws+unix:${stack.socketPath}:/containers/x/attach/ws?stream=1&stdin=1&stdout=1`);
    let received = '';
    let closed = false;
    websocket.on('message', (data: Buffer) => {
      received += data.toString();
    });
    websocket.on('close', () => {
      closed = true;
    });
    await waitFor(() => received === 'ready ');
    websocket.send('typed');
    websocket.close();
    await waitFor(() => closed);
    stack.services.containers = { inspect: async () => ({ containerJson: Buffer.from('{}') }) };
    expect((await ask(stack.socketPath, 'GET', '/containers/x/attach/ws')).status).toBe(400);
  });
});

describe('logs, archives and archives of images', () => {
  it('refuses logs of no stream, and streams those of one', async () => {
    stack.services.containers = {
      logs: async (request) => ({
        tty: false,
        ticket: stack.tickets.issue(
          async (stream) => {
            stream.write(frame(1, Buffer.from(`tail ${request.tail} since ${request.sinceNano}`)));
          },
          { outputOnly: true },
        ),
      }),
    };
    expect(await ask(stack.socketPath, 'GET', '/containers/x/logs')).toMatchObject({
      status: 400,
      body: '{"message":"Bad parameters: you must choose at least one stream"}',
    });
    const answer = await ask(stack.socketPath, 'GET', '/containers/x/logs?stdout=1&tail=5&since=1700000000.5');
    expect(answer.headers['content-type']).toBe('application/vnd.docker.multiplexed-stream');
    expect(answer.body.slice(8)).toBe('tail 5 since 1700000000500000000');
  });

  it('copies in and out', async () => {
    let uploaded = 0;
    const stat = { name: 'x', size: 5, mode: 420, mtime: '2026-01-01T00:00:00Z', linkTarget: '' };
    stack.services.containers = {
      statArchive: async () => ({ pathStatJson: json(stat) }),
      getArchive: async () => ({ pathStatJson: json(stat), ticket: stack.tickets.issue(async (stream) => void stream.write('tar')) }),
      putArchive: async (request) => ({
        ticket: stack.tickets.issue(async (stream) => {
          for await (const chunk of stream) uploaded += (chunk as Buffer).length;
          stream.write(request.path === '/bad' ? '{"error":"InvalidParameter","message":"not a directory"}\n' : '{}\n');
        }),
      }),
    };
    const head = await ask(stack.socketPath, 'HEAD', '/containers/x/archive?path=/x');
    expect(JSON.parse(Buffer.from(String(head.headers['x-docker-container-path-stat']), 'base64').toString())).toEqual(stat);
    expect(await ask(stack.socketPath, 'GET', '/containers/x/archive?path=/x')).toMatchObject({ status: 200, body: 'tar' });
    const body = Buffer.alloc(3_000_000);
    expect((await ask(stack.socketPath, 'PUT', '/containers/x/archive?path=/x', { body })).status).toBe(200);
    expect(uploaded).toBe(body.length);
    const bad = await ask(stack.socketPath, 'PUT', '/containers/x/archive?path=/bad', { body });
    expect([bad.status, bad.body]).toEqual([400, '{"message":"not a directory"}']);
  });

  it('says so when the service dies in the middle of a load, and breaks off a save', async () => {
    stack.services.images = {
      load: async () => ({
        ticket: stack.tickets.issue(async (stream) => {
          await once(stream.resume(), 'end');
          stream.end('{"status":"Loading layer"}\r\n');
          await once(stream, 'close');
        }),
      }),
      save: async () => ({
        ticket: stack.tickets.issue(
          async (stream) => {
            await writeOutput(stream, Buffer.alloc(2_000_000));
            stream.end();
            await once(stream, 'close');
          },
          { outputOnly: true, inPieces: true },
        ),
      }),
    };
    const loaded = await ask(stack.socketPath, 'POST', '/images/load', { body: Buffer.alloc(10) });
    const gone = 'the service went away in the middle';
    expect(loaded).toMatchObject({
      status: 200,
      body: `{"status":"Loading layer"}\r\n{"errorDetail":{"message":"${gone}"},"error":"${gone}"}\r\n`,
    });
    await expect(ask(stack.socketPath, 'GET', '/images/x/get')).rejects.toThrow('aborted');
  });

  it('asks again for what its service could not send the beginning of', async () => {
    let asked = 0;
    stack.services.containers = {
      export: async () => ({
        ticket: stack.tickets.issue(
          async (stream) => {
            asked++;
            await writeOutput(stream, Buffer.from('the first part'));
            if (asked < 3) stream.destroy();
            else await writeOutput(stream, Buffer.from(' and the rest'));
          },
          { inPieces: true },
        ),
      }),
    };
    expect(await ask(stack.socketPath, 'GET', '/containers/x/export')).toMatchObject({ status: 200, body: 'the first part and the rest' });
    expect(asked).toBe(3);
  });

  it('ends the stream of a client that leaves before the first part of its answer is there', async () => {
    let began = false;
    let gone = false;
    stack.services.containers = {
      export: async () => ({
        ticket: stack.tickets.issue(
          async (stream, signal) => {
            signal.addEventListener('abort', () => {
              gone = true;
            });
            await writeOutput(stream, Buffer.from('not yet enough'));
            began = true;
            await new Promise((resolve) => signal.addEventListener('abort', resolve));
          },
          { inPieces: true, outputOnly: true },
        ),
      }),
    };
    const client = new RawClient(stack.socketPath);
    client.send('GET /containers/x/export HTTP/1.1\r\nHost: x\r\n\r\n');
    await waitFor(() => began);
    client.socket.destroy();
    await waitFor(() => gone && !stack.tickets.isBusy, { what: 'the stream to end' });
    expect(client.text).toBe('');
  });

  it('loads with progress, and pulls with an error before and after the first line', async () => {
    stack.services.images = {
      load: async () => ({
        ticket: stack.tickets.issue(async (stream) => {
          let size = 0;
          for await (const chunk of stream) size += (chunk as Buffer).length;
          stream.write(`{"stream":"Loaded ${size}\\n"}\r\n\0`);
        }),
      }),
      pull: async function* (request) {
        if (request.reference === 'nope') throw new NotFound('manifest for nope:latest not found');
        yield { json: json({ status: 'Pulling' }) };
        if (request.reference === 'breaks') throw new InvalidParameter('it broke');
      },
    };
    const loaded = await ask(stack.socketPath, 'POST', '/images/load', {
      body: Buffer.alloc(1_000_000),
      headers: { 'Content-Type': 'application/x-tar' },
    });
    expect(loaded).toMatchObject({ status: 200, body: '{"stream":"Loaded 1000000\\n"}\r\n' });
    expect(await ask(stack.socketPath, 'POST', '/images/create?fromImage=nope')).toMatchObject({ status: 404 });
    const broken = await ask(stack.socketPath, 'POST', '/images/create?fromImage=breaks&tag=x');
    expect([broken.status, broken.body]).toEqual([
      200,
      '{"status":"Pulling"}\r\n{"errorDetail":{"message":"it broke"},"error":"it broke"}\r\n',
    ]);
  });
});
