import { createSocket, type Socket } from 'node:dgram';
import type { AddressInfo } from 'node:net';
import { type Answer, decode, encode, type Packet } from 'dns-packet';
import { afterEach, describe, expect, it } from 'vitest';
import { AnswerCache } from './answerCache.ts';
import { Forwarder } from './forwarder.ts';
import { keepSeconds } from './messageTtl.ts';

const open: Socket[] = [];
afterEach(() => {
  for (const socket of open.splice(0)) socket.close();
});

/** A server on one of the loopback's addresses that counts what it is asked. */
async function server(
  address: string,
  port: number,
  answer: (query: Packet) => Packet | undefined,
): Promise<{ asked: () => number; port: number }> {
  const socket = createSocket('udp4');
  open.push(socket);
  let asked = 0;
  socket.on('message', (message, from) => {
    asked += 1;
    const reply = answer(decode(message));
    if (reply !== undefined) socket.send(encode(reply), from.port, from.address);
  });
  await new Promise<void>((resolve) => socket.bind(port, address, resolve));
  return { asked: () => asked, port: (socket.address() as AddressInfo).port };
}

const reply = (query: Packet, answers: Answer[], code = 0, authorities: Answer[] = []): Packet => ({
  type: 'response',
  id: query.id ?? 0,
  flags: code,
  questions: query.questions ?? [],
  answers,
  authorities,
});
const address = (ttl: number, data = '192.0.2.1'): Answer => ({ type: 'A', name: 'far.test', ttl, data });
const zone = (ttl: number, minimum: number): Answer => ({
  type: 'SOA',
  name: 'test',
  ttl,
  data: { mname: 'a', rname: 'b', serial: 1, refresh: 1, retry: 1, expire: 1, minimum },
});
const question = (id: number): Buffer => encode({ type: 'query', id, flags: 1 << 8, questions: [{ type: 'A', name: 'far.test' }] });

describe('the forwarder', () => {
  it('keeps an answer as long as it says, and counts its time down', async () => {
    let now = 0;
    const { asked, port } = await server('127.0.0.1', 0, (query) => reply(query, [address(30), address(20, '192.0.2.2')]));
    const forwarder = new Forwarder({ port, cache: new AnswerCache(() => now) });
    const ttls = async (id: number): Promise<unknown> => {
      const answer = decode((await forwarder.ask(question(id), ['127.0.0.1'], 'udp')) as Buffer);
      expect(answer.id).toBe(id);
      return answer.answers?.map((one) => ('ttl' in one ? one.ttl : undefined));
    };
    expect(await ttls(1)).toEqual([30, 20]);
    now = 15_500;
    expect(await ttls(2)).toEqual([15, 5]);
    expect(asked()).toBe(1);
    now = 20_001;
    expect(await ttls(3)).toEqual([30, 20]);
    expect(asked()).toBe(2);
  });

  it('goes on to the next server where there is no way to one', async () => {
    const { port } = await server('127.0.0.1', 0, (query) => reply(query, [address(30)]));
    const forwarder = new Forwarder({ port });
    // The kernel refuses to connect to a broadcast address.
    expect(await forwarder.ask(question(1), ['255.255.255.255', '127.0.0.1'], 'udp')).toBeDefined();
    expect(await forwarder.ask(question(2), ['255.255.255.255'], 'udp')).toBeUndefined();
  });

  it('asks once for equal questions at once', async () => {
    const { asked, port } = await server('127.0.0.1', 0, (query) => reply(query, [address(0)]));
    const forwarder = new Forwarder({ port });
    const answers = await Promise.all(Array.from({ length: 20 }, (_, id) => forwarder.ask(question(id), ['127.0.0.1'], 'udp')));
    expect(answers.map((answer) => answer?.readUInt16BE(0))).toEqual(Array.from({ length: 20 }, (_, id) => id));
    expect(asked()).toBe(1);
  });

  it('asks the next server when one is silent or refuses, and takes a refusal only for want of better', async () => {
    const silent = await server('127.0.0.2', 0, () => undefined);
    const refusing = await server('127.0.0.3', silent.port, (query) => reply(query, [], 5));
    await server('127.0.0.4', silent.port, (query) => reply(query, [address(5)]));
    const forwarder = new Forwarder({ port: silent.port });
    const answer = decode((await forwarder.ask(question(1), ['127.0.0.2', '127.0.0.3', '127.0.0.4'], 'udp')) as Buffer);
    expect(answer.answers).toHaveLength(1);
    expect(refusing.asked()).toBe(1);
    expect(((await forwarder.ask(question(2), ['127.0.0.3'], 'udp')) as Buffer).readUInt8(3) & 0x0f).toBe(5);
  });
});

describe('how long an answer is kept', () => {
  const query = decode(question(1));
  it.each([
    ['the shortest of its records', encode(reply(query, [address(30), address(7)])), 7],
    ['no such name: as its zone says', encode(reply(query, [], 3, [zone(900, 60)])), 60],
    ['nothing of that type: as its zone says', encode(reply(query, [], 0, [zone(10, 60)])), 10],
    ['no such name, without a zone', encode(reply(query, [], 3)), 0],
    ['a failure', encode(reply(query, [], 2)), 0],
    ['one that is cut', encode({ ...reply(query, [address(30)]), flags: 1 << 9 }), 0],
    ['one that lies about its length', encode(reply(query, [address(30)])).subarray(0, 40), 0],
  ])('%s', (_what, message, seconds) => {
    expect(keepSeconds(message)).toBe(seconds);
  });
});
