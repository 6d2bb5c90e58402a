/**
 * Attach: a container's output from its log, its input to conmon's attach socket.
 *
 * The place in the log is taken when the call comes, so a client that attaches before the start (as `docker run` does) loses nothing, and one that wants
 * the log and the stream gets each byte once. The stream ends with the run that is there, or with the next one. When its instance is killed it goes on at
 * another, where it stood (logClaims.ts).
 */
import type { Socket } from 'node:net';
import { Conflict } from '@flotilla/errors';
import { aborted, type Logger } from '@flotilla/service-kit';
import { frame, hasLeft, type Ticket, type TicketServer, writeOutput } from '@flotilla/streams';
import type { ContainerRecord, Run } from './container.ts';
import { DetachScanner, parseDetachKeys } from './detachKeys.ts';
import { discard, forward } from './input.ts';
import type { ClaimedStream, HeldInput, LogClaim, LogClaims } from './logClaims.ts';
import { type LogPins, type LogPlace, logEnd, logStart, readLog } from './logs/index.ts';
import { findContainer } from './lookup.ts';
import type { Monitor } from './monitor.ts';
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
  readonly claims: LogClaims;
  readonly monitor: Pick<Monitor, 'connect' | 'connectKept'>;
}

export interface AttachRequest {
  readonly container: string;
  readonly logs: boolean;
  readonly stream: boolean;
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly detachKeys: string;
  /** where an attachment stood that another instance served */
  readonly cursor?: string | undefined;
}

/** One attached client. */
interface Attachment {
  readonly request: AttachRequest;
  readonly claim: LogClaim;
  readonly from: LogPlace;
  /** false: what has arrived of its input is not known, since the instance that carried it died in the middle */
  readonly inputIsKnown: boolean;
  /** absent: only the log, as it is now */
  readonly ended: { readonly promise: Promise<void>; readonly stop: () => void } | undefined;
  /** the process' input, as long as this stream may have to end it */
  openInput?: HeldInput | undefined;
}

/** What the end of a run, seen by a client that was attached before it, is told from. */
type Seen = NonNullable<ClaimedStream['attached']>;

/** What had not arrived is sent again at once, and its client told: the end of its input may be the end of the process, and of the stream. */
const untilResentMs = 250;

const inputLost = Buffer.from(
  'flotilla: the way to container-service was cut in the middle of the standard input: it ends here, for some of it would arrive twice or never\r\n',
);

export class Attacher {
  private readonly options: AttacherOptions;

  constructor(options: AttacherOptions) {
    this.options = options;
    options.claims.onAbandoned((stream) => {
      if (stream.endsInput) this.endInputOf(stream.containerId);
    });
  }

  /** @throws NotFound; Conflict while it is paused or restarting. @see Engine API v1.50 ContainerAttach */
  async attach(request: AttachRequest): Promise<{ ticket: Ticket; tty: boolean }> {
    const keys = parseDetachKeys(request.detachKeys);
    const attachment = request.cursor ? this.resumed(request, request.cursor) : await this.begun(request);
    const close = (cut: boolean): void => {
      attachment.ended?.stop();
      attachment.claim.release(cut, attachment.openInput);
    };
    const ticket = this.options.tickets.issue(
      async (stream, signal) => {
        try {
          await this.serve(attachment, keys, stream, signal);
        } finally {
          close(signal.aborted);
        }
      },
      { inPieces: true, resumable: true, onExpired: () => close(true) },
    );
    return { ticket, tty: attachment.claim.stream.tty };
  }

  private async begun(request: AttachRequest): Promise<Attachment> {
    const { store, claims, paths } = this.options;
    const container = findContainer(store, request.container);
    const { id, state } = container;
    if (state.status === 'paused') throw new Conflict(`container ${id} is paused, unpause the container before attach`);
    if (state.status === 'restarting') throw new Conflict(`container ${id} is restarting, wait until the container is running`);
    const attached: Seen = { startedAt: state.startedAt, error: state.error, ...(state.run && { runId: state.run.id }) };
    const endsInput = feeds(request, container) && endsWithItsClient(container);
    const claim = claims.claim({ containerId: id, tty: container.config.Tty ?? false, attached, ...(endsInput ? { endsInput } : {}) });
    const ended = request.stream ? this.whenRunEnds(id, attached) : undefined;
    try {
      const from = request.logs ? logStart : await logEnd(paths.log(id));
      await store.commit({ events: [containerEvent(container, 'attach')] });
      return { request, claim, from: { ...from, unfinished: 0 }, inputIsKnown: true, ended };
    } catch (error) {
      ended?.stop();
      claim.release(false);
      throw error;
    }
  }

  private resumed(request: AttachRequest, cursor: string): Attachment {
    const { claim, place, inputIsKnown } = this.options.claims.resume(cursor);
    const { containerId, attached } = claim.stream;
    const ended = request.stream && attached !== undefined ? this.whenRunEnds(containerId, attached) : undefined;
    // Its input is open until somebody ends it, also when nobody comes for this ticket; that of a later run is not its own.
    const runId = this.options.store.containers.get(containerId)?.state.run?.id;
    const close = (): void => {
      if (this.options.store.containers.get(containerId)?.state.run?.id === runId) this.endInputOf(containerId);
    };
    const openInput = claim.stream.endsInput === true ? { close, leave: () => undefined } : undefined;
    return { request, claim, from: place, inputIsKnown, ended, openInput };
  }

