/**
 * Attach: a container's output from its log, its input to conmon's attach socket.
 *
 * The place in the log is taken when the call comes, so a client that attaches before the start (as `docker run` does) loses nothing, and one that wants
 * the log and the stream gets each byte once. The stream ends with the run that is there, or with the next one.
 */
import type { Socket } from 'node:net';
import { Conflict } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
import { type Ticket, type TicketServer, writeAll } from '@flotilla/streams';
import type { ContainerRecord, Run } from './container.ts';
import { DetachScanner, parseDetachKeys } from './detachKeys.ts';
import { type LogPins, type LogPosition, logEnd, logStart, readLog } from './logs/index.ts';
import type { LogUsers } from './logUsers.ts';
import { findContainer } from './lookup.ts';
import type { Monitor, StdioConnection } from './monitor.ts';
import type { Paths } from './paths.ts';
import { type ContainerStore, containerEvent } from './store.ts';
import type { ContainerChanges } from './waiting.ts';

export interface AttacherOptions {
  readonly logger: Logger;
  readonly paths: Paths;
  readonly store: ContainerStore;
  readonly changes: ContainerChanges;
  readonly tickets: TicketServer;
  readonly pins: LogPins;
  readonly users: LogUsers;
  readonly monitor: Pick<Monitor, 'connect'>;
}

export interface AttachRequest {
  readonly container: string;
  readonly logs: boolean;
  readonly stream: boolean;
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly detachKeys: string;
}

export class Attacher {
  private readonly options: AttacherOptions;

  constructor(options: AttacherOptions) {
    this.options = options;
  }

  /** @throws NotFound; Conflict while it is paused or restarting. @see Engine API v1.50 ContainerAttach */
  async attach(request: AttachRequest): Promise<{ ticket: Ticket; tty: boolean }> {
    const { store, tickets, users, paths } = this.options;
    const container = findContainer(store, request.container);
    const keys = parseDetachKeys(request.detachKeys);
    if (container.state.status === 'paused') throw new Conflict(`container ${container.id} is paused, unpause the container before attach`);
    if (container.state.status === 'restarting') {
      throw new Conflict(`container ${container.id} is restarting, wait until the container is running`);
    }
    const release = users.use(container.id);
    try {
      const from = request.logs ? logStart : await logEnd(paths.log(container.id));
      const ended = request.stream ? this.whenRunEnds(container) : undefined;
      await store.commit({ events: [containerEvent(container, 'attach')] });
      const ticket = tickets.issue(
        async (stream, signal) => {
          try {
            await this.serve(container, request, keys, from, ended?.promise, stream, signal);
          } finally {
            ended?.stop();
            release();
          }
        },
        {
          onExpired: () => {
            ended?.stop();
            release();
          },
        },
      );
      return { ticket, tty: container.config.Tty ?? false };
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Resolves when the run that is there, or else the next one, is over, or the container is gone. */
  private whenRunEnds(container: ContainerRecord): { promise: Promise<void>; stop: () => void } {
    const { promise, resolve } = Promise.withResolvers<void>();
    let runId = container.state.run?.id;
    const stop = this.options.changes.on(container.id, (now, before) => {
      const failed = before?.state.run === undefined && now?.state.run === undefined && now?.state.error !== before?.state.error;
      if (now === undefined || failed || (runId !== undefined && now.state.run?.id !== runId)) resolve();
      else runId ??= now.state.run?.id;
    });
    return { promise, stop };
  }

  private async serve(
    container: ContainerRecord,
    request: AttachRequest,
    keys: Buffer,
    from: LogPosition,
    ended: Promise<void> | undefined,
    stream: Socket,
    gone: AbortSignal,
  ): Promise<void> {
    const tty = container.config.Tty ?? false;
    const leave = new AbortController();
    const signal = AbortSignal.any([gone, leave.signal]);
    const takesInput = request.stream && request.stdin && container.config.OpenStdin === true;
    const input = takesInput ? this.pumpInput(container, keys, stream, signal, () => leave.abort()) : undefined;
    // Without a reader the socket would not notice that its peer has closed it.
    if (!takesInput) stream.resume();
    try {
      const reader = readLog({
        path: this.options.paths.log(container.id),
        stdout: request.stdout,
        stderr: request.stderr,
        tty,
        from,
        follow: request.stream,
        ...(ended === undefined ? {} : { ended }),
        signal,
        pins: this.options.pins,
      });
      if (request.stdout || request.stderr) for await (const chunk of reader) await writeAll(stream, chunk);
      else if (ended !== undefined) await Promise.race([ended, aborted(signal)]);
    } finally {
      leave.abort();
      await input;
    }
  }

  /** Carries the client's input to the container until either has enough. */
  private async pumpInput(container: ContainerRecord, keys: Buffer, stream: Socket, signal: AbortSignal, leave: () => void): Promise<void> {
    const { changes, store, paths, logger, monitor } = this.options;
    const { id, config } = container;
    try {
      await changes.when(id, store.containers.get(id), (now) => now === undefined || now.state.run !== undefined, signal);
      const run: Run | undefined = store.containers.get(id)?.state.run;
      if (run === undefined) return;
      const socket = await monitor.connect(paths.bundle(id));
      try {
        const scanner = config.Tty ? new DetachScanner(keys) : undefined;
        const detached = await forward(stream, socket, scanner, signal);
        if (detached) await store.commit({ events: [containerEvent(store.containers.get(id) ?? container, 'detach')] });
        // dockerd's rule: the end of input ends the process' input once, and otherwise the attachment.
        if (!detached && config.StdinOnce && !config.Tty) socket.endInput();
        else leave();
        if (!signal.aborted) await Promise.race([socket.whenEnded(), aborted(signal)]);
      } finally {
        socket.close();
      }
    } catch (error) {
      if (!signal.aborted) logger.debug({ containerId: id, error }, 'its input ended');
    }
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** Copies input, each piece awaited. @returns whether the detach keys came. */
export async function forward(
  stream: Socket,
  socket: Pick<StdioConnection, 'write' | 'whenEnded'>,
  scanner: DetachScanner | undefined,
  signal: AbortSignal,
): Promise<boolean> {
  const iterator = stream.iterator({ destroyOnReturn: false })[Symbol.asyncIterator]();
  const stopped = Promise.race([aborted(signal), socket.whenEnded()]).then(() => ({ done: true as const, value: undefined }));
  for (;;) {
    let step: IteratorResult<Buffer, unknown>;
    try {
      step = (await Promise.race([iterator.next(), stopped])) as IteratorResult<Buffer, unknown>;
    } catch {
      return false;
    }
    if (step.done) return false;
    if (scanner === undefined) {
      await socket.write(step.value);
      continue;
    }
    const { output, detached } = scanner.scan(step.value);
    if (output.length > 0) await socket.write(output);
    if (detached) return true;
  }
}
