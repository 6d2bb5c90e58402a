/** Runs a health check's command in a container: straight by the runtime, without a monitor, since nothing of it has to outlive this service. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, type FSWatcher, mkdirSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { System } from '@flotilla/errors';
import type { RuntimeProcess, RuntimeSpec } from '@flotilla/oci';
import { kill } from '@flotilla/syscalls';
import { assertRunning, type ContainerRecord } from '../container.ts';
import type { ProbeOutcome } from '../healthMonitor.ts';
import { newNameByMaker } from '../madeBy.ts';
import type { Paths } from '../paths.ts';
import type { OciRuntime } from '../runtime.ts';
import { buildExecProcess, encodeSpec, type HostFacts } from '../spec/index.ts';
import { namespaceVariable } from './conmon.ts';
import { openRuntimeNamespace } from './runtimeNamespace.ts';

export interface ProberOptions {
  readonly paths: Paths;
  readonly runtimes: { get(name: string): OciRuntime | undefined };
  readonly host: HostFacts;
}

const sigkill = 9;
/** More than is shown, so that the cut is seen. */
const keptOutputBytes = 8 * 1024;

export class Prober {
  readonly #options: ProberOptions;

  constructor(options: ProberOptions) {
    this.#options = options;
  }

  /**
   * Runs a command in a running container, as its user and in its environment.
   *
   * @param signal - kills the process.
   * @param started - called when the process is there.
   * @returns its exit code and the beginning of its output.
   * @throws Conflict when the container does not run; System when the command cannot be started.
   */
  async probe(container: ContainerRecord, command: readonly string[], signal: AbortSignal, started: () => void): Promise<ProbeOutcome> {
    const { paths, runtimes } = this.#options;
    const run = assertRunning(container);
    const runtime = runtimes.get(run.runtime);
    if (runtime === undefined) throw new System(`the runtime ${run.runtime} is gone`);
    signal.throwIfAborted();
    const directory = paths.execDirectory(newNameByMaker('probe'));
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const namespace = runtime.ownNamespace ? openRuntimeNamespace() : undefined;
    const processSpec = join(directory, 'process.json');
    const pidFile = join(directory, 'pid');
    let watcher: FSWatcher | undefined;
    try {
      // The runtime writes it when the process is made.
      watcher = watch(directory, () => existsSync(pidFile) && started()).on('error', started);
      writeFileSync(processSpec, encodeSpec(this.#process(container, run.pid, command)));
      const child = spawn(runtime.execCommand, ['exec', '--process', processSpec, '--pid-file', pidFile, container.id], {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, ...(namespace === undefined ? {} : { [namespaceVariable]: namespace.path }) },
      });
      return await outcome(child, signal, () => killFrom(pidFile));
    } finally {
      watcher?.close();
      namespace?.close();
      rmSync(directory, { recursive: true, force: true });
    }
  }

  #process(container: ContainerRecord, pid: number, command: readonly string[]): RuntimeProcess {
    const { paths, host } = this.#options;
    const spec = JSON.parse(readFileSync(join(paths.bundle(container.id), 'config.json'), 'utf8')) as RuntimeSpec;
    return buildExecProcess({
      config: container.config,
      hostConfig: container.hostConfig,
      exec: { Cmd: [...command] },
      rootfs: `/proc/${pid}/root`,
      container: spec.process ?? { args: [], cwd: '/', user: { uid: 0, gid: 0 } },
      host,
    });
  }
}

/** Resolves when the process has ended, or at once when the signal fires: a child of the process may hold its output open. */
function outcome(child: ChildProcess, signal: AbortSignal, killProcess: () => void): Promise<ProbeOutcome> {
  return new Promise((resolve, reject) => {
    const output: Buffer[] = [];
    let outputBytes = 0;
    const keep = (chunk: Buffer): void => {
      if (outputBytes < keptOutputBytes) output.push(chunk);
      outputBytes += chunk.length;
    };
    child.stdout?.on('data', keep);
    child.stderr?.on('data', keep);
    const text = (): string => Buffer.concat(output).toString('utf8');
    const onAbort = (): void => {
      killProcess();
      child.kill('SIGKILL');
      child.stdout?.destroy();
      child.stderr?.destroy();
      resolve({ exitCode: -1, output: text() });
    };
    signal.addEventListener('abort', onAbort, { once: true });
    child.on('error', (error) => {
      signal.removeEventListener('abort', onAbort);
      reject(new System(`the health check could not be started: ${error.message}`, { cause: error }));
    });
    child.on('close', (code) => {
      signal.removeEventListener('abort', onAbort);
      resolve({ exitCode: code ?? -1, output: text() });
    });
  });
}

function killFrom(pidFile: string): void {
  try {
    const pid = Number(readFileSync(pidFile, 'utf8'));
    if (pid > 1) kill(pid, sigkill);
  } catch {
    // It has not been written: the runtime is killed before it has started anything.
  }
}
