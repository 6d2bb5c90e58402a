/** The gateway over a real socket, real gRPC and real tickets; what stands behind it is made up. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { Conflict, InvalidParameter, NotFound, NotModified } from '@flotilla/errors';
import { frame, writeOutput } from '@flotilla/streams';
import { waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { ask, askJson, RawClient } from '../src/testing/exchange.ts';
import { type FakeStack, startFakeStack } from './fakeStack.ts';

const run = promisify(execFile);
let stack: FakeStack;

beforeAll(async () => {
  stack = await startFakeStack();
});
afterAll(() => stack.stop());
beforeEach(() => {
  for (const key of Object.keys(stack.services)) delete (stack.services as Record<string, unknown>)[key];
});

const json = (document: unknown): Buffer => Buffer.from(JSON.stringify(document));
const docker = (...args: string[]): Promise<{ stdout: string; stderr: string }> =>
  run('docker', ['-H', `unix://${stack.socketPath}`, ...args], { env: { ...process.env, DOCKER_CONFIG: '/nonexistent' }, timeout: 20_000 });

describe('versions and ping', () => {
  it('answers ping with all its headers, also as HEAD and with a version', async () => {
    for (const [method, path] of [
      ['GET', '/_ping'],
      ['HEAD', '/_ping'],
      ['GET', '/v1.24/_ping'],
    ] as const) {
      const { status, headers, body } = await ask(stack.socketPath, method, path);
      expect(status).toBe(200);
      expect(headers).toMatchObject({ 'api-version': '1.50', 'docker-experimental': 'false', ostype: 'linux', 'builder-version': '2' });
      expect(headers.server).toMatch(/^Docker\/28\.2\.2\+flotilla\.[0-9.]+ \(linux\)$/);
      expect(body).toBe(method === 'HEAD' ? '' : 'OK');
    }
  });

  it.each([
    ['/v1.51/info', 'client version 1.51 is too new. Maximum supported API version is 1.50'],
    ['/v1.23/info', 'client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version'],
  ])('refuses %s', async (path, message) => {
    const { status, headers, body } = await ask(stack.socketPath, 'GET', path);
    expect(status).toBe(400);
    expect(headers['content-type']).toBe('application/json');
    expect(JSON.parse(body)).toEqual({ message });
  });

  it('answers /version, in every version', async () => {
    for (const prefix of ['', '/v1.24', '/v1.50']) {
      const { body } = await ask(stack.socketPath, 'GET', `${prefix}/version`);
      expect(JSON.parse(body)).toMatchObject({
        ApiVersion: '1.50',
        MinAPIVersion: '1.24',
        Os: 'linux',
        Platform: { Name: expect.stringMatching(/^Flotilla /) },
      });
    }
  });

  it('says page not found to unknown paths and methods, and redirects unclean paths', async () => {
    for (const [method, path] of [
      ['GET', '/nope'],
      ['PATCH', '/containers/json'],
      ['GET', '/v1.40/containers/create'],
      ['POST', '/events'],
    ] as const) {
      const { status, body } = await ask(stack.socketPath, method, path);
      expect([status, body]).toEqual([404, '{"message":"page not found"}']);
    }
    expect((await ask(stack.socketPath, 'GET', '/v1.40//containers/json')).headers.location).toBe('/v1.40/containers/json');
  });

  it('is understood by docker version and docker info, with services that do not answer', async () => {
    expect((await docker('version', '--format', '{{.Server.Version}} {{.Server.APIVersion}}')).stdout).toMatch(
      /^28\.2\.2\+flotilla\S+ 1\.50/,
    );
    expect((await docker('version')).stdout).toContain('Flotilla');
    const info = await docker('info');
    expect(info.stdout).toContain('Server Version: 28.2.2+flotilla');
    expect(info.stderr).toContain('container-service does not answer');
  });
});

describe('documents', () => {
  it('passes a list through and hands filters on, in both forms', async () => {
    const seen: unknown[] = [];
    stack.services.containers = {
      list: async (request) => {
        seen.push(request);
        return { containersJson: Buffer.from('[ {"Id":"a"} ]'), ages: [] };
      },
    };
    const first = await ask(
      stack.socketPath,
      'GET',
      `/containers/json?all=1&filters=${encodeURIComponent('{"label":["a=b","c"],"status":["exited"]}')}`,
    );
    expect([first.status, first.headers['content-type'], first.body]).toEqual([200, 'application/json', '[ {"Id":"a"} ]']);
    await ask(stack.socketPath, 'GET', `/v1.30/containers/json?limit=2&before=x&filters=${encodeURIComponent('{"label":{"a=b":true}}')}`);
    expect(seen).toEqual([
      { all: true, limit: 0, size: false, filters: { label: { values: ['a=b', 'c'] }, status: { values: ['exited'] } } },
      // As in dockerd, `before` is a filter and no parameter.
      { all: true, limit: 2, size: false, filters: { label: { values: ['a=b'] } } },
    ]);
    const bad = await ask(stack.socketPath, 'GET', `/containers/json?filters=${encodeURIComponent('{"label":5}')}`);
    expect([bad.status, bad.body]).toEqual([400, '{"message":"invalid filter"}']);
  });

  it('gives errors their status and their body', async () => {
    stack.services.containers = {
      inspect: async () => {
        throw new NotFound('No such container: nope');
      },
      start: async () => {
        throw new NotModified('already started');
      },
      pause: async () => {
        throw new Conflict('Container x is not running');
      },
    };
    expect(await ask(stack.socketPath, 'GET', '/containers/nope/json')).toMatchObject({
      status: 404,
      body: '{"message":"No such container: nope"}',
    });
    expect(await ask(stack.socketPath, 'POST', '/containers/nope/start')).toMatchObject({ status: 304, body: '' });
    expect(await ask(stack.socketPath, 'POST', '/containers/nope/pause')).toMatchObject({ status: 409 });
  });

  it('reads the body of a create, and refuses what is not one', async () => {
    let config: unknown;
    stack.services.containers = {
      create: async (request) => {
        config = JSON.parse(request.configJson.toString());
        return { id: 'abc', warnings: [] };
      },
    };
    const made = await askJson(stack.socketPath, 'POST', '/v1.40/containers/create?name=x', {
      image: 'busybox',
      Cmd: 'true',
      unknown: 1,
      HostConfig: { PidsLimit: -1, Annotations: { a: 'b' } },
    });
    expect([made.status, JSON.parse(made.body)]).toEqual([201, { Id: 'abc', Warnings: [] }]);
    expect(config).toMatchObject({ Image: 'busybox', Cmd: ['true'], HostConfig: { NetworkMode: 'bridge' } });
    const refused: [string | undefined, Record<string, string>, string][] = [
      ['{', { 'Content-Type': 'application/json' }, 'invalid JSON: unexpected EOF'],
      ['null', { 'Content-Type': 'application/json' }, 'config cannot be empty in order to create a container'],
      [undefined, { 'Content-Type': 'application/json' }, 'invalid JSON: got EOF while reading request body'],
      ['{}{}', { 'Content-Type': 'application/json' }, 'unexpected content after JSON'],
      ['{}', { 'Content-Type': 'text/plain' }, "unsupported Content-Type header (text/plain): must be 'application/json'"],
      ['{}', {}, 'malformed Content-Type header (): mime: no media type'],
      [
        '{"Env":1}',
        { 'Content-Type': 'application/json' },
        'invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Env of type []string',
      ],
    ];
    for (const [body, headers, message] of refused) {
      const answer = await ask(stack.socketPath, 'POST', '/containers/create', { headers, ...(body === undefined ? {} : { body }) });
      expect([answer.status, JSON.parse(answer.body)]).toEqual([400, { message }]);
    }
    const large = await askJson(stack.socketPath, 'POST', '/containers/create', { Image: 'x'.repeat(5_000_000) }).catch(
      (error: unknown) => error,
    );
    if (!(large instanceof Error)) expect((large as { status: number }).status).toBe(400);
  });

  it('answers swarm and plugins as an engine without them', async () => {
    const swarm = await ask(stack.socketPath, 'GET', '/services');
    expect(swarm.status).toBe(503);
    expect(JSON.parse(swarm.body).message).toMatch(/^This node is not a swarm manager\./);
    expect(await ask(stack.socketPath, 'GET', '/plugins')).toMatchObject({ status: 200, body: '[]' });
    const session = await ask(stack.socketPath, 'POST', '/session', { headers: { Connection: 'Upgrade', Upgrade: 'h2c' } });
    expect([session.status, session.body]).toEqual([400, '{"message":"session: the header X-Docker-Expose-Session-Uuid is missing"}']);
  });
});

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

describe('events', () => {
  it('follows live from the moment of its headers, replays the past, filters, and ends at until', async () => {
    const client = new RawClient(stack.socketPath);
    const filters = encodeURIComponent('{"type":["container"],"label":["team=a"]}');
    client.send(`GET /v1.50/events?filters=${filters} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await waitFor(() => client.text.includes('\r\n\r\n'));
    const attributes = { image: 'busybox', name: 'web', team: 'a' };
    await stack.publish({
      type: 'container',
      action: 'start',
      actorId: 'c1',
      attributes,
      timeNano: BigInt(Date.now() + 1) * 1_000_000n + 7n,
    });
    await stack.publish({ type: 'container', action: 'start', actorId: 'c2', attributes: { name: 'other' } });
    await stack.publish({ type: 'volume', action: 'create', actorId: 'v1', attributes: {} });
    await waitFor(() => client.text.includes('"c1"'));
    expect(client.text).toMatch(
      /\{"status":"start","id":"c1","from":"busybox","Type":"container","Action":"start","Actor":\{"ID":"c1","Attributes":\{"image":"busybox","name":"web","team":"a"\}\},"scope":"local","time":\d+,"timeNano":\d+000007\}/,
    );
    expect(client.text).not.toContain('"c2"');
    client.socket.destroy();

    const now = Date.now() / 1000 + 1;
    const past = await ask(stack.socketPath, 'GET', `/events?since=10m&until=${now.toFixed(3)}`);
    expect(
      past.body
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line).Actor.ID),
    ).toEqual(['c1', 'c2', 'v1']);
    const filtered = await ask(
      stack.socketPath,
      'GET',
      `/events?since=10m&until=0s&filters=${encodeURIComponent('{"volume":{"v":true}}')}`,
    );
    expect(filtered.body.trim().split('\n')).toHaveLength(1);
    expect((await ask(stack.socketPath, 'GET', `/events?until=${now.toFixed(3)}`)).body).toBe(past.body);
    expect((await ask(stack.socketPath, 'GET', '/events?since=5&until=4')).status).toBe(400);
  });

  it('is what docker events prints', async () => {
    const { stdout } = await docker('events', '--since', '10m', '--until', '0s', '--filter', 'container=web');
    expect(stdout).toMatch(/container start c1 \(image=busybox, name=web, team=a\)/);
  });
});

describe('metrics', () => {
  it('counts requests by operation, and streams until they end', async () => {
    stack.services.containers = {
      counts: async () => ({ total: 3, running: 2, paused: 0, stopped: 1, infoJson: Buffer.from('{}') }),
      attach: async () => ({ tty: true, ticket: stack.tickets.issue(async (stream) => void stream.write('x')) }),
    };
    await ask(stack.socketPath, 'GET', '/v1.50/containers/any/thing/json');
    const client = new RawClient(stack.socketPath);
    client.send('POST /containers/x/attach?stream=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n');
    await waitFor(() => client.ended);
    client.socket.destroy();
    const scrape = async (): Promise<string> => (await ask(stack.socketPath, 'GET', '/metrics')).body;
    await waitFor(async () =>
      (await scrape()).includes('flotilla_gateway_requests_total{method="POST",path="/containers/{name}/attach",status="101"'),
    );
    const text = await scrape();
    expect(text).toMatch(/flotilla_gateway_requests_total\{method="GET",path="\/containers\/\{name\}\/json",status="501"\} [0-9]+/);
    expect(text).toContain('flotilla_containers{state="running"} 2');
    await waitFor(async () => /flotilla_gateway_requests_under_way 1\n/.test(await scrape()));
  });
});

describe('bad input', () => {
  it('survives what is not HTTP, header floods and clients that leave', async () => {
    for (const bytes of [
      '\0\0\0\0\r\n\r\n',
      'GET / HTTP/9.9\r\n\r\n',
      `GET / HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(2_000_000)}\r\n\r\n`,
    ]) {
      const client = new RawClient(stack.socketPath);
      client.send(bytes);
      await waitFor(() => client.ended || client.socket.destroyed);
      client.socket.destroy();
    }
    const leaver = new RawClient(stack.socketPath);
    leaver.send('POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"Im');
    leaver.socket.destroySoon();
    expect((await ask(stack.socketPath, 'GET', '/containers/%ff/json')).status).toBe(400);
    expect((await ask(stack.socketPath, 'GET', '/_ping')).status).toBe(200);
  });
});
