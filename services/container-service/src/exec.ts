/**
 * Execs: additional processes in running containers. Each has a conmon of its own, so that one outlives this service too; the output of an attached one
 * comes from conmon's attach socket, and a client that stops reading makes that conmon stop (and with it the process) instead of costing memory.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, type FSWatcher, mkdirSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { DecodeError, decodeDocument, type ExecConfig, type ExecInspect, execConfig } from '@flotilla/engine-api';
import { Conflict, errorMessage, InvalidParameter, isFlotillaError, NotFound, System } from '@flotilla/errors';
import type { RuntimeProcess, RuntimeSpec } from '@flotilla/oci';
import type { Logger } from '@flotilla/service-kit';
import { frame, type Ticket, type TicketServer, writeAll } from '@flotilla/streams';
import { forward } from './attach.ts';
import { assertRunning, type ContainerRecord, type Run } from './container.ts';
import { DetachScanner, parseDetachKeys } from './detachKeys.ts';
import type { ExecRecord } from './execRecord.ts';
import { findContainer } from './lookup.ts';
import { type ExecMonitorOptions, type Monitor, RuntimeFailure, type StdioConnection } from './monitor.ts';
import type { Paths } from './paths.ts';
import { isAlive, signalProcess, startTimeOf } from './processes.ts';
import type { OciRuntime } from './runtime.ts';
import { buildExecProcess, encodeSpec, type HostFacts } from './spec/index.ts';
import { execFailure } from './startFailure.ts';
import { type ContainerStore, containerEvent } from './store.ts';

export interface ExecsOptions {
  readonly logger: Logger;
  readonly paths: Paths;
  readonly store: ContainerStore;
  readonly tickets: TicketServer;
  readonly runtimes: { get(name: string): OciRuntime | undefined };
  readonly host: HostFacts;
  readonly monitor: Pick<Monitor, 'startExec' | 'connect' | 'resize'>;
}

export interface StartExecOptions {
  readonly detach: boolean;
  readonly tty: boolean;
  readonly height: number;
  readonly width: number;
}

/** Output that waits for a slow client before the process is made to wait too, and where it may go on. */
const mostWaitingBytes = 4 * 1024 * 1024;
const fewWaitingBytes = 512 * 1024;
const sigstop = 19;
const sigcont = 18;
const exitLookMs = 250;
/** How long a resize waits for its exec to run. */
const startPatienceMs = 10_000;

export class Execs {
  private readonly options: ExecsOptions;

  constructor(options: ExecsOptions) {
    this.options = options;
  }

  /** @throws NotFound; Conflict when the container does not run or is paused. @see Engine API v1.50 ContainerExec */
  async create(reference: string, configJson: Uint8Array): Promise<string> {
    const { store } = this.options;
    const config = decodeConfig(configJson);
    const container = findContainer(store, reference);
    const run = requireReady(container, reference);
    parseDetachKeys(config.DetachKeys ?? '');
    if ((config.Cmd ?? []).length === 0) throw new InvalidParameter('No exec command specified');
    const id = randomBytes(32).toString('hex');
    const record: ExecRecord = {
      id,
      containerId: container.id,
      runId: run.id,
      config,
      state: 'created',
      exitCode: null,
      pid: 0,
      pidStart: '',
      monitorPid: 0,
      monitorStart: '',
    };
    await store.commit({
      puts: [store.execs.put(id, record)],
      events: [containerEvent(container, `exec_create: ${commandText(config)}`, { execID: id })],
    });
    return id;
  }

  /** @throws NotFound; Conflict when it was started, or its container does not run. @see Engine API v1.50 ExecStart */
  async start(id: string, options: StartExecOptions): Promise<{ ticket?: Ticket; tty: boolean }> {
    const { tickets } = this.options;
    const exec = this.find(id);
    const container = this.containerOf(exec);
    if (exec.state === 'exited') throw new Conflict(`exec ${id} has already run`);
    if (exec.state === 'running') throw new Conflict(`exec ${id} is already running`);
    requireReady(container);
    const tty = exec.config.Tty ?? false;
    if (options.detach) {
      const session = new ExecSession(this.options, exec, container, options);
      await session.begin(undefined);
      void session.finish();
      return { tty };
    }
    const ticket = tickets.issue((stream, signal) => this.serve(exec, container, options, stream, signal));
    return { ticket, tty };
  }

  private async serve(
    exec: ExecRecord,
    container: ContainerRecord,
    options: StartExecOptions,
    stream: Socket,
    signal: AbortSignal,
  ): Promise<void> {
    const session = new ExecSession(this.options, exec, container, options);
    try {
      await session.begin(stream);
    } catch (error) {
      // The connection is the client's stream already: dockerd writes the reason into it.
      const text = Buffer.from(`${isFlotillaError(error) ? error.message : errorMessage(error)}\r\n`);
      stream.resume();
      await writeAll(stream, exec.config.Tty ? text : frame(1, text));
      return;
    }
    await session.carry(stream, signal);
  }