  /** Resolves when the run that was there, or else the next one, is over, or the container is gone. */
  private whenRunEnds(id: string, seen: Seen): { promise: Promise<void>; stop: () => void } {
    const { store, changes } = this.options;
    const { promise, resolve } = Promise.withResolvers<void>();
    let runId = seen.runId;
    const look = (now: ContainerRecord | undefined): void => {
      const run = now?.state.run;
      const hasRun = now?.state.startedAt !== seen.startedAt || now.state.error !== seen.error;
      if (now === undefined || (runId === undefined ? run === undefined && hasRun : run?.id !== runId)) resolve();
      else runId ??= run?.id;
    };
    look(store.containers.get(id));
    return { promise, stop: changes.on(id, look) };
  }

  private async serve(attachment: Attachment, keys: Buffer, stream: Socket, gone: AbortSignal): Promise<void> {
    const { request, claim, from, inputIsKnown, ended } = attachment;
    const { store, paths, pins } = this.options;
    const { containerId, tty } = claim.stream;
    const container = store.containers.get(containerId);
    const leave = new AbortController();
    const signal = AbortSignal.any([gone, leave.signal]);
    let input: Promise<void> | undefined;
    if (container === undefined || !feeds(request, container)) discard(stream);
    else if (!inputIsKnown && endsWithItsClient(container)) {
      attachment.openInput = undefined;
      setTimeout(() => this.endInputOf(containerId), untilResentMs).unref();
      discard(stream, tellOnce(stream, claim.cursorOf({ place: from })));
    } else input = this.pumpInput(container, keys, stream, attachment, signal, () => leave.abort());
    try {
      if (!request.stdout && !request.stderr) {
        await writeOutput(stream, Buffer.alloc(0), claim.cursorOf({ place: from }));
        if (ended !== undefined) await Promise.race([ended.promise, aborted(signal)]);
        return;
      }
      const reader = readLog({
        path: paths.log(containerId),
        stdout: request.stdout,
        stderr: request.stderr,
        tty,
        from,
        follow: request.stream,
        ...(ended === undefined ? {} : { ended: ended.promise }),
        signal,
        pins,
      });
      for await (const chunk of reader) await writeOutput(stream, chunk, claim.cursorOf(reader));
    } finally {
      leave.abort();
      await input;
    }
  }

  /** Carries the client's input to the container until either has enough. */
  private async pumpInput(
    container: ContainerRecord,
    keys: Buffer,
    stream: Socket,
    attachment: Attachment,
    signal: AbortSignal,
    leave: () => void,
  ): Promise<void> {
    const { changes, store, logger } = this.options;
    const { id } = container;
    try {
      await changes.when(id, store.containers.get(id), (now) => now === undefined || now.state.run !== undefined, signal);
      const run: Run | undefined = store.containers.get(id)?.state.run;
      if (run === undefined) return;
      if (endsWithItsClient(container)) await this.feedToTheEnd(id, run, stream, attachment, signal);
      else await this.feed(container, keys, stream, signal, leave);
    } catch (error) {
      if (!signal.aborted) logger.debug({ containerId: id, error }, 'its input ended');
    }
  }

  /** The end of input ends the attachment. */
  private async feed(container: ContainerRecord, keys: Buffer, stream: Socket, signal: AbortSignal, leave: () => void): Promise<void> {
    const { store, paths, monitor } = this.options;
    const { id, config } = container;
    const socket = await monitor.connect(paths.bundle(id));
    try {
      const detached = await forward(stream, socket, config.Tty ? new DetachScanner(keys) : undefined, signal);
      if (detached) await store.commit({ events: [containerEvent(store.containers.get(id) ?? container, 'detach')] });
      if (await hasLeft(stream)) return;
      leave();
      if (!signal.aborted) await Promise.race([socket.whenEnded(), aborted(signal)]);
    } finally {
      socket.close();
    }
  }

  /**
   * The end of input, or of its client, is the end of the process' input: dockerd's rule for what was started with `-i` and no terminal. A client that leaves
   * ends it first; a stream that just stops was cut, and its holder may come back.
   */
  private async feedToTheEnd(id: string, run: Run, stream: Socket, attachment: Attachment, signal: AbortSignal): Promise<void> {
    const { paths, monitor, claims } = this.options;
    const { claim } = attachment;
    const input = monitor.connectKept(paths.bundle(id), run.monitorPid);
    attachment.openInput = input;
    try {
      await forward(stream, input, undefined, signal, claim.inputMark());
      if (claims.isStopping || (await hasLeft(stream)) || !claim.isNewest()) return;
      attachment.openInput = undefined;
      input.endInput();
      if (!signal.aborted) await Promise.race([input.whenEnded(), aborted(signal)]);
    } finally {
      if (claims.isStopping) input.leave();
      else if (attachment.openInput === undefined) input.close();
    }
  }

  /** Nobody will send more of it. */
  private endInputOf(id: string): void {
    const { store, paths, monitor, logger } = this.options;
    const run = store.containers.get(id)?.state.run;
    if (run === undefined) return;
    try {
      monitor.connectKept(paths.bundle(id), run.monitorPid).close();
    } catch (error) {
      logger.debug({ containerId: id, error }, 'its input has ended already');
    }
  }
}

/** Whether what the client sends is meant for the process. */
function feeds({ stream, stdin }: AttachRequest, { config }: ContainerRecord): boolean {
  return stream && stdin && config.OpenStdin === true;
}

/** Whether conmon closes the process' input when the client that wrote it is gone, by whatever death. */
function endsWithItsClient({ config }: ContainerRecord): boolean {
  return config.StdinOnce === true && !config.Tty;
}

/** Input that can reach nobody any more is not swallowed in silence. */
function tellOnce(stream: Socket, cursor: string): () => void {
  let told = false;
  return () => {
    if (!told) void writeOutput(stream, frame(2, inputLost), cursor).catch(() => undefined);
    told = true;
  };
}
