/** Three nats-servers with JetStream that make up one, on the loopback. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from './freePort.ts';
import { ServerProcess } from './server.ts';
import { waitFor } from './waitFor.ts';

export interface TestNatsCluster {
  /** All servers, with commas between them. */
  readonly url: string;
  readonly servers: readonly { readonly port: number; readonly process: ServerProcess }[];
  stop(): Promise<void>;
}

/** @param more - lines for every server's configuration: who may connect, TLS. */
export async function startNatsCluster(more: readonly string[] = []): Promise<TestNatsCluster> {
  const members = await Promise.all([1, 2, 3].map(async (n) => ({ name: `n${n}`, port: await freePort(), routePort: await freePort() })));
  const routes = members.map(({ routePort }) => `nats://127.0.0.1:${routePort}`).join(', ');
  const servers = members.map(({ name, port, routePort }) => ({
    port,
    process: ServerProcess.start('nats-cluster', undefined, (directory) => {
      const path = join(directory, 'nats.conf');
      const lines = [
        `listen: 127.0.0.1:${port}`,
        `server_name: ${name}`,
        `jetstream { store_dir: ${JSON.stringify(join(directory, 'jetstream'))} }`,
        `cluster { name: test, listen: 127.0.0.1:${routePort}, routes: [${routes}] }`,
        ...more,
      ];
      writeFileSync(path, lines.join('\n'));
      return ['nats-server', '-c', path];
    }),
  }));
  const stop = async (): Promise<void> => void (await Promise.all(servers.map(({ process }) => process.stop('SIGKILL'))));
  try {
    await waitFor(
      () => {
        for (const { process } of servers) process.assertRunning();
        return servers.some(({ process }) => process.output.includes('JetStream cluster new metadata leader'));
      },
      { what: 'the cluster', timeoutMs: 30_000 },
    );
  } catch (error) {
    await stop();
    throw error;
  }
  return { url: servers.map(({ port }) => `nats://127.0.0.1:${port}`).join(','), servers, stop };
}
