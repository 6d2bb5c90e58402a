/** Starting a real server for a test: on this machine or in a test host, with a directory of its own, gone when the test is. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SpawnOptions } from './namespaceHolder.ts';

/** Where a server runs: a {@link TestHost}, or, left out, this process's own namespaces. */
export interface Place {
  spawn(command: string, args: readonly string[], options?: SpawnOptions): ChildProcess;
}

const here: Place = { spawn: (command, args, options = {}) => spawn(command, [...args], { stdio: 'pipe', ...options }) };

/** A running server: its output so far, and its end. */
export class ServerProcess {
  readonly directory: string;
  private readonly child: ChildProcess;
  private text = '';
  private exited = false;
  private readonly exit: Promise<void>;

  private constructor(directory: string, child: ChildProcess) {
    this.directory = directory;
    this.child = child;
    const collect = (chunk: Buffer): void => {
      this.text += chunk.toString();
    };
    child.stdout?.on('data', collect);
    child.stderr?.on('data', collect);
    this.exit = new Promise((resolve) => {
      child.once('error', (error) => collect(Buffer.from(error.message)));
      child.once('close', () => {
        this.exited = true;
        resolve();
      });
    });
  }

  /**
   * @param command - gives the command line, once the server's directory is known.
   * The server dies with this process even when that is killed (pdeathsig).
   */
  static start(name: string, place: Place | undefined, command: (directory: string) => readonly string[]): ServerProcess {
    const directory = mkdtempSync(join(tmpdir(), `flotilla-${name}-`));
    const child = (place ?? here).spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...command(directory)]);
    return new ServerProcess(directory, child);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get output(): string {
    return this.text;
  }

  /** Throws when the server is not running any more; to be called while waiting for it. */
  assertRunning(): void {
    if (this.exited) throw new Error(`the server ended: ${this.text.slice(-2_000)}`);
  }

  /** Stops the server and removes its directory. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    this.child.kill(signal);
    const timer = setTimeout(() => this.child.kill('SIGKILL'), 5_000);
    await this.exit;
    clearTimeout(timer);
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Kills the server and leaves its directory, as a crash does; gives the directory for a restart on it. */
  async crash(): Promise<string> {
    this.child.kill('SIGKILL');
    await this.exit;
    return this.directory;
  }
}
