import { createSocket } from 'node:dgram';
import { decode, encode, type Packet } from 'dns-packet';
import { describe, expect, it } from 'vitest';
import { datagram, localAnswer, reverseAddress } from './answer.ts';
import type { NamedEndpoint } from './directory.ts';
import { Forwarder } from './forwarder.ts';

const web: NamedEndpoint = { containerName: 'web', networkName: 'blue', ipv4: '10.0.0.2' };
const names = {
  lookup: (name: string) =>
    name === 'web' ? [web] : name === 'many' ? Array.from({ length: 60 }, (_, index) => ({ ...web, ipv4: `10.0.1.${index}` })) : undefined,
  reverse: (address: string) => (address === '10.0.0.2' ? web : undefined),
};

function query(name: string, type: 'A' | 'AAAA' | 'PTR' | 'MX'): Packet {
  return decode(encode({ type: 'query', id: 7, flags: 1 << 8, questions: [{ type, name }] }));
}

describe('answers', () => {
  it('gives a container’s address, and says that there is no other family rather than no such name', () => {
    expect(localAnswer(query('web', 'A'), names)?.answers).toMatchObject([{ type: 'A', name: 'web', data: '10.0.0.2' }]);
    expect(localAnswer(query('web', 'AAAA'), names)).toMatchObject({ id: 7, answers: [] });
    expect(localAnswer(query('web', 'MX'), names)).toMatchObject({ answers: [] });
    expect(localAnswer(query('elsewhere.test', 'A'), names)).toBeUndefined();
    expect(localAnswer({ type: 'query', questions: [] }, names)).toBeUndefined();
  });

  it('gives names of addresses', () => {
    expect(localAnswer(query('2.0.0.10.in-addr.arpa', 'PTR'), names)?.answers).toMatchObject([{ data: 'web.blue' }]);
    expect(localAnswer(query('3.0.0.10.in-addr.arpa', 'PTR'), names)).toBeUndefined();
    expect(reverseAddress(`${'1.'.padEnd(56, '0.')}0.0.d.f.ip6.arpa`)).toBe('fd00::1');
  });

  it('cuts what does not fit into a datagram, and says so', () => {
    const asked = query('many', 'A');
    const answer = localAnswer(asked, names);
    if (answer === undefined) throw new Error('no answer');
    const short = decode(datagram(asked, answer));
    expect(short).toMatchObject({ flag_tc: true, answers: [] });
    const roomy: Packet = {
      ...asked,
      additionals: [
        { type: 'OPT', name: '.', udpPayloadSize: 4096, extendedRcode: 0, ednsVersion: 0, flags: 0, flag_do: false, options: [] },
      ],
    };
    expect(decode(datagram(roomy, answer)).answers).toHaveLength(60);
  });
});

describe('forwarding', () => {
  it('asks the next server when one is silent or refuses, and keeps the client’s id', async () => {
    const upstream = createSocket('udp4');
    upstream.on('message', (message, from) => {
      const asked = decode(message);
      upstream.send(
        encode({
          type: 'response',
          id: asked.id ?? 0,
          questions: asked.questions ?? [],
          answers: [{ type: 'A', name: 'x.test', data: '192.0.2.1' }],
        }),
        from.port,
        from.address,
      );
    });
    await new Promise<void>((resolve) => upstream.bind(0, '127.0.0.1', resolve));
    // Nothing listens on this port of the other loopback address.
    const forwarder = new Forwarder({ port: upstream.address().port });
    const answer = await forwarder.ask(
      encode({ type: 'query', id: 99, questions: [{ type: 'A', name: 'x.test' }] }),
      ['127.0.0.2', '127.0.0.1'],
      'udp',
    );
    upstream.close();
    expect(answer === undefined ? undefined : decode(answer)).toMatchObject({ id: 99, answers: [{ data: '192.0.2.1' }] });
  });

  it('answers nothing to what is no message', async () => {
    expect(await new Forwarder().ask(Buffer.from('x'), ['127.0.0.1'], 'udp')).toBeUndefined();
  });
});
