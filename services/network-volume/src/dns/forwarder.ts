/** Asking the real name servers, from the host's network or a container's. Bytes are passed on as they are; only the id is ours for the time. */
import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { isIPv6, Socket } from 'node:net';
import { AnswerCache } from './answerCache.ts';

const attemptMs = 2_000;
const rounds = 2;
/** How long a server may think before the next is asked too. */
const hedgeMs = 300;
const maxInFlight = 1_024;
const dnsPort = 53;
const headerBytes = 12;

export interface ForwarderOptions {
  /** Where upstream servers listen; another only in tests. */
  readonly port?: number;
  readonly cache?: AnswerCache;
  /** A descriptor bound to this address (`0.0.0.0` or `::`) in the network to ask from. Left out: this process's own network. */
  readonly openSocket?: (transport: 'udp' | 'tcp', address: string) => number;
}

export class Forwarder {
  private inFlight = 0;
  private readonly port: number;
  private readonly cache: AnswerCache;
  private readonly openSocket: ForwarderOptions['openSocket'];
  /** Equal questions that are asked at once are asked upstream once. */
  private readonly asking = new Map<string, Promise<Buffer | undefined>>();

  constructor(options: ForwarderOptions = {}) {
    this.port = options.port ?? dnsPort;
    this.cache = options.cache ?? new AnswerCache();
    this.openSocket = options.openSocket;
  }

  /**
   * Asks the first server, and each further one when those before have not answered soon: the first good answer counts.
   *
   * @param query - the client's message.
   * @returns the answer with the client's id; undefined when nobody answered.
   */
  async ask(query: Buffer, servers: readonly string[], transport: 'udp' | 'tcp'): Promise<Buffer | undefined> {
    if (query.length < headerBytes) return undefined;
    // Everything but the id: the question, and what kind of answer is asked for.
    const key = `${transport} ${servers.join(' ')} ${query.toString('latin1', 2)}`;
    const answer = this.cache.get(key) ?? (await this.askOnce(key, query, servers, transport));
    if (answer === undefined) return undefined;
    const result = Buffer.from(answer);
    result.writeUInt16BE(query.readUInt16BE(0), 0);
    return result;
  }

  private askOnce(key: string, query: Buffer, servers: readonly string[], transport: 'udp' | 'tcp'): Promise<Buffer | undefined> {
    const before = this.asking.get(key);
    if (before !== undefined) return before;
    if (this.inFlight >= maxInFlight) return Promise.resolve(undefined);
    this.inFlight += 1;
    const asked = this.askAll(query, servers, transport)
      .then((answer) => {
        if (answer !== undefined) this.cache.put(key, answer);
        return answer;
      })
      .finally(() => {
        this.inFlight -= 1;
        this.asking.delete(key);
      });
    this.asking.set(key, asked);
    return asked;
  }

  private async askAll(query: Buffer, servers: readonly string[], transport: 'udp' | 'tcp'): Promise<Buffer | undefined> {
    for (let round = 0; round < rounds; round += 1) {
      const answer = await firstGood(servers.map((server) => () => this.askServer(query, server, transport)));
      if (answer !== undefined) return answer;
    }
    return undefined;
  }

  private askServer(query: Buffer, server: string, transport: 'udp' | 'tcp'): Promise<Buffer | undefined> {
    const own = Buffer.from(query);
    own.writeUInt16BE(randomInt(65_536), 0);
    let fd: number | undefined;
    try {
      fd = this.openSocket?.(transport, isIPv6(server) ? '::' : '0.0.0.0');
    } catch {
      // Without IPv6 there, or the container has just ended.
      return Promise.resolve(undefined);
    }
    return transport === 'udp' ? this.askDatagram(own, server, fd) : this.askStream(own, server, fd);
  }

  private askDatagram(query: Buffer, server: string, fd: number | undefined): Promise<Buffer | undefined> {
    return new Promise((resolve) => {
      const socket = createSocket(isIPv6(server) ? 'udp6' : 'udp4');
      let finished = false;
      const finish = (answer: Buffer | undefined): void => {
        if (finished) return;
        finished = true;
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
      if (fd !== undefined) socket.bind({ fd });
      // Connected: answers from elsewhere do not reach us, and a refusal is an error at once.
      socket.connect(this.port, server, (failure?: Error) => {
        // Without a route to the server the failure comes here, as no event.
        if (failure) finish(undefined);
        else socket.send(query);
      });
    });
  }

  private askStream(query: Buffer, server: string, fd: number | undefined): Promise<Buffer | undefined> {
    return new Promise((resolve) => {
      const socket = new Socket(fd === undefined ? {} : { fd }).connect({ host: server, port: this.port });
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

/** Whether a server says that it cannot help: another may. */
function isRefusal(answer: Buffer): boolean {
  const [serverFailure, refused] = [2, 5];
  const code = answer.readUInt8(3) & 0x0f;
  return code === serverFailure || code === refused;
}

/** Begins with the first, and with the next when one fails or is not quick. A refusal counts only when there is nothing better. */
function firstGood(attempts: readonly (() => Promise<Buffer | undefined>)[]): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    let next = 0;
    let running = 0;
    let refusal: Buffer | undefined;
    let timer: NodeJS.Timeout | undefined;
    const begin = (): void => {
      clearTimeout(timer);
      const attempt = attempts[next];
      if (attempt === undefined) {
        if (running === 0) resolve(refusal);
        return;
      }
      next += 1;
      running += 1;
      timer = setTimeout(begin, hedgeMs).unref();
      void attempt().then((answer) => {
        running -= 1;
        if (answer !== undefined && !isRefusal(answer)) {
          clearTimeout(timer);
          resolve(answer);
          return;
        }
        refusal ??= answer;
        begin();
      });
    };
    begin();
  });
}
