/**
 * A whole host for one test: network, mounts and cgroups of its own, own roots for a stack, and a docker CLI pointed at it.
 *
 * Layout of its directory (removed by dispose):
 *   data/    the stack's data root        exec/    its exec root; the Engine API listens on exec/docker.sock
 *   docker/  DOCKER_CONFIG of its CLI     files/   free for the test
 */
import type { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CgroupTree, sweepStaleCgroups } from './cgroupTree.ts';
import { type CommandOptions, type CommandResult, mustSucceed, runCommand } from './command.ts';
import { NamespaceHolder, type SpawnOptions } from './namespaceHolder.ts';
import { askSupervisor, type StackProcess } from './stackReport.ts';
import { waitFor } from './waitFor.ts';

const repository = join(import.meta.dirname, '../../..');
const directoryPrefix = 'flotilla-test-';

export interface StackOptions {
  /** More arguments of `flotilla up`, such as `--insecure-registry`, `10.0.0.0/8`. */
  readonly args?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** How long `up` may take. Default 90,000. */
  readonly timeoutMs?: number;
}

/** Whether a service is in this process: in a compact stack all five are in one. */
function serves(one: StackProcess, service: string): boolean {
  return one.service === service || (one.service === 'compact' && service !== 'redis' && service !== 'nats');
}

/** Hosts that are not disposed. */
const living = new Set<TestHost>();
let counter = 0;
let swept: Promise<void> | undefined;

export class TestHost {
  readonly name: string;
  readonly directory: string;
  readonly cgroups: CgroupTree;
  readonly namespaces: NamespaceHolder;
  private readonly undo: (() => Promise<void> | void)[] = [];
  private stackArgs: readonly string[] = [];
  private disposed = false;

  private constructor(name: string, directory: string, cgroups: CgroupTree, namespaces: NamespaceHolder) {
    this.name = name;
    this.directory = directory;
    this.cgroups = cgroups;
    this.namespaces = namespaces;
    living.add(this);
    for (const path of [this.dataRoot, this.execRoot, join(directory, 'docker'), this.filesDirectory]) mkdirSync(path, { recursive: true });
  }

  static async create(options: { name?: string } = {}): Promise<TestHost> {
    swept ??= sweep();
    await swept;
    counter += 1;
    const id = `${process.pid}-${process.env.VITEST_POOL_ID ?? '0'}-${counter}`;
    const directory = mkdtempSync(join(process.env.FLOTILLA_TEST_ROOT ?? tmpdir(), `${directoryPrefix}${id}-`));
    // Services without root must be able to pass through.
    chmodSync(directory, 0o755);
    const cgroups = new CgroupTree(id);
    try {
      return new TestHost(options.name ?? `host${counter}`, directory, cgroups, await NamespaceHolder.start(cgroups));
    } catch (error) {
      await cgroups.remove();
      rmSync(directory, { recursive: true, force: true });
      throw error;
    }
  }

  get dataRoot(): string {
    return join(this.directory, 'data');
  }

  get execRoot(): string {
    return join(this.directory, 'exec');
  }

  get filesDirectory(): string {
    return join(this.directory, 'files');
  }

  /** The Engine API's socket of a stack started here. */
  get socketPath(): string {
    return join(this.execRoot, 'docker.sock');
  }

  get dockerEnvironment(): NodeJS.ProcessEnv {
    const { DOCKER_CONTEXT: _context, DOCKER_TLS_VERIFY: _verify, ...env } = process.env;
    return { ...env, DOCKER_HOST: `unix://${this.socketPath}`, DOCKER_CONFIG: join(this.directory, 'docker') };
  }

  /** Starts a program inside and returns its handle; its pid is the program's. */
  spawn(command: string, args: readonly string[] = [], options: SpawnOptions = {}): ReturnType<typeof spawn> {
    return this.namespaces.spawn(command, args, options);
  }

  /** Runs a program inside to its end. */
  run(command: string, args: readonly string[] = [], options: CommandOptions = {}): Promise<CommandResult> {
    return this.namespaces.run(command, args, options);
  }

  async mustRun(command: string, args: readonly string[] = [], options: CommandOptions = {}): Promise<CommandResult> {
    return mustSucceed(await this.run(command, args, options), [command, ...args].join(' '));
  }

  /** Runs a shell script inside; throws when it fails. */
  async sh(script: string, options: CommandOptions = {}): Promise<string> {
    return (await this.mustRun('sh', ['-ec', script], options)).stdout;
  }

  /** `docker ARGS…` against this host's stack. */
  docker(...args: string[]): Promise<CommandResult> {
    return this.dockerWith({}, ...args);
  }

  dockerWith(options: CommandOptions, ...args: string[]): Promise<CommandResult> {
    const nsenter = ['-t', String(this.namespaces.pid), '--net', '--mount', `--wdns=${options.cwd ?? '/'}`, '--', 'docker', ...args];
    return runCommand('nsenter', nsenter, { ...options, cwd: '/', env: { ...this.dockerEnvironment, ...options.env } });
  }

  /** As {@link docker}, but a failure throws; gives stdout without the last newline. */
  async mustDocker(...args: string[]): Promise<string> {
    return mustSucceed(await this.docker(...args), `docker ${args.join(' ')}`).stdout.replace(/\n$/, '');
  }

  /** Starts `docker ARGS…` and returns the handle, for what goes on while the test does something else. */
  dockerSpawn(...args: string[]): ReturnType<typeof spawn> {
    return this.namespaces.spawn('docker', args, { env: this.dockerEnvironment });
  }

