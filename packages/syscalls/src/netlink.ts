/**
 * Netlink, the kernel's message protocol for networking: a raw socket, messages, and nested attributes, all synchronous. One request is
 * some tens of microseconds, where spawning ip(8) takes milliseconds.
 *
 * A socket belongs for life to the network namespace it was opened in.
 */
import { checked, libc, SyscallError } from './libc.ts';

const socketCall = libc.func('int socket(int domain, int type, int protocol)');
const bindCall = libc.func('int bind(int fd, const void *address, unsigned int length)');
const sendCall = libc.func('long send(int fd, const void *bytes, unsigned long length, int flags)');
const recvCall = libc.func('long recv(int fd, void *bytes, unsigned long length, int flags)');
const setsockoptCall = libc.func('int setsockopt(int fd, int level, int name, const void *value, unsigned int length)');
const getsocknameCall = libc.func('int getsockname(int fd, void *address, void *length)');
const closeCall = libc.func('int close(int fd)');

const afNetlink = 16;
const solNetlink = 270;
const headerBytes = 16;
const dontWait = 0x40;

/** Answers are read here and copied out before anything else runs. */
const shared = Buffer.allocUnsafe(256 * 1024);
/** Of an answer that is read in another thread: more than the kernel puts into one. */
const backgroundBytes = 64 * 1024;

/** Room for what is told between two looks, without which the kernel drops some. Memory is only taken by what waits. */
const multicastBufferBytes = 8 * 1024 * 1024;

/** NLM_F_* of a request. */
export const netlinkFlags = {
  request: 0x1,
  ack: 0x4,
  dump: 0x300,
  replace: 0x100,
  exclusive: 0x200,
  create: 0x400,
  append: 0x800,
} as const;
/** Protocols of netlink sockets. */
export const netlinkProtocols = { route: 0, netfilter: 12 } as const;

export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  /** Port of the socket whose request it answers or tells of. */
  readonly sender: number;
  readonly payload: Buffer;
}

/** Failed requests are `SyscallError`s whose message holds what the caller was doing and, where the kernel says it, why. */
export class NetlinkSocket implements Disposable {
  readonly #fd: number;
  readonly #buffer = shared;
  #sequence = 1;
  #open = true;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Opens a socket in the network namespace this thread is in. `groups`: multicast groups to hear, by number. */
  static open(protocol: number = netlinkProtocols.route, groups: readonly number[] = []): NetlinkSocket {
    const rawCloseOnExec = 3 | 0x80000;
    const fd = checked(socketCall(afNetlink, rawCloseOnExec, protocol), 'socket', 'netlink');
    try {
      const address = Buffer.alloc(12);
      address.writeUInt16LE(afNetlink, 0);
      checked(bindCall(fd, address, address.length), 'bind', 'netlink');
      setOption(fd, 11, 1); // NETLINK_EXT_ACK: the reason in words
      for (const group of groups) setOption(fd, 1, group); // NETLINK_ADD_MEMBERSHIP
      if (groups.length > 0) setReceiveBuffer(fd, multicastBufferBytes);
      return new NetlinkSocket(fd);
    } catch (error) {
      closeCall(fd);
      throw error;
    }
  }

  /** Sends one request and waits for the kernel's yes or no. `what` names it in an error: "create bridge docker0". */
  request(type: number, flags: number, payload: Buffer, what: string): NetlinkMessage[] {
    return this.#exchange(type, flags | netlinkFlags.request | netlinkFlags.ack, payload, what);
  }

