/** One engine under measurement: its Engine API socket, by bare HTTP and by the docker CLI. */
import { spawn } from 'node:child_process';
import { Agent, type IncomingMessage, request } from 'node:http';
import type { TestHost } from '@flotilla/testkit';

export interface Answer {
  readonly status: number;
  readonly body: Buffer;
}

export class Engine {
  readonly name: string;
  readonly socketPath: string;
  /** Where the bench has started it. */
  readonly host: TestHost | undefined;
  private readonly agent: Agent;

  constructor(name: string, socketPath: string, host?: TestHost) {
    this.host = host;
    this.name = name;
    this.socketPath = socketPath;
    this.agent = new Agent({ keepAlive: true, maxSockets: 64 });
  }

  /** One API call; a status of 400 or more is an error unless `anyStatus`. */
  call(method: string, path: string, options: { json?: unknown; body?: Buffer; anyStatus?: boolean } = {}): Promise<Answer> {
    const payload = options.body ?? (options.json === undefined ? undefined : Buffer.from(JSON.stringify(options.json)));
    return new Promise((resolve, reject) => {
      const sent = request(
        {
          socketPath: this.socketPath,
          agent: this.agent,
          method,
          path,
          headers: {
            host: 'engine',
            'content-type': options.body === undefined ? 'application/json' : 'application/x-tar',
            'content-length': payload?.length ?? 0,
          },
        },
        (response: IncomingMessage) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', reject);
          response.on('end', () => {
            const body = Buffer.concat(chunks);
            const status = response.statusCode ?? 0;
            if (status >= 400 && options.anyStatus !== true) reject(new Error(`${this.name}: ${method} ${path}: ${status} ${body}`));
            else resolve({ status, body });
          });
        },
      );
      sent.on('error', reject);
      sent.end(payload);
    });
  }

  /** Reads an answer to its end without keeping it; its length. */
  drain(path: string): Promise<number> {
    return new Promise((resolve, reject) => {
      const sent = request({ socketPath: this.socketPath, agent: this.agent, path, headers: { host: 'engine' } }, (response) => {
        let bytes = 0;
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
        });
        response.on('error', reject);
        response.on('end', () => {
          if ((response.statusCode ?? 0) >= 400) reject(new Error(`${this.name}: GET ${path}: ${response.statusCode}`));
          else resolve(bytes);
        });
      });
      sent.on('error', reject);
      sent.end();
    });
  }

  async json<T>(method: string, path: string, json?: unknown): Promise<T> {
    const { body } = await this.call(method, path, json === undefined ? {} : { json });
    return JSON.parse(body.toString()) as T;
  }

  /** Creates a container; its id. */
  async create(body: object, name?: string): Promise<string> {
    const { Id } = await this.json<{ Id: string }>('POST', `/containers/create${name === undefined ? '' : `?name=${name}`}`, body);
    return Id;
  }

  /** `docker ARGS…` to its end; throws when it fails. */
  cli(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<void> {
    return new Promise((resolve, reject) => {
      const child = spawn('docker', [...args], {
        env: { ...process.env, ...env, DOCKER_HOST: `unix://${this.socketPath}` },
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      let errors = '';
      child.stderr.on('data', (chunk: Buffer) => {
        errors += chunk.toString();
      });
      child.on('error', reject);
      child.on('exit', (code) =>
        code === 0 ? resolve() : reject(new Error(`${this.name}: docker ${args.join(' ')}: exit ${code}: ${errors}`)),
      );
    });
  }

  close(): void {
    this.agent.destroy();
  }
}
