/** A real Redis as the supervisor starts one: unix socket only, append-only file synced on every write. */
import { Redis } from 'ioredis';
import { type Place, ServerProcess } from './server.ts';
import { waitFor } from './waitFor.ts';

export interface TestRedis {
  readonly socketPath: string;
  /** `unix://…`, as services get it. */
  readonly url: string;
  readonly process: ServerProcess;
  client(): Redis;
  stop(): Promise<void>;
}

export async function startRedis(options: { place?: Place; args?: readonly string[] } = {}): Promise<TestRedis> {
  let socketPath = '';
  const server = ServerProcess.start('redis', options.place, (directory) => {
    socketPath = `${directory}/redis.sock`;
    const settings = ['--port', '0', '--unixsocket', socketPath, '--unixsocketperm', '700', '--dir', directory, '--appendonly', 'yes'];
    return ['redis-server', ...settings, '--appendfsync', 'always', '--save', '', ...(options.args ?? [])];
  });
  const client = (): Redis => new Redis({ path: socketPath });
  try {
    await waitFor(
      () => {
        server.assertRunning();
        return server.output.includes('ready to accept connections');
      },
      { what: 'redis-server' },
    );
  } catch (error) {
    await server.stop('SIGKILL');
    throw error;
  }
  return { socketPath, url: `unix://${socketPath}`, process: server, client, stop: () => server.stop() };
}
