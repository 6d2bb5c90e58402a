/** Requests from a seed (TEST_SEED gives another) to every operation, right ones and wrong ones, and bytes that are none: what is answered, and what it leaves of the services. */
import { readdirSync, readFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { Random } from '@flotilla/testkit';
import { describe, expect, it } from 'vitest';
import { type AnyRequest, RequestMaker } from './anyRequest.ts';
import { engineApi } from './engineApi.ts';
import { useStack } from './stack.ts';

const stack = useStack();

/** Each process of the stack with its memory and descriptors. */
async function services(): Promise<Map<string, { pid: number; bytes: number; files: number }>> {
  const found = (await stack.host.processes()).filter(({ service }) => /gateway|-/.test(service));
  return new Map(
    found.map(({ service, pid }) => {
      const kilobytes = Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
      return [service, { pid, bytes: kilobytes * 1024, files: readdirSync(`/proc/${pid}/fd`).length }];
    }),
  );
}

describe('any request to any operation', () => {
  const count = process.env.FLOTILLA_SOAK === '1' ? 30_000 : 800;
  const names = { containers: ['live', 'rest'], images: [''], networks: ['fuzz', 'bridge'], volumes: ['fuzz'], exec: [''] };
  /** Their answers begin at once and last as long as they are let, or begin when something has happened. */
  const lasting =
    /^(ContainerAttach|ContainerAttachWebsocket|ContainerLogs|ContainerStats|ContainerWait|ContainerStop|ContainerRestart|SystemEvents|ExecStart|Session)$/;

  /** What the requests are about; some of them take it away. */
  async function makeWhatIsNamed(): Promise<void> {
    const ask = (path: string, body: unknown) => engineApi(stack.host, 'POST', `/v1.50${path}`, { body, timeoutMs: 90_000 });
    const Cmd = ['sh', '-c', 'trap exit TERM INT HUP; while :; do sleep 1; done'];
    await ask('/containers/create?name=live', { Image: stack.busybox, Cmd });
    await ask('/containers/live/unpause', undefined);
    await ask('/containers/live/start', undefined);
    await ask('/containers/create?name=rest', { Image: stack.busybox });
    await ask('/networks/create', { Name: 'fuzz' });
    await ask('/volumes/create', { Name: 'fuzz' });
    const exec = (await ask('/containers/live/exec', { Cmd: ['true'] })).json as { Id?: string } | undefined;
    names.exec[0] = exec?.Id ?? 'none';
  }

  /** Status and body. What lasts is left when its answer has begun, or has not after a while: status 0. */
  function send({ operation, method, path, headers, body }: AnyRequest): Promise<{ status: number; text: string }> {
    const lasts = lasting.test(operation);
    return new Promise((resolve, reject) => {
      const sent = request({ socketPath: stack.host.socketPath, method, path, headers, agent: false }, (response) => {
        const status = response.statusCode ?? 0;
        if (lasts && status < 400) return leave(status);
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          if (text.length < 100_000) text += chunk;
        });
        response.on('end', () => done({ status, text })).on('error', () => done({ status, text }));
      });
      const late = (): void => (lasts ? leave(0) : fail(new Error('no answer in time')));
      const timer = setTimeout(late, lasts ? 2_000 : 60_000);
      const done = (answer: { status: number; text: string }): void => {
        clearTimeout(timer);
        resolve(answer);
      };
      const leave = (status: number): void => {
        done({ status, text: '' });
        sent.destroy();
      };
      const fail = (error: Error): void => {
        clearTimeout(timer);
        reject(new Error(`${operation} ${method} ${path.slice(0, 200)}`, { cause: error }));
        sent.destroy();
      };
      sent.on('upgrade', (_response, socket) => {
        socket.destroy();
        done({ status: 101, text: '' });
      });
      sent.on('error', fail);
      sent.end(body);
    });
  }

  /** What dockerd says too: a registry that is not reached, a path that no file can have, options that ps does not know, what needs a swarm or a plugin. */
  const honest = (operation: string, status: number, text: string): boolean =>
    (status === 501 && /Plugin|Session/.test(operation)) ||
    (status === 503 && /Swarm|Node|Service|Task|Secret|Config|VolumeUpdate/.test(operation)) ||
    (status === 503 && operation === 'VolumeCreate' && /not a swarm manager/.test(text)) ||
    (status === 500 && /^(SystemAuth|ImageSearch|ImageCreate|ImagePush|DistributionInspect)$/.test(operation) && /dial tcp/.test(text)) ||
    (status === 500 && /Archive/.test(operation) && /^$|invalid argument|file name too long/.test(text)) ||
    (status === 500 && operation === 'ContainerTop' && /ps: (error|exit status)/.test(text));
  const ownWords = /\bTypeError|RangeError|undefined is|not a function|call stack|Cannot read prop|flotilla-test/;

  it('is answered, in words, by services that stay as they are', { timeout: 300_000 + count * 500 }, async () => {
    const { host } = stack;
    names.images = [stack.busybox, 'fuzzed'];
    await makeWhatIsNamed();
    const maker = new RequestMaker(new Random(Number(process.env.TEST_SEED ?? 20261128)), names);
    const seen = new Map<number, number>();
    const operations = new Set<string>();
    const problems: string[] = [];
    const run = async (amount: number): Promise<void> => {
      for (let at = 0; at < amount; at++) {
        if (at % 50 === 0) await makeWhatIsNamed();
        const asked = maker.make();
        const { status, text } = await send(asked);
        operations.add(asked.operation);
        seen.set(status, (seen.get(status) ?? 0) + 1);
        const isFault = status >= 500 && !honest(asked.operation, status, text);
        // An attach is refused on the stream that it asked for, without a document.
        const isDocument = asked.method === 'HEAD' || asked.operation === 'ContainerAttach' || text === '' || text.includes('"message"');
        if (!isFault && (status < 400 || (isDocument && !ownWords.test(text)))) continue;
        const { operation, method, path, body } = asked;
        problems.push(
          `${status} ${operation} ${method} ${path.slice(0, 200)} ${String(body ?? '').slice(0, 600)}\n   → ${text.slice(0, 300)}`,
        );
      }
    };
    // Caches fill and code is compiled first.
    await run(Math.floor(count / 3));
    const before = await services();
    await run(Math.ceil((count * 2) / 3));
    expect(problems.slice(0, 20).join('\n')).toBe('');
    expect(operations.size).toBeGreaterThan(95);
    for (const status of [200, 400, 404]) expect(seen.get(status), `answers of ${status}`).toBeGreaterThan(count / 50);
    for (const [service, now] of await settled(before)) {
      const then = before.get(service);
      expect({ service, pid: now.pid }).toEqual({ service, pid: then?.pid });
      expect(now.bytes - (then?.bytes ?? 0), `memory of ${service}`).toBeLessThan(96 * 1024 * 1024);
      expect(now.files - (then?.files ?? 0), `descriptors of ${service}`).toBeLessThan(mostFiles);
    }
    expect((await engineApi(host, 'GET', '/_ping')).text).toBe('OK');
  });

  it('that is cut off, or no request at all, is over when its client has gone', { timeout: 120_000 }, async () => {
    await makeWhatIsNamed();
    const head = 'POST /v1.50/containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n';
    const upgrade = 'Connection: Upgrade\r\nUpgrade:';
    const broken = [
      'GET',
      'GET /info\r\n\r\n',
      'GET /info HTTP/1.1\r\n\r\n',
      'GET /info HTTP/1.1\r\nHost: d\r\nBad Header: x\r\n\r\n',
      'GET /info HTTP/1.1\r\nHost: d\r\nContent-Length: x\r\n\r\n',
      `${head}Content-Length: 500\r\n\r\n{"Image":`,
      `${head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{}`,
      `${head}Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n`,
      `${head}Transfer-Encoding: chunked\r\n\r\n5\r\n{"Im`,
      `${head}Expect: nonsense\r\nContent-Length: 2\r\n\r\n{}`,
      'POST /v1.50/images/load HTTP/1.1\r\nHost: d\r\nContent-Length: 100000\r\n\r\nhalf of it',
      'POST /v1.50/build HTTP/1.1\r\nHost: d\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n',
      'PUT /v1.50/containers/rest/archive?path=/ HTTP/1.1\r\nHost: d\r\nContent-Length: 1000\r\n\r\nhalf',
      `POST /v1.50/containers/live/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: d\r\n${upgrade} tcp\r\n\r\n\0\0`,
      `POST /grpc HTTP/1.1\r\nHost: d\r\n${upgrade} h2c\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff`,
      '\x16\x03\x01\x02\x00',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    ];
    const before = await services();
    for (const bytes of [...broken, ...broken, ...broken]) {
      const text = await new Promise<string>((resolve) => {
        const socket = connect({ path: stack.host.socketPath });
        let answer = '';
        socket.setEncoding('latin1').on('data', (chunk: string) => {
          answer += chunk;
        });
        // What waits for the rest waits until its client goes.
        socket.on('connect', () => setTimeout(() => socket.destroy(), 200)).on('error', () => undefined);
        socket.on('close', () => resolve(answer));
        socket.write(bytes, 'latin1');
      });
      if (text !== '') expect(text, bytes).toMatch(/^HTTP\/1\.1 (101|200|400|404|409|417) /);
    }
    for (const [service, { pid, files }] of await settled(before)) {
      expect({ service, pid }).toEqual({ service, pid: before.get(service)?.pid });
      expect(files - (before.get(service)?.files ?? 0), `descriptors of ${service}`).toBeLessThan(mostFiles);
    }
    expect((await engineApi(stack.host, 'GET', '/_ping')).text).toBe('OK');
  });
});

/** Connections between services come and go; what leaks at each request is more than that. */
const mostFiles = 40;

/** The services when what is under way has ended, or has not for long. */
async function settled(before: Awaited<ReturnType<typeof services>>): ReturnType<typeof services> {
  for (let left = 20; ; left--) {
    const now = await services();
    if (left === 0 || [...now].every(([service, { files }]) => files - (before.get(service)?.files ?? 0) < mostFiles)) return now;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}
