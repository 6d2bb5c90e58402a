/** Where the gateway listens: on sockets it was passed (LISTEN_FDS), else on FLOTILLA_LISTEN. */
import { readFileSync, watch } from 'node:fs';
import type { Server } from 'node:http';
import { Server as TlsServer } from 'node:https';
import { dirname } from 'node:path';
import { InvalidParameter } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
import type { GatewaySettings } from './config.ts';
import type { Handler } from './middleware/dispatch.ts';
import { createGatewayServer, listen, type TlsMaterial } from './server.ts';
import { listenShared } from './sharedSocket.ts';

const firstDescriptor = 3;
/** Key and certificate are two files: both are in place when nothing has changed for this long. */
const settleMs = 300;

/** Listens everywhere it should. @throws InvalidParameter when there is nowhere to listen. */
export async function listenEverywhere(settings: GatewaySettings, handler: Handler, logger: Logger): Promise<Server[]> {
  const servers: Server[] = [];
  const names = settings.LISTEN_FDNAMES.split(':');
  for (let i = 0; i < settings.LISTEN_FDS; i++) {
    const files = names[i] === 'tls' ? tlsFiles(settings) : undefined;
    const server = createGatewayServer(handler, files === undefined ? undefined : readTls(files));
    if (files !== undefined && server instanceof TlsServer) followRenewal(server, files, logger);
    await listen(server, { fd: firstDescriptor + i });
    servers.push(server);
  }
  if (servers.length === 0 && settings.FLOTILLA_LISTEN !== '') {
    const server = createGatewayServer(handler);
    if (settings.FLOTILLA_LISTEN.startsWith('unix:')) {
      await listenShared(server, settings.FLOTILLA_LISTEN.slice('unix:'.length), settings.FLOTILLA_INSTANCE, logger);
    } else {
      await listen(server, tcpAddress(settings.FLOTILLA_LISTEN));
    }
    servers.push(server);
  }
  if (servers.length === 0) throw new InvalidParameter('nowhere to listen: neither LISTEN_FDS nor FLOTILLA_LISTEN is set');
  return servers;
}

function tcpAddress(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(address.slice(colon + 1)) };
}

interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  readonly ca?: string;
}

function tlsFiles(settings: GatewaySettings): TlsFiles {
  const { tls } = settings.FLOTILLA_ENGINE_OPTIONS;
  if (tls?.cert === undefined || tls.key === undefined) throw new InvalidParameter('a socket named tls needs --tlscert and --tlskey');
  return { cert: tls.cert, key: tls.key, ...(tls.verify && tls.caCert !== undefined ? { ca: tls.caCert } : {}) };
}

function readTls(files: TlsFiles): TlsMaterial {
  return {
    cert: readFileSync(files.cert, 'utf8'),
    key: readFileSync(files.key, 'utf8'),
    ...(files.ca === undefined ? {} : { ca: readFileSync(files.ca, 'utf8') }),
  };
}

/** Uses renewed certificates for connections that come after; the supervisor puts new files in place by rename. */
function followRenewal(server: TlsServer, files: TlsFiles, logger: Logger): void {
  let timer: NodeJS.Timeout | undefined;
  const reload = (): void => {
    try {
      server.setSecureContext(readTls(files));
      logger.info('certificates read again');
    } catch (error) {
      // Half of a pair is in place; the other half is another change.
      logger.warn({ error }, 'certificates could not be read again');
    }
  };
  const watchers = [...new Set(Object.values(files).map((file: string) => dirname(file)))].map((directory) =>
    watch(directory, { persistent: false }, () => {
      clearTimeout(timer);
      timer = setTimeout(reload, settleMs).unref();
    }),
  );
  server.on('close', () => {
    clearTimeout(timer);
    for (const watcher of watchers) watcher.close();
  });
}
