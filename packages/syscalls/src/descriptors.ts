/** Descriptors that outlive the one who opened them: listening unix sockets, passing through exec, and taking one from a living process. */
import { fstatSync } from 'node:fs';
import type { Socket } from 'node:net';
import { checked, cPath, libc } from './libc.ts';
import { openPidfd } from './process.ts';
import { closeDescriptor, descriptorOf, peerCredentials } from './socket.ts';

const socketCall = libc.func('int socket(int domain, int type, int protocol)');
const bindCall = libc.func('int bind(int fd, const void *address, unsigned int length)');
const listenCall = libc.func('int listen(int fd, int backlog)');
const fcntlCall = libc.func('int fcntl(int fd, int command, long argument)');
const dup2Call = libc.func('int dup2(int from, int to)');
const syscallOfWords = libc.func('long syscall(long number, long a, long b, long c)');

const unixFamily = 1;
const streamType = 1;
const nonBlocking = 0x800;
const closeOnExec = 0x80000;
const setDescriptorFlags = 2;
const duplicateCloseOnExec = 1030;
/** FD_CLOEXEC */
const dropFlag = 1;
const pidfdGetfdNumber = 438;
const maxPathBytes = 107;

/**
 * A unix stream socket that listens at `path`, which must not exist.
 *
 * @returns the descriptor, close-on-exec, for `net.Server.listen({fd})` here or in a child.
 * @throws SyscallError EADDRINUSE, ENOENT, EACCES …; Error when the path is longer than the kernel takes.
 */
export function listenUnix(path: string, backlog = 1024): number {
  const name = Buffer.from(cPath(path, 'bind'));
  if (name.length > maxPathBytes) throw new Error(`a socket's path has at most ${maxPathBytes} bytes: ${path}`);
  const address = Buffer.alloc(2 + name.length + 1);
  address.writeUInt16LE(unixFamily, 0);
  name.copy(address, 2);
  const fd = checked(socketCall(unixFamily, streamType | closeOnExec | nonBlocking, 0), 'socket', 'unix');
  try {
    checked(bindCall(fd, address, address.length), 'bind', path);
    checked(listenCall(fd, backlog), 'listen', path);
    return fd;
  } catch (error) {
    closeDescriptor(fd);
    throw error;
  }
}

/** The contrary of {@link keepOnExec}: children have the descriptor only where it is given to them. */
export function dropOnExec(fd: number): void {
  checked(fcntlCall(fd, setDescriptorFlags, dropFlag), 'fcntl', `fd ${fd}`);
}

/** Lets a descriptor pass through exec. */
export function keepOnExec(fd: number): void {
  checked(fcntlCall(fd, setDescriptorFlags, 0), 'fcntl', `fd ${fd}`);
}

/**
 * Copies descriptors to the numbers from `first` on, for the program that this process becomes. Whatever has these numbers is closed, be it Node's own: nothing may
 * come after it but exec.
 */
export function arrangeForExec(fds: readonly number[], first: number): void {
  // Above all of both numbers first, so that no copy takes the place of one that is still to be copied.
  const above = Math.max(first + fds.length, ...fds) + 1;
  const copies = fds.map((fd) => checked(fcntlCall(fd, duplicateCloseOnExec, above), 'fcntl', `fd ${fd}`));
  for (const [index, copy] of copies.entries()) checked(dup2Call(copy, first + index), 'dup2', `fd ${copy}`);
}

/**
 * A copy of another process' descriptor (pidfd_getfd): the same socket, still open when that process dies.
 *
 * @throws SyscallError ESRCH, EBADF, EPERM (not allowed to trace it), ENOSYS (before Linux 5.6).
 */
export function takeDescriptor(pid: number, fd: number): number {
  const pidfd = openPidfd(pid);
  try {
    return checked(syscallOfWords(pidfdGetfdNumber, pidfd, fd, 0), 'pidfd_getfd', `${pid}/${fd}`);
  } finally {
    closeDescriptor(pidfd);
  }
}

/**
 * A copy of the connection that the process at the other end of a unix socket has under a number, so that both have it.
 *
 * @param peer - this end of that socket.
 * @param given - its number there, and the inode of its socket: what is not that any more is not taken.
 * @throws SyscallError as {@link takeDescriptor}; Error when it is something else, or the peer is of another pid namespace.
 */
export function takeConnection(peer: Socket, { fd, inode }: { readonly fd: number; readonly inode: number }): number {
  const end = descriptorOf(peer);
  const pid = end === undefined ? 0 : peerCredentials(end).pid;
  if (pid === 0) throw new Error('the peer is a process that is not seen here');
  const own = takeDescriptor(pid, fd);
  const stat = fstatSync(own);
  if (stat.isSocket() && stat.ino === inode) return own;
  closeDescriptor(own);
  throw new Error(`descriptor ${fd} of process ${pid} is not the socket ${inode}`);
}
