/** Sockets: who is at the other end, closing one direction, and plain sockets opened by hand (in another namespace, or only to hold a port). */
import { isIPv4, type Socket } from 'node:net';
import { checked, libc } from './libc.ts';

const getsockoptCall = libc.func('int getsockopt(int fd, int level, int name, void *value, void *length)');
const setsockoptCall = libc.func('int setsockopt(int fd, int level, int name, const void *value, unsigned int length)');
const shutdownCall = libc.func('int shutdown(int fd, int how)');
const socketCall = libc.func('int socket(int domain, int type, int protocol)');
const connectCall = libc.func('int connect(int fd, const void *address, unsigned int length)');
const bindCall = libc.func('int bind(int fd, const void *address, unsigned int length)');
const listenCall = libc.func('int listen(int fd, int backlog)');
const getsocknameCall = libc.func('int getsockname(int fd, void *address, void *length)');
const closeCall = libc.func('int close(int fd)');

const solSocket = 1;
const soPeerCredentials = 17;
const soReuseAddress = 2;
const ipv6Level = 41;
const ipv6Only = 26;
const closeOnExec = 0x80000;
const nonBlocking = 0x800;
const families = { unix: 1, inet: 2, inet6: 10 } as const;
const seqpacketType = 5;
const longestUnixPath = 107;

export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Who connected a unix socket, as the kernel knows it (SO_PEERCRED).
 *
 * @param fd - the accepted socket's descriptor.
 */
export function peerCredentials(fd: number): PeerCredentials {
  const value = Buffer.alloc(12);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(value.length);
  checked(getsockoptCall(fd, solSocket, soPeerCredentials, value, length), 'getsockopt', 'SO_PEERCRED');
  return { pid: value.readInt32LE(0), uid: value.readUInt32LE(4), gid: value.readUInt32LE(8) };
}

/** What Node keeps of an open socket: its descriptor, and what reads ahead of whoever listens to it. */
interface Handle {
  readonly fd?: number;
  readStop?(): void;
  readStart?(): void;
}

function handleOf(socket: Socket): Handle | undefined {
  return (socket as Socket & { readonly _handle?: Handle | null })._handle ?? undefined;
}

/** The number of a socket's descriptor, which stays the socket's; undefined when it has none (any more). */
export function descriptorOf(socket: Socket): number | undefined {
  const fd = handleOf(socket)?.fd;
  return fd === undefined || fd < 0 ? undefined : fd;
}

/** Takes nothing more out of the kernel's buffer until `readOn`, which `pause()` does not promise: Node reads ahead. Nothing once the socket is closed. */
export function stopReading(socket: Socket): void {
  handleOf(socket)?.readStop?.();
}

export function readOn(socket: Socket): void {
  handleOf(socket)?.readStart?.();
}

/** shutdown(2): no more is read, written, or both. */
export function shutdown(fd: number, direction: 'read' | 'write' | 'both'): void {
  checked(shutdownCall(fd, { read: 0, write: 1, both: 2 }[direction]), 'shutdown', `fd ${fd}`);
}

/**
 * Connects to a unix socket of whole messages (SOCK_SEQPACKET), without waiting. The caller closes the descriptor.
 *
 * @param path - at most 107 bytes.
 * @throws SyscallError ENOENT, ECONNREFUSED; EAGAIN when too many wait to be accepted.
 */
export function connectSeqpacket(path: string): number {
  const bytes = Buffer.from(path);
  if (bytes.length > longestUnixPath) throw new RangeError(`too long for the address of a socket: ${path}`);
  const address = Buffer.alloc(2 + bytes.length + 1);
  address.writeUInt16LE(families.unix, 0);
  bytes.copy(address, 2);
  const fd = checked(socketCall(families.unix, seqpacketType | closeOnExec | nonBlocking, 0), 'socket', path);
  try {
    checked(connectCall(fd, address, address.length), 'connect', path);
    return fd;
  } catch (error) {
    closeCall(fd);
    throw error;
  }
}