  /** Starts a stack here; returns when every service is healthy. */
  async startStack(options: StackOptions = {}): Promise<void> {
    this.stackArgs = [...(options.args ?? []), ...(process.env.FLOTILLA_TEST_COMPACT === '1' ? ['--compact'] : [])];
    const args = [
      'up',
      '--data-root',
      this.dataRoot,
      '--exec-root',
      this.execRoot,
      '--host',
      `unix://${this.socketPath}`,
      ...this.stackArgs,
    ];
    const started = await this.run('sh', [join(repository, 'deploy/flotilla'), ...args], {
      env: { ...process.env, ...options.env },
      timeoutMs: options.timeoutMs ?? 90_000,
    });
    if (started.code !== 0)
      throw new Error(`flotilla up: exit ${started.code}\n${started.stdout}${started.stderr}\n${await this.stackLogs()}`);
  }

  /** `flotilla down`: services stop, containers go on. */
  async stopStack(): Promise<void> {
    mustSucceed(await this.flotilla('down'), 'flotilla down');
  }

  /** `flotilla COMMAND` for this host's stack. */
  flotilla(command: string, ...args: string[]): Promise<CommandResult> {
    return this.run('sh', [
      join(repository, 'deploy/flotilla'),
      command,
      '--data-root',
      this.dataRoot,
      '--exec-root',
      this.execRoot,
      ...args,
    ]);
  }

  /** What runs of the stack; where its supervisor is gone, what that has left. */
  async processes(): Promise<StackProcess[]> {
    return (await askSupervisor(join(this.execRoot, 'supervisor/control.sock'))) ?? (await this.listed());
  }

  /** What `flotilla ps --json` prints: with the load and the leases of each process. */
  async listed<T extends StackProcess>(): Promise<T[]> {
    return JSON.parse(mustSucceed(await this.flotilla('ps', '--json'), 'flotilla ps --json').stdout) as T[];
  }

  /** Sends a signal (default SIGKILL) to every process of a service; gives their pids. */
  async kill(service: string, signal: NodeJS.Signals = 'SIGKILL'): Promise<number[]> {
    const pids = (await this.processes()).filter((one) => serves(one, service)).map((one) => one.pid);
    if (pids.length === 0) throw new Error(`no process of ${service} is running`);
    for (const pid of pids) process.kill(pid, signal);
    return pids;
  }

  /** Kills the supervisor itself, which `flotilla ps` does not list, and waits until it is gone. */
  async killSupervisor(): Promise<void> {
    const state = JSON.parse(readFileSync(join(this.execRoot, 'supervisor/state.json'), 'utf8')) as { supervisorPid: number };
    process.kill(state.supervisorPid, 'SIGKILL');
    await waitFor(() => !this.cgroups.processes().includes(state.supervisorPid), { what: 'the supervisor to be gone' });
  }

  /** Waits until a service has healthy processes again, none of them among `not`. */
  async waitHealthy(service: string, not: readonly number[] = [], timeoutMs = 30_000): Promise<void> {
    await waitFor(
      async () => {
        const own = (await this.processes()).filter((one) => serves(one, service) && !not.includes(one.pid));
        return own.length > 0 && own.every((one) => one.healthy);
      },
      { timeoutMs, what: `${service} to be healthy` },
    );
  }

  /** The ends of all service logs, for the message of a failed test. */
  async stackLogs(lines = 40): Promise<string> {
    const logs = await this.flotilla('logs', '--tail', String(lines)).catch((error: Error) => ({ stdout: error.message, stderr: '' }));
    return logs.stdout + logs.stderr;
  }

  /** Registers something to undo at dispose, before the namespaces go. */
  onDispose(undo: () => Promise<void> | void): void {
    this.undo.push(undo);
  }

  /** Ends everything that runs here and removes every trace. Safe to call twice. */
  async dispose(): Promise<void> {
    if (this.disposed) return;
    this.disposed = true;
    living.delete(this);
    const failures: unknown[] = [];
    for (const undo of this.undo.reverse()) await Promise.resolve(undo()).catch((error: unknown) => failures.push(error));
    this.namespaces.release();
    await this.cgroups.remove().catch((error: unknown) => failures.push(error));
    // The mount namespace dies with its last process, a moment later; until then a mount can make a directory busy.
    await waitFor(() => removeDirectory(this.directory), { what: `${this.directory} to be removable` }).catch((error: unknown) =>
      failures.push(error),
    );
    if (failures.length > 0) throw new AggregateError(failures, `test host ${this.name} was not disposed wholly`);
  }
}

/** Makes a host; the test disposes it. */
export function createTestHost(options: { name?: string } = {}): Promise<TestHost> {
  return TestHost.create(options);
}

/** For a program that is interrupted: ends every host that it has made. */
export async function disposeTestHosts(): Promise<void> {
  await Promise.allSettled([...living].map((host) => host.dispose()));
}

function removeDirectory(directory: string): boolean {
  rmSync(directory, { recursive: true, force: true });
  return !existsSync(directory);
}

/** What earlier runs left behind because they were killed; names carry the owner's pid. */
async function sweep(): Promise<void> {
  await sweepStaleCgroups();
  const root = process.env.FLOTILLA_TEST_ROOT ?? tmpdir();
  for (const entry of readdirSync(root)) {
    const owner = /^flotilla-test-(\d+)-/.exec(entry)?.[1];
    if (owner !== undefined && !existsSync(`/proc/${owner}`)) rmSync(join(root, entry), { recursive: true, force: true });
  }
}
