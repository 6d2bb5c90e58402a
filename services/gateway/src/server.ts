/** The HTTP servers: one for each listening socket, all with the same limits. */
import type { Server, ServerOptions } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Socket } from 'node:net';
import { http } from '@flotilla/service-kit/http';
import type { Handler } from './middleware/dispatch.ts';

/** Go's default; some clients send large X-Registry-Config headers. */
const maxHeaderBytes = 1024 * 1024;
/** A client must have sent its headers within this time. Bodies (a build's context, a load) may take as long as they do. */
const headersTimeoutMs = 60_000;
/** Clients keep idle connections for minutes and reuse them; closing earlier than they do loses requests. */
const keepAliveTimeoutMs = 15 * 60_000;

const options: ServerOptions & { shouldUpgradeCallback: () => boolean } = {
  maxHeaderSize: maxHeaderBytes,
  headersTimeout: headersTimeoutMs,
  requestTimeout: 0,
  keepAliveTimeout: keepAliveTimeoutMs,
  connectionsCheckingInterval: 10_000,
  noDelay: true,
  // A request that announces no body has none to wait for: a tenth less work for each.
  optimizeEmptyRequests: true,
  // Upgrades are done by streams/hijack.ts, when the answer is known.
  shouldUpgradeCallback: () => false,
};

export interface TlsMaterial {
  readonly cert: string;
  readonly key: string;
  /** clients must show a certificate signed by it */
  readonly ca?: string;
}

/** A server that is not listening yet. `limits` are for tests that cannot wait so long. */
export function createGatewayServer(
  handler: Handler,
  tls?: TlsMaterial,
  limits: Pick<ServerOptions, 'headersTimeout' | 'connectionsCheckingInterval'> = {},
): Server {
  const server =
    tls === undefined
      ? http.createServer({ ...options, ...limits }, handler)
      : createTlsServer(
          {
            ...options,
            ...limits,
            ...tls,
            allowHalfOpen: true,
            minVersion: 'TLSv1.2',
            requestCert: tls.ca !== undefined,
            rejectUnauthorized: tls.ca !== undefined,
          },
          handler,
        );
  server.on('clientError', refuse);
  return server;
}

/** What Go's server answers to something that is not HTTP. */
function refuse(error: NodeJS.ErrnoException, socket: Socket): void {
  if (!socket.writable || socket.bytesWritten > 0) {
    socket.destroy();
    return;
  }
  const status = error.code === 'HPE_HEADER_OVERFLOW' ? '431 Request Header Fields Too Large' : '400 Bad Request';
  socket.end(`HTTP/1.1 ${status}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n${status}`);
}

/** Listens on a passed descriptor, a unix socket or an address. */
export function listen(server: Server, where: { fd: number } | { path: string } | { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

/** Accepts no more, closes what is idle, lets running requests end until the deadline, then cuts them. */
export async function closeServer(server: Server, deadlineMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), deadlineMs);
  await closed;
  clearTimeout(timer);
}
