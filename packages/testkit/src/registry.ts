/** Debian's docker-registry, a real Distribution server, as the upstream of tests; tells which requests it got. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Place, ServerProcess } from './server.ts';
import { waitFor } from './waitFor.ts';

export interface AccessLogEntry {
  readonly method: string;
  readonly path: string;
  readonly status: number;
  /** Of the answer's body. */
  readonly bytes: number;
  readonly userAgent: string;
}

export interface TestRegistry {
  /** `host:port`, the first part of image names. */
  readonly address: string;
  readonly port: number;
  readonly process: ServerProcess;
  /** Every request so far, oldest first. */
  requests(): AccessLogEntry[];
  stop(): Promise<void>;
}

/**
 * @param options.host - the address to listen on, default 127.0.0.1 of the place.
 * @param options.port - default: the kernel's choice.
 * @param options.htpasswd - htpasswd lines (bcrypt) of who may read and write; everyone when left out.
 * @param options.deletable - whether DELETE works.
 */
export async function startRegistry(
  options: { place?: Place; host?: string; port?: number; htpasswd?: string; proxyOf?: string; deletable?: boolean } = {},
): Promise<TestRegistry> {
  const host = options.host ?? '127.0.0.1';
  const server = ServerProcess.start('registry', options.place, (directory) => {
    if (options.htpasswd !== undefined) writeFileSync(join(directory, 'htpasswd'), options.htpasswd);
    const config = {
      version: '0.1',
      log: { level: 'info', accesslog: { disabled: false } },
      storage: {
        filesystem: { rootdirectory: join(directory, 'storage') },
        delete: { enabled: options.deletable ?? true },
        maintenance: { uploadpurging: { enabled: false } },
      },
      // Foreign layers, which it has only the addresses of, are refused otherwise.
      validation: { manifests: { urls: { allow: ['^http'] } } },
      http: { addr: `${host}:${options.port ?? 0}` },
      ...(options.htpasswd !== undefined && { auth: { htpasswd: { realm: 'test', path: join(directory, 'htpasswd') } } }),
      ...(options.proxyOf !== undefined && { proxy: { remoteurl: options.proxyOf } }),
    };
    writeFileSync(join(directory, 'config.yml'), JSON.stringify(config));
    return ['docker-registry', 'serve', join(directory, 'config.yml')];
  });
  try {
    const port = await waitFor(
      () => {
        server.assertRunning();
        return Number(/listening on [^ "]*:(\d+)/.exec(server.output)?.[1] ?? 0);
      },
      { what: 'docker-registry' },
    );
    return { address: `${host}:${port}`, port, process: server, requests: () => parseAccessLog(server.output), stop: () => server.stop() };
  } catch (error) {
    await server.stop('SIGKILL');
    throw error;
  }
}

function parseAccessLog(text: string): AccessLogEntry[] {
  const line =
    /^\S+ - \S+ \[[^\]]*\] "(?<method>[A-Z]+) (?<path>\S+) HTTP\/[\d.]+" (?<status>\d+) (?<bytes>\d+|-) "[^"]*" "(?<userAgent>[^"]*)"/gm;
  return [...text.matchAll(line)].map(({ groups = {} }) => ({
    method: groups.method ?? '',
    path: groups.path ?? '',
    status: Number(groups.status),
    bytes: Number(groups.bytes) || 0,
    userAgent: groups.userAgent ?? '',
  }));
}
