/** Where the gateway listens: on sockets it was passed (LISTEN_FDS), else on FLOTILLA_LISTEN. */
import { chmodSync, readFileSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import { InvalidParameter } from '@flotilla/errors';
import type { GatewaySettings } from './config.ts';
import type { Handler } from './middleware/dispatch.ts';
import { createGatewayServer, listen, type TlsMaterial } from './server.ts';

const firstDescriptor = 3;

/** Listens everywhere it should. @throws InvalidParameter when there is nowhere to listen. */
export async function listenEverywhere(settings: GatewaySettings, handler: Handler): Promise<Server[]> {
  const servers: Server[] = [];
  const names = settings.LISTEN_FDNAMES.split(':');
  for (let i = 0; i < settings.LISTEN_FDS; i++) {
    const server = createGatewayServer(handler, names[i] === 'tls' ? readTls(settings) : undefined);
    await listen(server, { fd: firstDescriptor + i });
    servers.push(server);
  }
  if (servers.length === 0 && settings.FLOTILLA_LISTEN !== '') {
    const server = createGatewayServer(handler);
    await listen(server, listenAddress(settings.FLOTILLA_LISTEN));
    if (settings.FLOTILLA_LISTEN.startsWith('unix:')) chmodSync(settings.FLOTILLA_LISTEN.slice('unix:'.length), 0o660);
    servers.push(server);
  }
  if (servers.length === 0) throw new InvalidParameter('nowhere to listen: neither LISTEN_FDS nor FLOTILLA_LISTEN is set');
  return servers;
}

function listenAddress(address: string): { path: string } | { host: string; port: number } {
  if (address.startsWith('unix:')) {
    const path = address.slice('unix:'.length);
    rmSync(path, { force: true });
    return { path };
  }
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(address.slice(colon + 1)) };
}

function readTls(settings: GatewaySettings): TlsMaterial {
  const { tls } = settings.FLOTILLA_ENGINE_OPTIONS;
  if (tls?.cert === undefined || tls.key === undefined) throw new InvalidParameter('a socket named tls needs --tlscert and --tlskey');
  return {
    cert: readFileSync(tls.cert, 'utf8'),
    key: readFileSync(tls.key, 'utf8'),
    ...(tls.verify && tls.caCert !== undefined ? { ca: readFileSync(tls.caCert, 'utf8') } : {}),
  };
}
