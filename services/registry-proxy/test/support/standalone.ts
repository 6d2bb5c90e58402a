/** A proxy without a stack, as a process of its own on a data root of its own, so that it can be killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, waitFor } from '@flotilla/testkit';

export class StandaloneProcess {
  readonly root = mkdtempSync(join(tmpdir(), 'flotilla-registry-alone-'));
  readonly address: string;
  output = '';
  private child: ChildProcess | undefined;
  private readonly env: Record<string, string>;

  private constructor(port: number, env: Record<string, string>) {
    this.address = `127.0.0.1:${port}`;
    this.env = env;
  }

  static async start(env: Record<string, string>): Promise<StandaloneProcess> {
    const proxy = new StandaloneProcess(await freePort(), env);
    await proxy.run();
    return proxy;
  }

  get url(): string {
    return `http://${this.address}`;
  }

  get pid(): number {
    return this.child?.pid ?? 0;
  }

  /** Starts it, again after a kill, with settings beside those of before, and waits until it is ready. */
  async run(more: Record<string, string> = {}): Promise<void> {
    const main = join(import.meta.dirname, '../../src/standalone.ts');
    this.output = '';
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', process.execPath, main], {
      env: {
        FLOTILLA_DATA_ROOT: this.root,
        FLOTILLA_HTTP_ADDRESS: this.address,
        FLOTILLA_REGISTRY_CERTIFICATES: '',
        ...this.env,
        ...more,
      },
    });
    this.child = child;
    const collect = (chunk: Buffer): void => {
      this.output += chunk.toString();
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    const isReady = (): boolean => this.output.includes('"message":"ready"');
    await waitFor(() => child.exitCode !== null || isReady(), { what: 'registry-proxy', timeoutMs: 60_000 });
    if (!isReady()) throw new Error(`the proxy ended: ${this.output}`);
  }

  /** Sends it a signal that does not end it. */
  signal(signal: NodeJS.Signals): void {
    this.child?.kill(signal);
  }

  /** @returns its exit code; null when a signal ended it. */
  async end(signal: NodeJS.Signals): Promise<number | null> {
    const { child } = this;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null;
    const exit = new Promise<number | null>((resolve) => child.once('exit', resolve));
    child.kill(signal);
    return exit;
  }

  async stop(): Promise<void> {
    await this.end('SIGTERM');
    rmSync(this.root, { recursive: true, force: true });
  }

  /** GET by plain HTTP, or by TLS when an authority is given. */
  get(path: string, headers: Record<string, string> = {}, ca?: string): Promise<{ status: number; bytes: Buffer }> {
    return new Promise((resolve, reject) => {
      const [scheme, send] = ca === undefined ? ['http', request] : ['https', tlsRequest];
      const options = { headers, agent: false as const, ...(ca === undefined ? {} : { ca }) };
      const outgoing = send(`${scheme}://${this.address}${path}`, options, (response) => {
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
