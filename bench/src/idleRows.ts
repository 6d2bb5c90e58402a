/** Rows of clients that wait and say nothing: what a thousand of them cost in memory. */
import { connect, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import type { Engine } from './engine.ts';
import { engineProcesses, pssMiB } from './memory.ts';
import { hostOf, type Row, removeAll, started } from './row.ts';
import { inParallel } from './statistics.ts';

const clients = 1000;
/** Collectors of garbage have run by then. */
const settleMs = 3_000;

/** A connection whose request was answered with `status`, and that stays. */
function waiting(socketPath: string, head: string, status: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath, () => socket.write(`${head}\r\nHost: engine\r\n\r\n`));
    socket.once('data', (chunk: Buffer) => {
      const line = chunk.toString('latin1', 0, 12);
      if (line === `HTTP/1.1 ${status}`) resolve(socket);
      else reject(new Error(`answered ${line}`));
    });
    socket.once('error', reject);
  });
}

async function costOf(engine: Engine, head: string, status: number): Promise<number> {
  const memory = (): number => pssMiB(engineProcesses(hostOf(engine).namespaces.pid));
  const before = memory();
  const sockets: Socket[] = [];
  try {
    await inParallel(clients, 16, async () => sockets.push(await waiting(engine.socketPath, head, status)));
    await pause(settleMs);
    return memory() - before;
  } finally {
    for (const socket of sockets) socket.destroy();
    await pause(settleMs);
  }
}

export const idleRows: readonly Row[] = [
  {
    name: 'memory of 1,000 attached clients',
    unit: 'MiB',
    repeat: 1,
    needs: 'host',
    before: started,
    measure: (engine, _setting, [id = '']) =>
      costOf(engine, `POST /containers/${id}/attach?stream=1&stdout=1 HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp`, 101),
    after: removeAll,
  },
  {
    name: 'memory of 1,000 followers of events',
    unit: 'MiB',
    repeat: 1,
    needs: 'host',
    measure: (engine) => costOf(engine, 'GET /events HTTP/1.1', 200),
  },
];
