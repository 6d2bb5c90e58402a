/** One embedded name server: its two sockets are inside a container's namespace, its work is done here. */
import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { createServer, type Server, type Socket } from 'node:net';
import { decode, encode, type Packet } from 'dns-packet';
import { datagram, failure, localAnswer, type Names } from './answer.ts';
import { framed } from './forwarder.ts';

export interface NameServerOptions {
  /** Bound descriptors, which the server owns from now on; the stream's listens. */
  readonly datagramFd: number;
  readonly streamFd: number;
  readonly names: Names;
  /** Asks on; undefined when nobody answered. */
  readonly askOn: (query: Buffer, transport: 'udp' | 'tcp') => Promise<Buffer | undefined>;
  readonly onError: (error: unknown) => void;
}

const idleMs = 10_000;
const maxConnections = 64;
const [serverFailure, formatError] = [2, 1];

/** A client's cookie is for us, not for those we ask (RFC 7873); as it is another each time, no two questions would be equal. */
function withoutCookie(message: Buffer, query: Packet): Buffer {
  const isCookie = ({ code }: { code: string | number }): boolean => code === 'COOKIE' || code === 10;
  const additionals = query.additionals?.map((record) =>
    record.type === 'OPT' ? { ...record, options: record.options.filter((option) => !isCookie(option)) } : record,
  );
  const hasCookie = query.additionals?.some((record) => record.type === 'OPT' && record.options.some(isCookie)) === true;
  return hasCookie && additionals !== undefined ? encode({ ...query, additionals }) : message;
}

export class NameServer {
  private readonly options: NameServerOptions;
  private readonly datagrams: DatagramSocket;
  private readonly streams: Server;
  private readonly connections = new Set<Socket>();

  constructor(options: NameServerOptions) {
    this.options = options;
    // Answers go to addresses, which nothing need be asked about.
    this.datagrams = createSocket({ type: 'udp4', lookup: (address, _options, found) => found(null, address, 4) });
    this.datagrams.on('error', options.onError);
    this.datagrams.on('message', (message, from) => {
      this.answer(message, 'udp', (bytes) => this.send(bytes, from.port, from.address));
    });
    this.datagrams.bind({ fd: options.datagramFd });
    this.datagrams.unref();
    this.streams = createServer((socket) => this.serve(socket));
    this.streams.maxConnections = maxConnections;
    this.streams.on('error', options.onError);
    this.streams.listen({ fd: options.streamFd });
    this.streams.unref();
  }

  private send(bytes: Buffer, port: number, address: string): void {
    try {
      this.datagrams.send(bytes, port, address);
    } catch {
      // The container ended while the answer was on its way.
    }
  }

  /** What is known here is answered at once. Never throws: a bad message gets an error answer or none. */
  private answer(message: Buffer, transport: 'udp' | 'tcp', send: (bytes: Buffer) => void): void {
    const refuse = (): void => {
      if (message.length >= 12) send(encode(failure({ id: message.readUInt16BE(0), questions: [] }, formatError)));
    };
    try {
      const query = decode(message);
      if (query.type !== 'query') return;
      const local = localAnswer(query, this.options.names);
      if (local === undefined) void this.forward(message, query, transport).then(send, refuse);
      else send(transport === 'udp' ? datagram(query, local) : encode(local));
    } catch {
      refuse();
    }
  }

  private async forward(message: Buffer, query: Packet, transport: 'udp' | 'tcp'): Promise<Buffer> {
    const answer = await this.options.askOn(withoutCookie(message, query), transport);
    return answer ?? encode(failure(query, serverFailure));
  }

  private serve(socket: Socket): void {
    this.connections.add(socket);
    socket.setTimeout(idleMs, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.connections.delete(socket));
    let received = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        const message = received.subarray(2, 2 + received.readUInt16BE(0));
        received = received.subarray(2 + message.length);
        this.answer(Buffer.from(message), 'tcp', (bytes) => {
          if (socket.writable) socket.write(framed(bytes));
        });
      }
    });
  }

  close(): void {
    this.datagrams.close();
    this.streams.close();
    for (const socket of this.connections) socket.destroy();
  }
}
