/** Client libraries against the gateway; what stands behind it is made up. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { type ConnectionOptions, connect as tlsConnect } from 'node:tls';
import { promisify } from 'node:util';
import { frame } from '@flotilla/streams';
import { waitFor } from '@flotilla/testkit';
import Docker from 'dockerode';
import { beforeAll, describe, expect, it } from 'vitest';
import { startTestGateway } from '../src/testing/testGateway.ts';
import { useFakeStack } from './fakeStack.ts';

const run = promisify(execFile);
const stack = useFakeStack();
let docker: Docker;

beforeAll(() => {
  docker = new Docker({ socketPath: stack.socketPath });
});

/** Sends every chunk of its input back, framed, and ends when its input does. */
function echo(): { tty: boolean; ticket: { address: string; token: string } } {
  return {
    tty: false,
    ticket: stack.tickets.issue(async (stream) => {
      for await (const chunk of stream) stream.write(frame(1, chunk as Buffer));
      stream.write(frame(2, Buffer.from('end')));
    }),
  };
}

async function textOf(stream: NodeJS.ReadableStream): Promise<string> {
  let text = '';
  for await (const chunk of stream) text += String(chunk);
  return text;
}

describe('dockerode', () => {
  it('attaches with standard input', async () => {
    stack.services.containers = { attach: async () => echo() };
    const stream = await docker.getContainer('x').attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
    const text = textOf(stream);
    stream.write('hello');
    stream.end();
    expect(await text).toBe(`${frame(1, Buffer.from('hello'))}${frame(2, Buffer.from('end'))}`);
  });

  it('runs an exec', async () => {
    stack.services.execs = { create: async () => ({ id: 'e' }), start: async () => echo() };
    const exec = await docker.getContainer('x').exec({ Cmd: ['cat'], AttachStdin: true, AttachStdout: true });
    const stream = await exec.start({ hijack: true, stdin: true });
    const text = textOf(stream);
    stream.write('hello');
    stream.end();
    expect(await text).toContain('hello');
  });

  it('attaches and execs without an upgrade', async () => {
    stack.services.containers = { attach: async () => echo() };
    stack.services.execs = { create: async () => ({ id: 'e' }), start: async () => echo() };
    const exec = await docker.getContainer('x').exec({ Cmd: ['cat'], AttachStdin: true, AttachStdout: true });
    for (const stream of [
      await docker.getContainer('x').attach({ stream: true, stdin: true, stdout: true, stderr: true }),
      await exec.start({ stdin: true }),
    ]) {
      const first = new Promise<string>((resolve) => stream.once('data', (chunk: Buffer) => resolve(chunk.toString())));
      stream.write('hello');
      expect(await first).toContain('hello');
      // This client closes the connection with its input: there is nothing to read after that.
      stream.end();
    }
  });

  it('lists, pulls with progress and follows events', async () => {
    stack.services.containers = { list: async () => ({ containersJson: Buffer.from('[{"Id":"a"}]'), ages: [] }) };
    stack.services.images = {
      pull: async function* () {
        yield { json: Buffer.from('{"status":"one"}') };
        yield { json: Buffer.from('{"status":"two"}') };
      },
    };
    expect(await docker.listContainers({ all: true, filters: { label: ['a'] } })).toEqual([{ Id: 'a' }]);
    const pulling = await docker.pull('busybox:latest');
    const lines = await new Promise((resolve, reject) => {
      docker.modem.followProgress(pulling, (error, output) => (error === null ? resolve(output) : reject(error)));
    });
    expect(lines).toEqual([{ status: 'one' }, { status: 'two' }]);
    const events = (await docker.getEvents()) as NodeJS.ReadableStream & { destroy(): void };
    const first = new Promise<string>((resolve) => events.once('data', (chunk: Buffer) => resolve(chunk.toString())));
    await stack.publish({ type: 'volume', action: 'create', actorId: 'v', timeNano: BigInt(Date.now() + 1) * 1_000_000n });
    expect(JSON.parse(await first)).toMatchObject({ Type: 'volume', Action: 'create' });
    events.destroy();
  });
});

describe('python3-docker', () => {
  it('attaches by socket, execs and pings', async () => {
    stack.services.containers = {
      attach: async () => echo(),
      inspect: async () => ({ containerJson: Buffer.from('{"Id":"x","Config":{"Tty":false},"State":{"Status":"running"}}') }),
    };
    stack.services.execs = {
      create: async () => ({ id: 'e' }),
      start: async () => ({
        tty: false,
        ticket: stack.tickets.issue(async (stream) => {
          // As a real process, which takes a moment to start: docker-py loses what comes in one packet with the headers of a 101.
          await pause(50);
          stream.write(frame(1, Buffer.from('from exec')));
        }),
      }),
      inspect: async () => ({ execJson: Buffer.from('{"ID":"e","ExitCode":3}') }),
    };
    const script = `
import docker, socket
client = docker.DockerClient(base_url='unix://${stack.socketPath}', version='auto')
assert client.ping()
container = client.containers.get('x')
print(container.exec_run('ls'))
sock = container.attach_socket(params={'stdin': 1, 'stdout': 1, 'stream': 1})
sock._sock.sendall(b'hi')
sock._sock.shutdown(socket.SHUT_WR)
data = b''
while True:
    chunk = sock._sock.recv(4096)
    if not chunk: break
    data += chunk
print(data)
`;
    const { stdout } = await run('/usr/bin/python3', ['-c', script], { timeout: 20_000 });
    expect(stdout).toContain("ExecResult(exit_code=3, output=b'from exec')");
    expect(stdout).toContain("b'\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x02hi\\x02\\x00\\x00\\x00\\x00\\x00\\x00\\x03end'");
  });
});

describe('TLS', () => {
  it('half-closes as without it', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'flotilla-tls-'));
    await run('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1', '-subj', '/CN=localhost'],
      ...['-keyout', join(directory, 'key.pem'), '-out', join(directory, 'cert.pem')],
    ]);
    const cert = readFileSync(join(directory, 'cert.pem'), 'utf8');
    const gateway = await startTestGateway({ cert, key: readFileSync(join(directory, 'key.pem'), 'utf8') });
    try {
      gateway.backends.answers.set('containers.attach', () => ({
        tty: false,
        ticket: gateway.tickets.issue(async (stream) => {
          for await (const chunk of stream) stream.write(frame(1, chunk as Buffer));
          stream.write(frame(2, Buffer.from('end')));
        }),
      }));
      const path = gateway.socketPath;
      const version = await new Promise<number | undefined>((resolve, reject) => {
        httpsRequest({ socketPath: path, path: '/version', ca: cert, servername: 'localhost' }, (answer) =>
          resolve(answer.resume().statusCode),
        )
          .on('error', reject)
          .end();
      });
      expect(version).toBe(200);
      const dialing: ConnectionOptions = { path, ca: cert, servername: 'localhost' };
      Object.assign(dialing, { allowHalfOpen: true });
      const client: Socket = tlsConnect(dialing);
      let text = '';
      let ended = false;
      client.on('data', (chunk: Buffer) => {
        text += chunk.toString('latin1');
      });
      client.on('end', () => {
        ended = true;
      });
      client.write('POST /containers/x/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n');
      await waitFor(() => text.includes('101 UPGRADED'));
      client.write('hello');
      client.end();
      await waitFor(() => ended);
      expect(text).toMatch(/hello.*end$/s);
    } finally {
      await gateway.stop();
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
