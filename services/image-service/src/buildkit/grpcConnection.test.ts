import { once } from 'node:events';
import { constants, createServer, type Http2Server, type ServerHttp2Stream } from 'node:http2';
import { type AddressInfo, connect } from 'node:net';
import { BytesMessage, FileSendService } from '@flotilla/contracts/moby/filesync/v1/filesync';
import { isDeadlineExceeded } from '@flotilla/errors';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GrpcConnection } from './grpcConnection.ts';
import { SessionClient } from './sessionClient.ts';
import { closeWhenSilent } from './sessionHealth.ts';

const method = FileSendService.diffCopy;
const noSignal = new AbortController().signal;
const mebibyte = 1024 * 1024;

let server: Http2Server;
let connection: GrpcConnection;
let answer: (stream: ServerHttp2Stream, path: string) => void;

beforeEach(async () => {
  server = createServer();
  server.on('sessionError', () => undefined);
  server.on('session', (session) => server.once('leave', () => session.destroy()));
  server.on('stream', (stream, headers) => {
    stream.on('error', () => undefined);
    stream.resume();
    answer(stream, String(headers[':path']));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  connection = new GrpcConnection(connect((server.address() as AddressInfo).port, '127.0.0.1'));
});
afterEach(() => {
  connection.close();
  server.close();
});

function framed(body: Buffer, flag = 0): Buffer {
  const prefix = Buffer.alloc(5);
  prefix[0] = flag;
  prefix.writeUInt32BE(body.length, 1);
  return Buffer.concat([prefix, body]);
}

const message = (data: Buffer): Buffer => framed(Buffer.from(BytesMessage.encode(BytesMessage.fromPartial({ data })).finish()));

function respond(stream: ServerHttp2Stream, body: Buffer, status = '0'): void {
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': status, 'grpc-message': 'said%20so' }));
  stream.end(body);
}

const call = (patienceMs?: number): Promise<BytesMessage> => connection.call(method, BytesMessage.fromPartial({}), noSignal, patienceMs);

it('a connection that is closed as soon as it is made ends quietly', async () => {
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  await once(socket, 'connect');
  const early = new GrpcConnection(socket);
  early.close();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(early.closed.aborted).toBe(true);
});

describe('a connection that rests', () => {
  it('hears nothing meanwhile, and all of it afterwards', async () => {
    const restMs = 100;
    answer = (stream) => respond(stream, message(Buffer.from('here')));
    await call();
    const order: string[] = [];
    const resting = connection.rest(restMs).then(() => order.push('rested'));
    const { data } = await call();
    order.push(data.toString());
    await resting;
    expect(order).toEqual(['rested', 'here']);
  });

  it('hears then that the other side has gone, or is closed at once', async () => {
    answer = (stream) => respond(stream, message(Buffer.from('here')));
    await call();
    const resting = connection.rest(50);
    const gone = once(connection.closed, 'abort');
    server.emit('leave');
    await resting;
    await gone;
    connection.close();
    await connection.rest(1);
  });
});

describe('an answer of the other side', () => {
  it('is whole, however large it is and however it is cut', async () => {
    const data = Buffer.alloc(15 * mebibyte, 'content');
    answer = (stream) => respond(stream, message(data));
    expect((await call()).data.equals(data)).toBe(true);
    const sent = message(Buffer.from('piece'));
    answer = (stream) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      for (const byte of sent) stream.write(Buffer.from([byte]));
      stream.end();
    };
    expect((await call()).data.toString()).toBe('piece');
  });

  const garbage = framed(Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]));
  it.each<[string, (stream: ServerHttp2Stream) => void, RegExp]>([
    ['that is compressed', (stream) => respond(stream, framed(Buffer.alloc(4), 1)), /compressed/],
    [
      'that says it is larger than any',
      (stream) => respond(stream, Buffer.from([0, 0xff, 0xff, 0xff, 0xff])),
      /too large: 4294967295 bytes/,
    ],
    ['that is none', (stream) => respond(stream, garbage), /index out of range|premature EOF|invalid/i],
    ['that is cut', (stream) => respond(stream, message(Buffer.from('x')).subarray(0, 6)), /answered nothing/],
    ['that is missing', (stream) => respond(stream, Buffer.alloc(0)), /answered nothing/],
    [
      'that comes twice',
      (stream) => respond(stream, Buffer.concat([message(Buffer.from('1')), message(Buffer.from('2'))])),
      /more than once/,
    ],
    ['that is a refusal', (stream) => respond(stream, Buffer.alloc(0), '5'), /^said so$/],
    ['of no known status', (stream) => respond(stream, Buffer.alloc(0), 'x'), /said so/],
    ['that is no gRPC', (stream) => stream.respond({ ':status': 500 }, { endStream: true }), /has left/],
    ['that is taken back', (stream) => stream.close(constants.NGHTTP2_INTERNAL_ERROR), /has left/],
    ['whose side leaves', (stream) => stream.session?.destroy(), /has left/],
  ])('%s is an error', async (_name, hostile, expected) => {
    answer = hostile;
    await expect(call()).rejects.toThrow(expected);
  });

  it('that has no end is an error, and is not read on', async () => {
    let sent = 0;
    answer = (stream) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
      const more = (): void => {
        while (!stream.destroyed && stream.write(message(Buffer.alloc(mebibyte)))) sent++;
        if (!stream.destroyed) stream.once('drain', more);
      };
      more();
    };
    await expect(call()).rejects.toThrow(/more than once/);
    const before = sent;
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(sent - before).toBeLessThan(20);
  });

  it('that does not come is not waited for for ever', async () => {
    answer = () => undefined;
    const error: unknown = await call(100).catch((thrown: unknown) => thrown);
    expect(isDeadlineExceeded(error)).toBe(true);
    expect(String(error)).toMatch(/did not answer \/moby.filesync.v1.FileSend\/DiffCopy within 0.1 seconds/);
  });
});

describe('a secret', () => {
  it('is as large as BuildKit takes it, or refused', async () => {
    const client = new SessionClient({ id: 'a', sharedKey: '', connection, offers: () => true }, () => '/nowhere', noSignal);
    const secret = (bytes: number): Promise<Buffer | undefined> => {
      // GetSecret's answer and BytesMessage have the same form.
      answer = (stream) => respond(stream, message(Buffer.alloc(bytes)));
      return client.secret('key');
    };
    expect((await secret(500 * 1024))?.length).toBe(500 * 1024);
    await expect(secret(500 * 1024 + 1)).rejects.toThrow('secret key too large: 512001 bytes, at most 512000');
  });
});

describe('a client', () => {
  const watch = (): Promise<void> => closeWhenSilent(connection, { everyMs: 10, patienceMs: 50 });

  it('that says nothing any more is given up', async () => {
    let asked = 0;
    answer = (stream, path) => {
      expect(path).toBe('/grpc.health.v1.Health/Check');
      asked++;
      if (asked === 2) respond(stream, framed(Buffer.from([8, 1])));
    };
    await watch();
    // Once is no silence.
    expect([asked, connection.closed.aborted]).toEqual([4, true]);
  });

  it.each([
    ['answers', '0'],
    ['knows no such question', '12'],
  ])('that %s is not, and watching it ends with it', async (_name, status) => {
    let asked = 0;
    answer = (stream) => {
      asked++;
      respond(stream, status === '0' ? framed(Buffer.from([8, 1])) : Buffer.alloc(0), status);
      if (asked === 5) setTimeout(() => connection.close(), 5);
    };
    await watch();
    expect(asked).toBeGreaterThanOrEqual(5);
  });
});