  /**
   * As `request`, while the kernel works in a thread of libuv's: for what takes it ten milliseconds (removing an interface). One at a time
   * on a socket, and nothing else on it meanwhile.
   */
  async requestInBackground(type: number, flags: number, payload: Buffer, what: string): Promise<NetlinkMessage[]> {
    const request = this.#message(type, flags | netlinkFlags.request | netlinkFlags.ack, payload);
    await inBackground(sendCall, this.#fd, request, what);
    return this.#answers(what);
  }

  /** Asks for a whole table. */
  dump(type: number, payload: Buffer, what: string): NetlinkMessage[] {
    return this.#exchange(type, netlinkFlags.request | netlinkFlags.dump, payload, what);
  }

  /** As `dump`, in a thread of libuv's: for a table that takes the kernel long to walk. Nothing else on this socket meanwhile. */
  async dumpInBackground(type: number, payload: Buffer, what: string): Promise<NetlinkMessage[]> {
    await inBackground(sendCall, this.#fd, this.#message(type, netlinkFlags.request | netlinkFlags.dump, payload), what);
    const buffer = Buffer.allocUnsafeSlow(backgroundBytes);
    const answers: NetlinkMessage[] = [];
    for (;;) {
      const size = await inBackground(recvCall, this.#fd, buffer, what);
      if (this.#collect(buffer.subarray(0, size), answers, what)) return answers;
    }
  }

  /** Multicast messages that have arrived; never waits. `overrun` when the kernel had to drop some. */
  poll(): { messages: NetlinkMessage[]; overrun: boolean } {
    const messages: NetlinkMessage[] = [];
    for (;;) {
      let size: number;
      try {
        size = checked(recvCall(this.#fd, this.#buffer, this.#buffer.length, dontWait), 'recv', 'netlink');
      } catch (error) {
        const code = error instanceof SyscallError ? error.code : '';
        if (code === 'EAGAIN') return { messages, overrun: false };
        if (code === 'ENOBUFS') return { messages, overrun: true };
        throw error;
      }
      for (const { message } of parseMessages(this.#buffer.subarray(0, size))) messages.push(copied(message));
    }
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeCall(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #message(type: number, flags: number, payload: Buffer): Buffer {
    this.#sequence = (this.#sequence + 1) >>> 0;
    const request = Buffer.alloc(headerBytes + payload.length);
    request.writeUInt32LE(request.length, 0);
    request.writeUInt16LE(type, 4);
    request.writeUInt16LE(flags, 6);
    request.writeUInt32LE(this.#sequence, 8);
    payload.copy(request, headerBytes);
    return request;
  }

  #exchange(type: number, flags: number, payload: Buffer, what: string): NetlinkMessage[] {
    const request = this.#message(type, flags, payload);
    checked(sendCall(this.#fd, request, request.length, 0), 'send', what);
    return this.#answers(what);
  }

  #answers(what: string): NetlinkMessage[] {
    const answers: NetlinkMessage[] = [];
    for (;;) {
      const size = checked(recvCall(this.#fd, this.#buffer, this.#buffer.length, 0), 'recv', what);
      if (this.#collect(this.#buffer.subarray(0, size), answers, what)) return answers;
    }
  }

  /** Takes what answers the last request; tells whether that was all. */
  #collect(bytes: Buffer, answers: NetlinkMessage[], what: string): boolean {
    for (const { sequence, message } of parseMessages(bytes)) {
      if (sequence !== this.#sequence) continue;
      if (message.type === 2 || message.type === 3) {
        // NLMSG_ERROR (0 is the acknowledgement) and NLMSG_DONE both begin with an error number.
        throwIfRefused(message, what);
        return true;
      }
      answers.push(copied(message));
    }
    return false;
  }
}

/** send or recv in a thread of libuv's. */
function inBackground(call: typeof sendCall, fd: number, bytes: Buffer, what: string): Promise<number> {
  return new Promise((resolve, reject) => {
    call.async(fd, bytes, bytes.length, 0, (error: Error | null, result: number) => {
      if (error !== null) reject(error);
      else if (result < 0) reject(new Error(`netlink ${what}: no exchange with the kernel`));
      else resolve(result);
    });
  });
}

/** More than the host's limit where this process may. */
function setReceiveBuffer(fd: number, sizeBytes: number): void {
  const [solSocket, receiveBuffer, receiveBufferForce] = [1, 8, 33];
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(sizeBytes);
  if (setsockoptCall(fd, solSocket, receiveBufferForce, bytes, 4) < 0) setsockoptCall(fd, solSocket, receiveBuffer, bytes, 4);
}

/** The port of a netlink socket of this process, which the messages it causes carry; undefined for another descriptor. It gets one with its first request. */
export function netlinkPort(fd: number): number | undefined {
  const address = Buffer.alloc(12);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(address.length);
  if (getsocknameCall(fd, address, length) < 0 || address.readUInt16LE(0) !== afNetlink) return undefined;
  return address.readUInt32LE(4);
}

function setOption(fd: number, name: number, value: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  checked(setsockoptCall(fd, solNetlink, name, bytes, 4), 'setsockopt', 'netlink');
}

function copied(message: NetlinkMessage): NetlinkMessage {
  return { ...message, payload: Buffer.from(message.payload) };
}

function* parseMessages(bytes: Buffer): Generator<{ sequence: number; message: NetlinkMessage }> {
  let offset = 0;
  while (offset + headerBytes <= bytes.length) {
    const length = bytes.readUInt32LE(offset);
    if (length < headerBytes || offset + length > bytes.length) return;
    yield {
      sequence: bytes.readUInt32LE(offset + 8),
      message: {
        type: bytes.readUInt16LE(offset + 4),
        flags: bytes.readUInt16LE(offset + 6),
        sender: bytes.readUInt32LE(offset + 12),
        payload: bytes.subarray(offset + headerBytes, offset + length),
      },
    };
    offset += aligned(length);
  }
}

/** The kernel's answer: error number, the request's header (its whole request unless capped), then extended attributes. */
function throwIfRefused(message: NetlinkMessage, what: string): void {
  if (message.payload.length < 4) return;
  const errno = -message.payload.readInt32LE(0);
  if (errno === 0) return;
  throw new SyscallError('netlink', errno, what + extendedReason(message));
}

function extendedReason(message: NetlinkMessage): string {
  const hasAttributes = 0x200;
  const capped = 0x100;
  if (message.type !== 2 || (message.flags & hasAttributes) === 0) return '';
  const requestBytes = (message.flags & capped) === 0 ? message.payload.readUInt32LE(4) : headerBytes;
  const words = parseAttributes(message.payload.subarray(4 + aligned(requestBytes))).get(1);
  return words === undefined ? '' : `: ${readText(words)}`;
}

function aligned(length: number): number {
  return (length + 3) & ~3;
}

/** One attribute: type and value, padded to four bytes. */
export function attribute(type: number, value: Buffer | readonly Buffer[]): Buffer {
  const body = Buffer.isBuffer(value) ? value : Buffer.concat(value);
  const result = Buffer.alloc(aligned(4 + body.length));
  result.writeUInt16LE(4 + body.length, 0);
  result.writeUInt16LE(type, 2);
  body.copy(result, 4);
  return result;
}

/** An attribute that holds attributes, for tables whose kernel side asks for the mark of that. */
export function nestedAttribute(type: number, parts: readonly Buffer[]): Buffer {
  return attribute(type | 0x8000, parts);
}

export function textAttribute(type: number, text: string): Buffer {
  return attribute(type, Buffer.from(`${text}\0`, 'latin1'));
}

export function uint32Attribute(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return attribute(type, bytes);
}

export function uint16Attribute(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return attribute(type, bytes);
}

export function uint8Attribute(type: number, value: number): Buffer {
  return attribute(type, Buffer.from([value]));
}

/** Attributes by type; of a type that comes twice the last one. The nested bit is taken off. */
export function parseAttributes(bytes: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  let offset = 0;
  while (offset + 4 <= bytes.length) {
    const length = bytes.readUInt16LE(offset);
    if (length < 4 || offset + length > bytes.length) break;
    found.set(bytes.readUInt16LE(offset + 2) & 0x3fff, bytes.subarray(offset + 4, offset + length));
    offset += aligned(length);
  }
  return found;
}

/** A zero-terminated text. */
export function readText(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('latin1', 0, end === -1 ? bytes.length : end);
}
