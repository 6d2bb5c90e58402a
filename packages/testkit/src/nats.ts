/** A real nats-server with JetStream on a random loopback port. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Place, ServerProcess } from './server.ts';
import { waitFor } from './waitFor.ts';

export interface NatsUser {
  readonly user: string;
  readonly password: string;
  /** Subjects this user may publish and subscribe to; everything when left out. */
  readonly publish?: readonly string[];
  readonly subscribe?: readonly string[];
}

export interface TestNats {
  readonly url: string;
  readonly port: number;
  readonly process: ServerProcess;
  stop(): Promise<void>;
}

/**
 * @param options.users - who may connect; anyone when left out.
 * @param options.port - a given port, for a server started again where one was; else the server finds one.
 */
export async function startNats(
  options: { place?: Place; users?: readonly NatsUser[]; token?: string; port?: number; storeDirectory?: string } = {},
): Promise<TestNats> {
  const server = ServerProcess.start('nats', options.place, (directory) => {
    const config = [
      `listen: 127.0.0.1:${options.port ?? -1}`,
      `ports_file_dir: ${JSON.stringify(directory)}`,
      `jetstream { store_dir: ${JSON.stringify(options.storeDirectory ?? join(directory, 'jetstream'))} }`,
      ...authorization(options),
    ];
    writeFileSync(join(directory, 'nats.conf'), config.join('\n'));
    return ['nats-server', '-c', join(directory, 'nats.conf')];
  });
  try {
    const url = await waitFor(
      () => {
        server.assertRunning();
        const file = readdirSync(server.directory).find((name) => name.endsWith('.ports'));
        if (file === undefined || !server.output.includes('Server is ready')) return undefined;
        const ports = JSON.parse(readFileSync(join(server.directory, file), 'utf8')) as { nats: string[] };
        return ports.nats[0];
      },
      { what: 'nats-server' },
    );
    return { url, port: Number(new URL(url).port), process: server, stop: () => server.stop() };
  } catch (error) {
    await server.stop('SIGKILL');
    throw error;
  }
}

function authorization(options: { users?: readonly NatsUser[]; token?: string }): string[] {
  if (options.token !== undefined) return [`authorization { token: ${JSON.stringify(options.token)} }`];
  if (options.users === undefined) return [];
  const users = options.users.map(({ user, password, publish, subscribe }) => ({
    user,
    password,
    ...(publish || subscribe ? { permissions: { ...(publish && { publish }), ...(subscribe && { subscribe }) } } : {}),
  }));
  return [`authorization { users: ${JSON.stringify(users)} }`];
}
