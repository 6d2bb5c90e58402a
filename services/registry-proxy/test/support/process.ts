/** The whole service as a process of its own, unprivileged, so that it can be killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startNats, type TestNats, waitFor } from '@flotilla/testkit';

const nobody = 65534;

export class ProxyProcess {
  readonly directory: string;
  private readonly nats: TestNats;
  private child: ChildProcess | undefined;
  output = '';

  private readonly name: string;

  private constructor(directory: string, nats: TestNats, name = 'first') {
    this.directory = directory;
    this.nats = nats;
    this.name = name;
  }

  /** A replica of another, on the same data. */
  static async replica(other: ProxyProcess): Promise<ProxyProcess> {
    const proxy = new ProxyProcess(other.directory, other.nats, 'replica');
    await proxy.run();
    return proxy;
  }

  static async start(): Promise<ProxyProcess> {
    const directory = mkdtempSync(join(tmpdir(), 'flotilla-registry-process-'));
    chmodSync(directory, 0o755);
    for (const name of ['data', 'data/registry-proxy', 'exec']) {
      mkdirSync(join(directory, name));
      chownSync(join(directory, name), nobody, nobody);
    }
    const proxy = new ProxyProcess(directory, await startNats());
    await proxy.run();
    return proxy;
  }

  get socket(): string {
    return join(this.directory, `exec/${this.name}.http.sock`);
  }

  get grpcAddress(): string {
    return `unix:${join(this.directory, `exec/${this.name}.grpc.sock`)}`;
  }

  get dataRoot(): string {
    return join(this.directory, 'data/registry-proxy');
  }

  /** Starts it, again after a kill, and waits until it is ready. */
  async run(env: Record<string, string> = {}): Promise<void> {
    const main = join(import.meta.dirname, '../../src/main.ts');
    this.output = '';
    const child = spawn(
      'setpriv',
      ['--reuid', String(nobody), '--regid', String(nobody), '--clear-groups', '--pdeathsig', 'KILL', '--', process.execPath, main],
      {
        env: {
          FLOTILLA_ENGINE_ID: 'test',
          FLOTILLA_DATA_ROOT: join(this.directory, 'data'),
          FLOTILLA_EXEC_ROOT: join(this.directory, 'exec'),
          FLOTILLA_NATS_URL: this.nats.url,
          FLOTILLA_HTTP_ADDRESS: `unix:${this.socket}`,
          FLOTILLA_GRPC_ADDRESS: this.grpcAddress,
          ...env,
        },
      },
    );
    this.child = child;
    const collect = (chunk: Buffer): void => {
      this.output += chunk.toString();
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    await waitFor(
      () => {
        if (child.exitCode !== null) throw new Error(`the proxy ended: ${this.output}`);
        return this.output.includes('"message":"ready"');
      },
      { what: 'registry-proxy', timeoutMs: 60_000 },
    );
  }

  get pid(): number {
    return this.child?.pid ?? 0;
  }

  async end(signal: NodeJS.Signals): Promise<number | null> {
    const { child } = this;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null;
    const exit = new Promise<number | null>((resolve) => child.once('exit', resolve));
    child.kill(signal);
    return exit;
  }

  async stop(): Promise<void> {
    await this.end('SIGTERM');
    await this.nats.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** GET over the unix socket. */
  get(path: string, headers: Record<string, string> = {}): Promise<{ status: number; bytes: Buffer }> {
    return new Promise((resolve, reject) => {
      const outgoing = request({ socketPath: this.socket, path, headers, agent: false }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => resolve({ status: response.statusCode ?? 0, bytes: Buffer.concat(chunks) }));
      });
      outgoing.on('error', reject);
      outgoing.end();
    });
  }
}