export type Transport = 'tcp' | 'udp' | 'sctp';

export interface BindOptions {
  readonly transport: Transport;
  /** IPv4 or IPv6 address. */
  readonly address: string;
  /** 0: any free one. */
  readonly port: number;
  /** SO_REUSEADDR. */
  readonly reuseAddress?: boolean;
  /** Connections the kernel queues; absent: bound but not listening. Not for udp. */
  readonly backlog?: number;
}

/**
 * Opens a socket and binds it. The descriptor can be given to `net.Server.listen({fd})` or `dgram.Socket.bind({fd})`.
 *
 * @returns the descriptor, which the caller closes, and the port bound.
 * @throws SyscallError EADDRINUSE, EADDRNOTAVAIL, EACCES, EPROTONOSUPPORT …
 */
export function bindSocket(options: BindOptions): { fd: number; port: number } {
  const family = isIPv4(options.address) ? families.inet : families.inet6;
  const [type, protocol] = { tcp: [1, 0], udp: [2, 0], sctp: [1, 132] }[options.transport] as [number, number];
  const fd = checked(socketCall(family, type | closeOnExec | nonBlocking, protocol), 'socket', options.transport);
  try {
    if (family === families.inet6) setOption(fd, ipv6Level, ipv6Only, 1);
    if (options.reuseAddress === true) setOption(fd, solSocket, soReuseAddress, 1);
    const address = socketAddress(options.address, options.port);
    checked(bindCall(fd, address, address.length), 'bind', `${options.address}:${options.port}`);
    if (options.backlog !== undefined) checked(listenCall(fd, options.backlog), 'listen', `${options.address}:${options.port}`);
    return { fd, port: options.port === 0 ? boundPort(fd) : options.port };
  } catch (error) {
    closeCall(fd);
    throw error;
  }
}

function setOption(fd: number, level: number, name: number, value: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  checked(setsockoptCall(fd, level, name, bytes, 4), 'setsockopt', `${level}/${name}`);
}

function boundPort(fd: number): number {
  const address = Buffer.alloc(28);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(address.length);
  checked(getsocknameCall(fd, address, length), 'getsockname', `fd ${fd}`);
  return address.readUInt16BE(2);
}

/** sockaddr_in or sockaddr_in6. */
function socketAddress(address: string, port: number): Buffer {
  const bytes = addressBytes(address);
  const result = Buffer.alloc(bytes.length === 4 ? 16 : 28);
  result.writeUInt16LE(bytes.length === 4 ? families.inet : families.inet6, 0);
  result.writeUInt16BE(port, 2);
  bytes.copy(result, bytes.length === 4 ? 4 : 8);
  return result;
}

const inetPton = libc.func('int inet_pton(int family, const char *text, void *address)');
const inetNtop = libc.func('const char *inet_ntop(int family, const void *address, _Out_ char *text, unsigned int size)');

/** The 4 or 16 bytes of an IP address in network order. @throws Error when it is not one. */
export function addressBytes(address: string): Buffer {
  const bytes = Buffer.alloc(address.includes(':') ? 16 : 4);
  if (inetPton(bytes.length === 4 ? families.inet : families.inet6, address, bytes) !== 1) throw new Error(`not an IP address: ${address}`);
  return bytes;
}

/** The text of 4 or 16 address bytes; IPv6 in its shortest form. */
export function addressText(bytes: Uint8Array): string {
  const text = Buffer.alloc(64);
  inetNtop(bytes.length === 4 ? families.inet : families.inet6, Buffer.from(bytes), text, text.length);
  return text.toString('latin1', 0, text.indexOf(0));
}

/** Closes a descriptor that no Node object owns. */
export function closeDescriptor(fd: number): void {
  checked(closeCall(fd), 'close', `fd ${fd}`);
}
