/**
 * A unix socket that replicas take over from one another where nobody hands listening sockets down: each listens on a file of its own, and the name that clients
 * know is a link to that of one who lives.
 */
import { chmodSync, linkSync, renameSync, rmSync, statSync } from 'node:fs';
import type { Server } from 'node:http';
import type { Logger } from '@flotilla/service-kit';
import { isServed } from '@flotilla/service-kit/isServed';
import { listen } from './server.ts';

/** How long clients may find nobody after the death of the one who had the name. */
const lookEveryMs = 500;

export async function listenShared(server: Server, path: string, instance: string, logger: Logger): Promise<void> {
  const own = `${path}.${instance}`;
  rmSync(own, { force: true });
  await listen(server, { path: own });
  chmodSync(own, 0o660);
  const { ino } = statSync(own);
  const look = async (): Promise<void> => {
    if (statSync(path, { throwIfNoEntry: false })?.ino === ino || (await isServed(path)) || !server.listening) return;
    // One that died between the two has left it.
    rmSync(`${own}.link`, { force: true });
    linkSync(own, `${own}.link`);
    renameSync(`${own}.link`, path);
  };
  await look();
  const timer = setInterval(
    () => void look().catch((error: unknown) => logger.error({ error }, 'the socket could not be taken over')),
    lookEveryMs,
  );
  server.on('close', () => {
    clearInterval(timer);
    if (statSync(path, { throwIfNoEntry: false })?.ino === ino) rmSync(path, { force: true });
  });
}