  /** @see Engine API v1.50 ExecResize */
  async resize(id: string, height: number, width: number): Promise<void> {
    const exec = await this.begun(this.find(id));
    if (exec.state !== 'running') throw new Conflict(`exec ${id} is not running`);
    try {
      await this.options.monitor.resize(this.options.paths.execDirectory(id), height, width);
    } catch (error) {
      throw new System(`cannot resize exec ${id}`, { cause: error });
    }
  }

  /** A client may resize as soon as it has its stream, which is before the process runs: that is waited for, as dockerd does. */
  private async begun(exec: ExecRecord): Promise<ExecRecord> {
    if (exec.state !== 'created') return exec;
    const { execs } = this.options.store;
    return await new Promise((resolve) => {
      const settle = (): void => {
        clearTimeout(timer);
        stop();
        resolve(execs.get(exec.id) ?? exec);
      };
      const timer = setTimeout(settle, startPatienceMs);
      const stop = execs.onChange((id, now) => {
        if (id === exec.id && now?.state !== 'created') settle();
      });
    });
  }

  /** @see Engine API v1.50 ExecInspect */
  inspect(id: string): ExecInspect {
    const exec = this.find(id);
    const { config } = exec;
    const [entrypoint = '', ...args] = config.Cmd ?? [];
    return {
      ID: exec.id,
      Running: exec.state === 'running',
      ExitCode: exec.exitCode,
      ProcessConfig: {
        tty: config.Tty ?? false,
        entrypoint,
        arguments: args,
        privileged: config.Privileged ?? false,
        ...(config.User ? { user: config.User } : {}),
      },
      OpenStdin: config.AttachStdin ?? false,
      OpenStderr: config.AttachStderr ?? false,
      OpenStdout: config.AttachStdout ?? false,
      CanRemove: false,
      ContainerID: exec.containerId,
      DetachKeys: [...parseDetachKeys(config.DetachKeys ?? '')].map((byte) => String.fromCharCode(byte)).join(''),
      Pid: exec.pid,
    };
  }

  /** Execs that run in a container, for its inspect. */
  runningIn(containerId: string): string[] {
    return [...this.options.store.execs.values()]
      .filter((exec) => exec.containerId === containerId && exec.state === 'running')
      .map((exec) => exec.id);
  }

  /** Follows an exec that another instance began, to its end. */
  adopt(exec: ExecRecord): void {
    const container = this.options.store.containers.get(exec.containerId);
    if (container === undefined) return;
    // Whoever made it wait for its client is gone.
    signalProcess(exec.monitorPid, exec.monitorStart, sigcont);
    void new ExecSession(this.options, exec, container, { detach: true, tty: false, height: 0, width: 0 }).finish();
  }

  private find(id: string): ExecRecord {
    const exec = this.options.store.execs.get(id);
    if (exec === undefined) throw new NotFound(`No such exec instance: ${id}`);
    return exec;
  }

  private containerOf(exec: ExecRecord): ContainerRecord {
    const container = this.options.store.containers.get(exec.containerId);
    if (container === undefined) throw new NotFound(`No such exec instance: ${exec.id}`);
    return container;
  }
}

/** One exec that runs: from its conmon's start to its exit code. */
class ExecSession {
  private readonly options: ExecsOptions;
  private readonly container: ContainerRecord;
  private readonly start: StartExecOptions;
  private exec: ExecRecord;
  private socket: StdioConnection | undefined;
  private readonly waiting: Buffer[] = [];
  private waitingBytes = 0;
  private held = false;
  private wake: () => void = () => undefined;

  constructor(options: ExecsOptions, exec: ExecRecord, container: ContainerRecord, start: StartExecOptions) {
    this.options = options;
    this.exec = exec;
    this.container = container;
    this.start = start;
  }

  private get directory(): string {
    return this.options.paths.execDirectory(this.exec.id);
  }

  /** Starts the process. @throws what the client is told when it cannot be. */
  async begin(stream: Socket | undefined): Promise<void> {
    const { store, monitor, logger } = this.options;
    const { config } = this.exec;
    try {
      const run = requireReady(store.containers.get(this.container.id) ?? this.container);
      const options = this.monitorOptions(run, stream !== undefined);
      const monitored = await monitor.startExec(options, async () => {
        this.socket = await monitor.connect(this.directory, (source, bytes) => this.onOutput(source, bytes));
      });
      this.exec = {
        ...this.exec,
        state: 'running',
        pid: monitored.pid,
        pidStart: startTimeOf(monitored.pid) ?? '',
        monitorPid: monitored.monitorPid,
        monitorStart: startTimeOf(monitored.monitorPid) ?? '',
      };
      await store.commit({
        puts: [store.execs.put(this.exec.id, this.exec)],
        events: [containerEvent(this.container, `exec_start: ${commandText(config)}`, { execID: this.exec.id })],
      });
      if (config.Tty && this.start.height > 0 && this.start.width > 0) {
        await monitor.resize(this.directory, this.start.height, this.start.width).catch(() => undefined);
      }
    } catch (error) {
      this.socket?.close();
      rmSync(this.directory, { recursive: true, force: true });
      const failure = error instanceof RuntimeFailure ? execFailure(error.message, config.Cmd?.[0] ?? '') : { error, exitCode: 126 };
      logger.debug({ execId: this.exec.id, error }, 'an exec did not start');
      this.exec = { ...this.exec, state: 'exited', exitCode: failure.exitCode };
      if (store.execs.has(this.exec.id)) await store.commit({ puts: [store.execs.put(this.exec.id, this.exec)] });
      throw failure.error;
    }
  }

