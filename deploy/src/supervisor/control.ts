/** The supervisor's door: a unix socket for root in the exec root, one JSON request a connection, answered by JSON lines of which the last has `result` or `error`. */
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import type { SupervisorLog } from './log.ts';

export type ControlRequest =
  | { readonly command: 'ps' }
  | { readonly command: 'down' }
  | { readonly command: 'leave' }
  | { readonly command: 'scale'; readonly counts: Readonly<Record<string, number>> }
  | { readonly command: 'restart'; readonly service: string };

export type ControlLine = { readonly progress: string } | { readonly result: unknown } | { readonly error: string };

export type ControlHandler = (request: ControlRequest, progress: (line: string) => void) => Promise<unknown>;

const maxRequestBytes = 64 * 1024;

/** Listens at `path`, which only the holder of the stack's lock may do. */
export function serveControl(path: string, handle: ControlHandler, log: SupervisorLog): Promise<Server> {
  rmSync(path, { force: true });
  const server = createServer((socket) => {
    let text = '';
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      if (text.length > maxRequestBytes) socket.destroy();
      else if (text.includes('\n')) {
        socket.removeAllListeners('data');
        void answer(socket, text.slice(0, text.indexOf('\n')), handle, log);
      }
    });
  });
  return new Promise((resolve, reject) => {
    server.on('error', reject);
    const mask = process.umask(0o177);
    server.listen(path, () => {
      chmodSync(path, 0o600);
      resolve(server);
    });
    process.umask(mask);
  });
}

async function answer(socket: Socket, line: string, handle: ControlHandler, log: SupervisorLog): Promise<void> {
  const say = (message: ControlLine): void => {
    if (socket.writable) socket.write(`${JSON.stringify(message)}\n`);
  };
  try {
    say({ result: await handle(JSON.parse(line) as ControlRequest, (progress) => say({ progress })) });
  } catch (error) {
    log.warn('control request failed', { request: line, error: String(error) });
    say({ error: error instanceof Error ? error.message : String(error) });
  }
  socket.end();
}
