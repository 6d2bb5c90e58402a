/** Asking the real name servers, from the host's own network. Bytes are passed on as they are; only the id is ours for the time. */
import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { connect, isIPv6 } from 'node:net';

const attemptMs = 2_000;
const rounds = 2;
const maxInFlight = 1_024;
const dnsPort = 53;
const headerBytes = 12;

export class Forwarder {
  private inFlight = 0;
  private readonly port: number;

  /** @param port - where upstream servers listen; another only in tests. */
  constructor(port = dnsPort) {
    this.port = port;
  }

  /**
   * Asks one server after the other until one answers.
   *
   * @param query - the client's message.
   * @returns the answer with the client's id; undefined when nobody answered.
   */
  async ask(query: Buffer, servers: readonly string[], transport: 'udp' | 'tcp'): Promise<Buffer | undefined> {
    if (query.length < headerBytes || this.inFlight >= maxInFlight) return undefined;
    this.inFlight += 1;
    try {
      const own = Buffer.from(query);
      for (let round = 0; round < rounds; round += 1) {
        for (const server of servers) {
          own.writeUInt16BE(randomInt(65_536), 0);
          const answer = await (transport === 'udp' ? this.askDatagram(own, server) : this.askStream(own, server));
          if (answer === undefined) continue;
          const result = Buffer.from(answer);
          result.writeUInt16BE(query.readUInt16BE(0), 0);
          return result;
        }
      }
      return undefined;
    } finally {
      this.inFlight -= 1;
    }
  }

  private askDatagram(query: Buffer, server: string): Promise<Buffer | undefined> {
    return new Promise((resolve) => {
      const socket = createSocket(isIPv6(server) ? 'udp6' : 'udp4');
      const finish = (answer: Buffer | undefined): void => {
        clearTimeout(timer);
        socket.removeAllListeners();
        socket.on('error', () => undefined);
        socket.close();
        resolve(answer);
      };
      const timer = setTimeout(() => finish(undefined), attemptMs).unref();
      socket.on('error', () => finish(undefined));
      socket.on('message', (answer) => {
        if (isAnswerTo(query, answer)) finish(answer);
      });
      // Connected: answers from elsewhere do not reach us, and a refusal is an error at once.
      socket.connect(this.port, server, () => socket.send(query));
    });
  }

  private askStream(query: Buffer, server: string): Promise<Buffer | undefined> {
    return new Promise((resolve) => {
      const socket = connect({ host: server, port: this.port });
      const finish = (answer: Buffer | undefined): void => {
        clearTimeout(timer);
        socket.destroy();
        resolve(answer);
      };
      const timer = setTimeout(() => finish(undefined), attemptMs).unref();
      let received = Buffer.alloc(0);
      socket.on('error', () => finish(undefined));
      socket.on('close', () => finish(undefined));
      socket.on('data', (chunk: Buffer) => {
        received = Buffer.concat([received, chunk]);
        if (received.length < 2 || received.length < 2 + received.readUInt16BE(0)) return;
        const answer = received.subarray(2, 2 + received.readUInt16BE(0));
        finish(isAnswerTo(query, answer) ? answer : undefined);
      });
      socket.write(framed(query));
    });
  }
}

/** DNS over TCP: two bytes of length first. */
export function framed(message: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
}

function isAnswerTo(query: Buffer, answer: Buffer): boolean {
  return answer.length >= headerBytes && answer.readUInt16BE(0) === query.readUInt16BE(0) && (answer.readUInt8(2) & 0x80) !== 0;
}