  private monitorOptions(run: Run, attach: boolean): ExecMonitorOptions {
    const { paths, host, runtimes } = this.options;
    const { config } = this.exec;
    const spec = JSON.parse(readFileSync(join(paths.bundle(this.container.id), 'config.json'), 'utf8')) as RuntimeSpec;
    const container: RuntimeProcess = spec.process ?? { args: [], cwd: '/', user: { uid: 0, gid: 0 }, env: [] };
    const tty = config.Tty ?? false;
    const process = buildExecProcess({
      config: this.container.config,
      hostConfig: this.container.hostConfig,
      exec: this.start.height > 0 ? { ...config, ConsoleSize: [this.start.height, this.start.width] } : config,
      rootfs: `/proc/${run.pid}/root`,
      container,
      host,
    });
    const runtime = runtimes.get(run.runtime);
    if (runtime === undefined) throw new System(`the runtime ${run.runtime} is gone`);
    mkdirSync(join(this.directory, 'exit'), { recursive: true, mode: 0o700 });
    const processSpec = join(this.directory, 'process.json');
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
    this.waiting.push(config.Tty ? Buffer.from(bytes) : frame(source, bytes));
    this.waitingBytes += bytes.length;
    if (this.waitingBytes > mostWaitingBytes && !this.held && this.exec.monitorPid > 0) {
      this.held = signalProcess(this.exec.monitorPid, this.exec.monitorStart, sigstop);
    }
    this.wake();
  }

  private letGo(): void {
    if (!this.held) return;
    this.held = false;
    signalProcess(this.exec.monitorPid, this.exec.monitorStart, sigcont);
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
    const input = config.AttachStdin ? this.pumpInput(stream, socket, signal, detach) : Promise.resolve(stream.resume());
    try {
      await this.pumpOutput(stream, socket, signal);
    } finally {
      this.letGo();
      leave.abort();
      await input;
      // A client that has left does not take the process' output away from it: it is read and thrown away.
      if (gone.aborted || detached) this.discardOutput();
    }
    const finished = this.finish();
    if (!detached) await Promise.race([finished, left(gone)]);
  }

  private discardOutput(): void {
    this.waiting.length = 0;
    this.waitingBytes = 0;
    this.wake = () => {
      this.waiting.length = 0;
      this.waitingBytes = 0;
    };
  }

  private async pumpOutput(stream: Socket, socket: StdioConnection, signal: AbortSignal): Promise<void> {
    let ended = false;
    const notice = (): void => {
      ended = true;
      this.wake();
    };
    void socket.whenEnded().then(notice);
    signal.addEventListener('abort', notice, { once: true });
    for (;;) {
      const chunks = this.waiting.splice(0);
      if (chunks.length > 0) {
        const bytes = this.waitingBytes;
        await writeAll(stream, chunks.length === 1 ? (chunks[0] ?? Buffer.alloc(0)) : Buffer.concat(chunks));
        this.waitingBytes -= bytes;
        if (this.waitingBytes <= fewWaitingBytes) this.letGo();
        continue;
      }
      if (ended) return;
      await new Promise<void>((resolve) => {
        this.wake = resolve;
        if (this.waiting.length > 0 || ended) resolve();
      });
    }
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
  async finish(): Promise<void> {
    const { store, logger } = this.options;
    try {
      const exitCode = await this.waitForExit();
      this.socket?.close();
      this.exec = { ...this.exec, state: 'exited', exitCode };
      const event = containerEvent(this.container, 'exec_die', { execID: this.exec.id, exitCode: `${exitCode}` });
      // It may be gone with its container.
      await store.commit({ puts: store.execs.has(this.exec.id) ? [store.execs.put(this.exec.id, this.exec)] : [], events: [event] });
    } catch (error) {
      logger.error({ execId: this.exec.id, error }, 'the end of an exec could not be recorded');
    } finally {
      rmSync(this.directory, { recursive: true, force: true });
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
    signalProcess(this.exec.pid, this.exec.pidStart, 9);
    return 137;
  }
}

function left(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** @param reference - how the client named it. */
function requireReady(container: ContainerRecord, reference: string = container.id): Run {
  if (container.state.status === 'restarting')
    throw new Conflict(`Container ${container.id} is restarting, wait until the container is running`);
  if (container.state.status === 'paused') throw new Conflict(`Container ${reference} is paused, unpause the container before exec`);
  return assertRunning(container);
}

function decodeConfig(json: Uint8Array): ExecConfig {
  try {
    return decodeDocument(execConfig, Buffer.from(json).toString('utf8')) ?? {};
  } catch (error) {
    throw error instanceof DecodeError ? new InvalidParameter(`invalid JSON: ${error.message}`, { cause: error }) : error;
  }
}

function commandText(config: ExecConfig): string {
  return (config.Cmd ?? []).join(' ');
}
