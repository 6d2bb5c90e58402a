/** Who is at the other end of a connection. */
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { Identity } from '@flotilla/service-kit/rights';
import { descriptorOf, peerCredentials } from '@flotilla/syscalls';

const known = new WeakMap<Socket, Identity>();

/** Asked once a connection. */
export function callerOf(socket: Socket): Identity {
  let identity = known.get(socket);
  if (identity === undefined) {
    identity = ask(socket);
    known.set(socket, identity);
  }
  return identity;
}

function ask(socket: Socket): Identity {
  if (socket instanceof TLSSocket && socket.authorized) {
    const name: unknown = socket.getPeerCertificate().subject?.CN;
    if (typeof name === 'string' && name !== '') return { kind: 'certificate', name };
  }
  if (socket.remoteAddress !== undefined) return { kind: 'address', name: socket.remoteAddress };
  const descriptor = descriptorOf(socket);
  if (descriptor === undefined) return { kind: 'address', name: 'unknown' };
  const { uid } = peerCredentials(descriptor);
  return { kind: 'user', name: userName(uid), uid };
}

/** The name in /etc/passwd, else the number. */
function userName(uid: number): string {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((each) => each.split(':')[2] === String(uid));
  return line?.split(':')[0] ?? String(uid);
}
