/** One exec that runs: from its conmon's start to its exit code. */
import { closeSync, existsSync, type FSWatcher, readFileSync, watch, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { isConflict, isUnavailable, System } from '@flotilla/errors';
import type { RuntimeProcess, RuntimeSpec } from '@flotilla/oci';
import type { Commit } from '@flotilla/records';
import { aborted, type Logger } from '@flotilla/service-kit';
import { frame } from '@flotilla/streams';
import { claimExec, findBegunExec, processFile, removeExecFiles, type StartingExecs } from './begunExec.ts';
import { type ContainerRecord, notRunning, type Run } from './container.ts';
import { DetachScanner, parseDetachKeys } from './detachKeys.ts';
import type { ExecCarriers } from './execCarriers.ts';
import { ExecOutput } from './execOutput.ts';
import { commandText, type ExecRecord, requireReady } from './execRecord.ts';
import { discard, forward } from './input.ts';
import { linkTargets, runningLinkEnvironment } from './links.ts';
import { type ExecMonitorOptions, type Monitor, type Monitored, RuntimeFailure, type StdioConnection } from './monitor.ts';
import type { Paths } from './paths.ts';
import { isAlive, openProcessRoot, signalProcess, startTimeOf } from './processes.ts';
import type { OciRuntime } from './runtime.ts';
import { buildExecProcess, encodeSpec, type HostFacts } from './spec/index.ts';
import { execFailure } from './startFailure.ts';
import { type ContainerStore, containerEvent, execDied } from './store.ts';

export interface ExecSessionOptions {
  readonly logger: Logger;
  readonly paths: Paths;
  readonly store: ContainerStore;
  readonly runtimes: { get(name: string): OciRuntime | undefined };
  readonly host: HostFacts;
  readonly monitor: Pick<Monitor, 'startExec' | 'connect' | 'resize'>;
  readonly carriers: Pick<ExecCarriers, 'begin'>;
}

export interface StartExecOptions {
  readonly detach: boolean;
  /** Output goes out as it is, not in frames. That it is a terminal's says the exec itself; dockerd goes by what the start says. */
  readonly tty: boolean;
  readonly height: number;
  readonly width: number;
}

const sigstop = 19;
const sigcont = 18;
const sigkill = 9;
const exitLookMs = 250;
const recordAgainMs = 500;
const notStartedCode = 126;

export class ExecSession {
  private readonly options: ExecSessionOptions;
  private readonly container: ContainerRecord;
  private readonly start: StartExecOptions;
  private exec: ExecRecord;
  private socket: StdioConnection | undefined;
  private over: Promise<void> = Promise.resolve();
  private readonly output: ExecOutput;

  constructor(options: ExecSessionOptions, exec: ExecRecord, container: ContainerRecord, start: StartExecOptions) {
    this.options = options;
    this.exec = exec;
    this.container = container;
    this.start = start;
    this.output = new ExecOutput({
      hold: () => this.exec.monitorPid > 0 && signalProcess(this.exec.monitorPid, this.exec.monitorStart, sigstop),
      letGo: () => void signalProcess(this.exec.monitorPid, this.exec.monitorStart, sigcont),
    });
  }

  private get directory(): string {
    return this.options.paths.execDirectory(this.exec.id);
  }

  /** Where `begin` has failed: the record says so too. */
  get whenOver(): Promise<void> {
    return this.over;
  }

  /** Starts the process. @throws what the client is told when it cannot be. */
  async begin(stream: Socket | undefined): Promise<void> {
    const { store, monitor, logger } = this.options;
    const { config } = this.exec;
    claimExec(this.options.paths, this.exec.id);
    try {
      if (stream !== undefined) this.options.carriers.begin(this.exec.id, stream);
      const run = requireReady(store.containers.get(this.container.id) ?? this.container);
      const options = this.monitorOptions(run, stream !== undefined);
      const monitored = await monitor.startExec(options, async () => {
        this.socket = await monitor.connect(this.directory, (source, bytes) => this.onOutput(source, bytes));
      });
      await store.commit(this.started(monitored));
      if (config.Tty && this.start.height > 0 && this.start.width > 0) {
        await monitor.resize(this.directory, this.start.height, this.start.width).catch(() => undefined);
      }
    } catch (error) {
      // What came up and could not be written down would be nobody's.
      signalProcess(this.exec.pid, this.exec.pidStart, sigkill);
      const failure =
        error instanceof RuntimeFailure ? execFailure(error.message, config.Cmd?.[0] ?? '') : { error, exitCode: notStartedCode };
      logger.debug({ execId: this.exec.id, error }, 'an exec did not start');
      this.over = this.end(failure.exitCode);
      throw failure.error;
    }
  }

  private started({ pid, monitorPid }: Monitored): Commit {
    this.exec = {
      ...this.exec,
      state: 'running',
      pid,
      pidStart: startTimeOf(pid) ?? '',
      monitorPid,
      monitorStart: startTimeOf(monitorPid) ?? '',
    };
    return {
      puts: [this.options.store.execs.put(this.exec.id, this.exec)],
      events: [containerEvent(this.container, `exec_start: ${commandText(this.exec.config.Cmd)}`, { execID: this.exec.id })],
    };
  }

  /** Follows one that another instance has started. */
  async adopt(): Promise<void> {
    // Whoever made it wait for its client is gone.
    signalProcess(this.exec.monitorPid, this.exec.monitorStart, sigcont);
    await this.finish();
  }

  /** Of a start that was cut off with its instance: what came up is followed to its end. What had not got so far may be started as if nothing had been. */
  async finishCutOff(starting: StartingExecs): Promise<void> {
    const { store, paths } = this.options;
    const found = await findBegunExec(paths, starting, this.exec);
    if (found === 'untouched') {
      await removeExecFiles(paths, this.exec.id);
    } else if (found === 'failed') {
      await this.end(notStartedCode);
    } else {
      const commit = this.started(found);
      await this.write(() => (store.execs.has(this.exec.id) ? commit : undefined));
      await this.finish();
    }
  }

  private monitorOptions(run: Run, attach: boolean): ExecMonitorOptions {
    const { paths, store, host, runtimes } = this.options;
    const { config } = this.exec;
    const spec = JSON.parse(readFileSync(join(paths.bundle(this.container.id), 'config.json'), 'utf8')) as RuntimeSpec;
    const container: RuntimeProcess = spec.process ?? { args: [], cwd: '/', user: { uid: 0, gid: 0 }, env: [] };
    const tty = config.Tty ?? false;
    const root = openProcessRoot(run.pid, run.pidStart);
    if (root === undefined) throw notRunning(this.container.id);
    let process: RuntimeProcess;
    try {
      process = buildExecProcess({
        config: this.container.config,
        hostConfig: this.container.hostConfig,
        exec: this.start.height > 0 ? { ...config, ConsoleSize: [this.start.height, this.start.width] } : config,
        rootfs: `/proc/self/fd/${root}`,
        container,
        host,
        linkEnvironment: runningLinkEnvironment(
          this.container.name,
          linkTargets(this.container, (target) => store.containers.get(target)),
        ),
      });
    } finally {
      closeSync(root);
    }
    const runtime = runtimes.get(run.runtime);
    if (runtime === undefined) throw new System(`the runtime ${run.runtime} is gone`);
    const processSpec = processFile(this.directory);
    writeFileSync(processSpec, encodeSpec(process));
    return {
      id: this.container.id,
      session: this.exec.id,
      bundle: this.directory,
      command: runtime.execCommand,
      ownNamespace: runtime.ownNamespace,
      exitDirectory: join(this.directory, 'exit'),
      terminal: tty,
      stdin: attach && (config.AttachStdin ?? false),
      leaveStdinOpen: tty,
      processSpec,
      attach,
    };
  }

  private onOutput(source: 1 | 2, bytes: Buffer): void {
    const { config } = this.exec;
    if (source === 1 ? !config.AttachStdout : !config.AttachStderr) return;
    // The socket's buffer is used again for its next message.
    this.output.add(this.start.tty ? Buffer.from(bytes) : frame(source, bytes));
  }

  /** Carries bytes between the client and the process until the process has ended and all of its output is written. */
  async carry(stream: Socket, gone: AbortSignal): Promise<void> {
    const { config } = this.exec;
    const socket = this.socket;
    if (socket === undefined) return;
    const leave = new AbortController();
    const signal = AbortSignal.any([gone, leave.signal]);
    let detached = false;
    const detach = (): void => {
      detached = true;
      leave.abort();
    };
    const input = config.AttachStdin ? this.pumpInput(stream, socket, signal, detach) : Promise.resolve(discard(stream));
    try {
      await this.output.sendTo(stream, socket.whenEnded(), signal);
    } finally {
      this.output.letGo();
      leave.abort();
      await input;
      // A client that has left does not take the process' output away from it: it is read and thrown away.
      if (gone.aborted || detached) this.output.discard();
    }
    const finished = this.finish();
    if (!detached) await Promise.race([finished, aborted(gone)]);
  }

  private async pumpInput(stream: Socket, socket: StdioConnection, signal: AbortSignal, detach: () => void): Promise<void> {
    const { config } = this.exec;
    const scanner = config.Tty ? new DetachScanner(parseDetachKeys(config.DetachKeys ?? '')) : undefined;
    const detached = await forward(stream, socket, scanner, signal);
    if (detached) {
      await this.options.store.commit({ events: [containerEvent(this.container, 'exec_detach', { execID: this.exec.id })] });
      detach();
    } else if (!config.Tty) socket.endInput();
  }

  /** Waits for the exit file, and writes the end into the record. */
  finish(): Promise<void> {
    return this.end(this.waitForExit());
  }

  /** Until the record says how it ended its files stay: whoever follows it after us finds there what is owed. */
  private async end(exit: number | Promise<number>): Promise<void> {
    try {
      const exitCode = await exit;
      this.socket?.close();
      this.exec = { ...this.exec, state: 'exited', exitCode };
      await this.write(() => this.ended(exitCode));
      await removeExecFiles(this.options.paths, this.exec.id);
    } catch (error) {
      this.options.logger.error({ execId: this.exec.id, error }, 'the end of an exec could not be recorded');
    }
  }

  private ended(exitCode: number): Commit | undefined {
    const { store } = this.options;
    const known = store.execs.get(this.exec.id);
    // It may be gone with its container, or have ended with its container's run, whose end has told of it.
    if (known === undefined || known.state === 'exited') return undefined;
    const container = store.containers.get(this.container.id) ?? this.container;
    const end = { puts: [store.execs.put(this.exec.id, this.exec)], unchanged: [store.execs.is(known.id, known)] };
    return known.state === 'created' ? end : { ...end, events: [execDied(container, this.exec.id, exitCode)] };
  }

  /** Until it is written, however long Redis is away; anew when the end of the container's run came first. */
  private async write(commit: () => Commit | undefined): Promise<void> {
    for (;;) {
      const asked = commit();
      if (asked === undefined) return;
      try {
        await this.options.store.commit(asked);
        return;
      } catch (error) {
        if (isConflict(error)) await this.options.store.fresh(true);
        else if (isUnavailable(error)) await pause(recordAgainMs);
        else throw error;
      }
    }
  }

  private async waitForExit(): Promise<number> {
    const directory = join(this.directory, 'exit');
    const file = join(directory, this.container.id);
    let watcher: FSWatcher | undefined;
    let notice: () => void = () => undefined;
    try {
      if (existsSync(directory)) watcher = watch(directory, () => notice()).on('error', () => notice());
      for (;;) {
        if (existsSync(file)) return Number.parseInt(readFileSync(file, 'utf8'), 10);
        const lost = !isAlive(this.exec.monitorPid, this.exec.monitorStart);
        if (lost) return existsSync(file) ? Number.parseInt(readFileSync(file, 'utf8'), 10) : this.endUnwatched();
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, exitLookMs);
          notice = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
    } finally {
      watcher?.close();
    }
  }

  /** Its conmon was killed: nobody can know its exit code any more. */
  private endUnwatched(): number {
    signalProcess(this.exec.pid, this.exec.pidStart, sigkill);
    return 137;
  }
}
