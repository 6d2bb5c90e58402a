/**
 * Execs: additional processes in running containers. Each has a conmon of its own, so that one outlives this service too; the output of an attached one
 * comes from conmon's attach socket, and a client that stops reading makes that conmon stop (and with it the process) instead of costing memory.
 */
import type { Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { DecodeError, decodeDocument, type ExecConfig, type ExecInspect, execConfig, randomId } from '@flotilla/engine-api';
import {
  Conflict,
  DataLoss,
  errorMessage,
  InvalidParameter,
  isConflict,
  isFlotillaError,
  NotFound,
  System,
  Unavailable,
} from '@flotilla/errors';
import { aborted } from '@flotilla/service-kit';
import { frame, type Ticket, type TicketServer, writeOutput } from '@flotilla/streams';
import { claimExec, removeExecFiles, StartingExecs, starterOf, takeOverExec } from './begunExec.ts';
import type { ContainerRecord } from './container.ts';
import { parseDetachKeys } from './detachKeys.ts';
import type { ExecCarriers } from './execCarriers.ts';
import { commandText, type ExecRecord, requireReady } from './execRecord.ts';
import { ExecSession, type ExecSessionOptions, type StartExecOptions } from './execSession.ts';
import { discard } from './input.ts';
import { findContainer } from './lookup.ts';
import { containerEvent } from './store.ts';

export interface ExecsOptions extends ExecSessionOptions {
  readonly tickets: TicketServer;
  readonly carriers: ExecCarriers;
}

/** How long a resize waits for its exec to run. */
const startPatienceMs = 10_000;
/** How long who only hears that a detached exec did not start waits until the record says so too. */
const recordPatienceMs = 500;

export class Execs {
  private readonly options: ExecsOptions;
  private readonly starting: StartingExecs;

  constructor(options: ExecsOptions) {
    this.options = options;
    this.starting = new StartingExecs(options.paths);
    options.store.execs.onChange((id, exec) => {
      if (exec === undefined) options.carriers.forget(id);
    });
  }

  /** @throws NotFound; Conflict when the container does not run or is paused. @see Engine API v1.50 ContainerExec */
  async create(reference: string, configJson: Uint8Array): Promise<string> {
    const { store } = this.options;
    const config = decodeConfig(configJson);
    const container = findContainer(store, reference);
    const run = requireReady(container, reference);
    parseDetachKeys(config.DetachKeys ?? '');
    if ((config.Cmd ?? []).length === 0) throw new InvalidParameter('No exec command specified');
    const id = randomId();
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
      events: [containerEvent(container, `exec_create: ${commandText(config.Cmd)}`, { execID: id })],
    });
    return id;
  }

  /**
   * @throws NotFound; Conflict when it was started, or its container does not run; Unavailable while it is not known what has come of a start that was cut off.
   * @see Engine API v1.50 ExecStart
   */
  async start(id: string, options: StartExecOptions): Promise<{ ticket?: Ticket; tty: boolean }> {
    const { tickets } = this.options;
    const exec = this.find(id);
    const container = this.containerOf(exec);
    if (exec.state === 'exited') throw new Conflict(`exec ${id} has already run`);
    if (exec.state === 'running') throw new Conflict(`exec ${id} is already running`);
    if (requireReady(container).id !== exec.runId) throw new NotFound(`No such exec instance: ${id}`);
    const starter = starterOf(this.options.paths, id);
    if (starter === 'an instance') throw new Conflict(`exec ${id} is already running`);
    if (starter === 'one that is gone') throw new Unavailable(`exec ${id} was cut off while it started`);
    if (options.detach) {
      const session = new ExecSession(this.options, exec, container, options);
      try {
        await session.begin(undefined);
      } catch (error) {
        await Promise.race([session.whenOver, pause(recordPatienceMs, undefined, { ref: false })]);
        throw error;
      }
      void session.finish();
      return { tty: options.tty };
    }
    const ticket = tickets.issue((stream, signal) => this.serve(exec, container, options, stream, signal), { inPieces: true });
    return { ticket, tty: options.tty };
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
      discard(stream);
      await writeOutput(stream, options.tty ? text : frame(1, text));
      // Behind its end the client asks for the exit code.
      await Promise.race([session.whenOver, aborted(signal)]);
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

  /**
   * @throws NotFound; DataLoss when the gateway that carried its stream has died. Its client has seen an end like any other, and would take what it is answered
   *   here for how the exec ended: a null for 0, and what it has of the output for all of it.
   * @see Engine API v1.50 ExecInspect
   */
  inspect(id: string): ExecInspect {
    const exec = this.find(id);
    if (this.options.carriers.hasDied(id)) throw new DataLoss(cutOff(exec));
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

  /** Follows to their ends the execs of instances that are gone. */
  followAbandoned(): void {
    this.options.carriers.forgetBroken();
    for (const exec of this.options.store.execs.values()) {
      if (exec.state !== 'exited' && this.takeOver(exec)) void this.follow(exec.id);
    }
  }

  private takeOver(exec: ExecRecord): boolean {
    const { paths, logger } = this.options;
    try {
      const taken = takeOverExec(paths, exec.id);
      if (taken !== 'nobody' || exec.state === 'created') return taken === 'ours';
      // Its files went with a boot of the machine, or its end was told by another and we do not know of it yet.
      claimExec(paths, exec.id);
      return true;
    } catch (error) {
      if (!isConflict(error)) logger.error({ execId: exec.id, error }, 'an exec of an instance that is gone could not be taken over');
      return false;
    }
  }

  /** One that was taken over. */
  private async follow(id: string): Promise<void> {
    const { store, paths, logger } = this.options;
    try {
      await store.fresh(true);
    } catch (error) {
      logger.debug({ execId: id, error }, 'it is followed as it was last known');
    }
    try {
      const exec = store.execs.get(id);
      const session = exec && this.sessionOf(exec);
      if (session === undefined || exec?.state === 'exited') await removeExecFiles(paths, id);
      else if (exec?.state === 'created') await session.finishCutOff(this.starting);
      else await session.adopt();
    } catch (error) {
      logger.error({ execId: id, error }, 'an exec of an instance that is gone could not be followed');
    }
  }

  private sessionOf(exec: ExecRecord): ExecSession | undefined {
    const container = this.options.store.containers.get(exec.containerId);
    return container && new ExecSession(this.options, exec, container, { detach: true, tty: false, height: 0, width: 0 });
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

function decodeConfig(json: Uint8Array): ExecConfig {
  try {
    return decodeDocument(execConfig, Buffer.from(json).toString('utf8')) ?? {};
  } catch (error) {
    throw error instanceof DecodeError ? new InvalidParameter(`invalid JSON: ${error.message}`, { cause: error }) : error;
  }
}

/** What of it is known goes with the words: nobody can ask for it in another way. */
function cutOff({ id, state, exitCode }: ExecRecord): string {
  const now = { created: 'it had not begun yet', running: 'it still runs', exited: `it ended with exit code ${exitCode}` }[state];
  return `the output of exec ${id} was cut off when the gateway that carried it went away; ${now}`;
}
