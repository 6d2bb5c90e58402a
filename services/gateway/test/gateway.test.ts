/** The gateway over a real socket, real gRPC and real tickets; what stands behind it is made up. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { Conflict, NotFound, NotModified } from '@flotilla/errors';
import { waitFor } from '@flotilla/testkit';
import { describe, expect, it } from 'vitest';
import { ask, askJson, RawClient } from '../src/testing/exchange.ts';
import { useFakeStack } from './fakeStack.ts';

const run = promisify(execFile);
const stack = useFakeStack();

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
