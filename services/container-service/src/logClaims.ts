/**
 * Who reads a container's log, kept in files: so that a reader whose instance was killed can go on at the next one, and finds there what it has not had yet.
 *
 * A claim holds the container's files (logUsers.ts; whoever removes it looks for those of other instances here) and, for an attached reader, its segments
 * (logs/pins.ts). When its instance is gone it is held a little longer by the one that starts next, and when only its stream was cut by its own; by then its holder
 * has come back, or does not come any more. Of several that served a stream one after another only the last may give it up: the others may notice late.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { NotFound } from '@flotilla/errors';
import type { InputMark } from './input.ts';
import { compressedInodes, type LogPins, type LogPlace, type LogReader } from './logs/index.ts';
import type { LogUsers } from './logUsers.ts';
import type { KeptInput } from './monitor.ts';
import type { Paths } from './paths.ts';
import { isAlive, startTimeOf } from './processes.ts';

/** What must be known of a stream to go on with it, also when its container has been removed meanwhile. */
export interface ClaimedStream {
  readonly containerId: string;
  readonly tty: boolean;
  /** text in front of each line */
  readonly details?: string;
  /** Of an attachment: the run that was there when it began, or else how the container looked without one. Rotation waits for it. */
  readonly attached?: { readonly runId?: string; readonly startedAt: string; readonly error: string };
  /** The process' input ends with this stream. */
  readonly endsInput?: boolean;
}

/** The file of a claim. */
interface StoredClaim {
  readonly stream: ClaimedStream;
  readonly owner: { readonly pid: number; readonly start: string };
  readonly inode: number;
}

export type HeldInput = Pick<KeptInput, 'close' | 'leave'>;

export interface LogClaim {
  readonly stream: ClaimedStream;
  /** Where a reader stands, as its client brings it back. */
  cursorOf(reader: Pick<LogReader, 'place'>): string;
  /** Whether nobody else serves the stream by now. */
  isNewest(): boolean;
  /** Where it is written down that input is under way (input.ts). */
  inputMark(): InputMark;
  /**
   * The reader has ended.
   *
   * @param cut - by the loss of its stream, whose holder may come back; not by itself.
   * @param input - the process' input, where it has not ended: it is kept for that holder, and ended when he does not come.
   */
  release(cut: boolean, input?: HeldInput): void;
}

export interface LogClaimsOptions {
  readonly paths: Pick<Paths, 'readers' | 'log'>;
  readonly users: LogUsers;
  readonly pins: LogPins;
  /** How long a claim is held for a holder that has not come back. */
  readonly graceMs?: number;
  /** The same for one whose instance lives on: its holder has only to find another way, and most have left for good. */
  readonly cutGraceMs?: number;
}

const defaultGraceMs = 20_000;
const defaultCutGraceMs = 2_000;
const mostBetweenLooksMs = 500;
const inputSuffix = '.input';
const gone = 'the stream is gone: it cannot be resumed';

/** A claim that nobody holds. */
interface Orphan {
  readonly letGo: () => void;
  readonly input: HeldInput | undefined;
  /** The compressed files of its log, by the inodes that its holder may know them by. */
  readonly compressed: ReadonlyMap<number, number>;
}

export class LogClaims {
  private readonly options: LogClaimsOptions;
  private readonly owner = { pid: process.pid, start: startTimeOf(process.pid) ?? '' };
  /** The newest hold of each claim that is held here. */
  private readonly holds = new Map<string, LogClaim>();
  /** Claims of instances that are gone, and of our streams that were cut. */
  private readonly orphans = new Map<string, Orphan>();
  private stopping = false;
  private abandoned: (stream: ClaimedStream) => void = () => undefined;

  constructor(options: LogClaimsOptions) {
    this.options = options;
    mkdirSync(options.paths.readers, { recursive: true, mode: 0o700 });
  }

  /** A new reader. */
  claim(stream: ClaimedStream): LogClaim {
    return this.hold(`${namesakes(stream.containerId)}${randomBytes(8).toString('hex')}`, stream);
  }

  /** Called for each stream whose instance is gone and whose holder has not come back. */
  onAbandoned(listener: (stream: ClaimedStream) => void): void {
    this.abandoned = listener;
  }

  /** Streams that are cut now go on elsewhere. */
  get isStopping(): boolean {
    return this.stopping;
  }

  /**
   * A reader that another instance served until now, and where it stands.
   *
   * @returns `inputIsKnown`: what of its input had arrived is what its holder was told.
   * @throws NotFound when nobody knows it.
   */
  resume(cursor: string): { claim: LogClaim; place: LogPlace; inputIsKnown: boolean } {
    const [id = '', inode, offset, unfinished] = cursor.split(':');
    const stored = /^[0-9a-f]{17,32}$/.test(id) ? this.read(id) : undefined;
    if (stored === undefined) throw new NotFound(gone);
    const orphan = this.orphans.get(id);
    const stood = Number(inode);
    const place = { inode: orphan?.compressed.get(stood) ?? stood, offset: Number(offset), unfinished: Number(unfinished) };
    const claim = this.hold(id, stored.stream, place);
    orphan?.letGo();
    orphan?.input?.leave();
    return { claim, place, inputIsKnown: !this.hasInputUnderWay(id) };
  }

  /** Holds what the readers of instances that are gone may still come for. */
  adopt(): void {
    for (const id of readdirSync(this.options.paths.readers)) {
      if (id.endsWith(inputSuffix) || this.orphans.has(id)) continue;
      const stored = this.read(id);
      if (stored !== undefined && isAlive(stored.owner.pid, stored.owner.start)) continue;
      if (stored === undefined) this.forget(id);
      else this.adoptOne(id, stored);
    }
  }

  /**
   * Resolves when nobody reads the container's log any more, at whichever instance. A reader whose instance was killed is waited for as long as its holder
   * may come back.
   */
  async whenUnread(containerId: string): Promise<void> {
    for (let waitMs = 20; ; waitMs = Math.min(2 * waitMs, mostBetweenLooksMs)) {
      await this.options.users.whenIdle(containerId);
      if (!this.isReadElsewhere(containerId)) return;
      await pause(waitMs, undefined, { ref: false });
    }
  }

  /** The inodes of the log files at which attached readers stand whom other instances serve, or served until they died. */
  attachedElsewhere(containerId: string): number[] {
    return [...this.claimsOn(containerId)].flatMap(([id, { stream, owner, inode }]) =>
      stream.attached === undefined || owner.pid === this.owner.pid || this.orphans.has(id) ? [] : [inode],
    );
  }

  private isReadElsewhere(containerId: string): boolean {
    const claims = this.claimsOn(containerId);
    for (const [id, stored] of claims) {
      if (!isAlive(stored.owner.pid, stored.owner.start) && !this.orphans.has(id)) this.adoptOne(id, stored);
    }
    return claims.size > 0;
  }

  private claimsOn(containerId: string): Map<string, StoredClaim> {
    const found = new Map<string, StoredClaim>();
    for (const id of readdirSync(this.options.paths.readers)) {
      const stored = id.startsWith(namesakes(containerId)) && /^[0-9a-f]+$/.test(id) ? this.read(id) : undefined;
      if (stored?.stream.containerId === containerId) found.set(id, stored);
    }
    return found;
  }

  /** From now on readers do not end, they go on elsewhere: their claims stay. */
  stop(): void {
    this.stopping = true;
  }

  private adoptOne(id: string, { stream, inode }: StoredClaim): void {
    const { graceMs = defaultGraceMs } = this.options;
    this.keep(id, stream, { inode, offset: 0 }, graceMs, () => {
      const owner = this.read(id)?.owner;
      // Its holder may have come back to another instance.
      if (owner !== undefined && isAlive(owner.pid, owner.start)) return;
      this.forget(id);
      this.abandoned(stream);
    });
  }

  private keepCut(id: string, stream: ClaimedStream, place: LogPlace, input: HeldInput | undefined): void {
    const { graceMs = defaultGraceMs, cutGraceMs = defaultCutGraceMs } = this.options;
    // What is cut because we leave has not ended its input.
    const moves = this.stopping;
    const giveUp = (): void => {
      if (this.isTakenOver(id)) {
        input?.leave();
        return;
      }
      this.forget(id);
      if (input !== undefined) input.close();
      else if (moves) this.abandoned(stream);
    };
    this.keep(id, stream, place, moves ? graceMs : cutGraceMs, giveUp, input);
  }

  /** @param giveUp - called when its holder has not come back to this instance. */
  private keep(
    id: string,
    stream: ClaimedStream,
    at: Pick<LogPlace, 'inode' | 'offset'>,
    graceMs: number,
    giveUp: () => void,
    input?: HeldInput,
  ): void {
    const { users, pins, paths } = this.options;
    const release = users.use(stream.containerId);
    const pin = stream.attached === undefined ? undefined : pins.pin(paths.log(stream.containerId), at.inode, at.offset);
    const letGo = (): void => {
      this.orphans.delete(id);
      clearTimeout(timer);
      pin?.release();
      release();
    };
    const timer = setTimeout(() => {
      letGo();
      giveUp();
    }, graceMs).unref();
    // Before this instance rotates anything, and the inode of a file that was compressed may be that of a new one.
    this.orphans.set(id, { letGo, input, compressed: compressedInodes(paths.log(stream.containerId)) });
  }

  /** @param from - where a reader that comes back stands. A new one is written down with its first cursor: before that nobody could bring it back. */
  private hold(id: string, stream: ClaimedStream, from?: LogPlace): LogClaim {
    const release = this.options.users.use(stream.containerId);
    let stands = from;
    const write = (inode: number): void => this.write(id, { stream, owner: this.owner, inode });
    const isNewest = (): boolean => this.holds.get(id) === claim && !this.isTakenOver(id);
    const claim: LogClaim = {
      stream,
      cursorOf: ({ place }) => {
        if (place.inode !== stands?.inode && isNewest()) write(place.inode);
        stands = place;
        return `${id}:${place.inode}:${place.offset}:${place.unfinished}`;
      },
      isNewest,
      inputMark: () => this.inputMark(id, isNewest),
      release: (cut, input) => {
        if (!isNewest()) input?.leave();
        else if (cut && stands !== undefined) this.keepCut(id, stream, stands, input);
        else {
          this.forget(id);
          input?.close();
        }
        if (this.holds.get(id) === claim) this.holds.delete(id);
        release();
      },
    };
    if (from !== undefined) write(from.inode);
    this.holds.set(id, claim);
    return claim;
  }

  /** Whether another instance holds it by now. */
  private isTakenOver(id: string): boolean {
    const owner = this.read(id)?.owner;
    return owner !== undefined && (owner.pid !== this.owner.pid || owner.start !== this.owner.start);
  }

  /** Whoever takes a stream over writes that down before he looks for the mark: of two who meet, at least one sees the other. */
  private inputMark(id: string, isNewest: () => boolean): InputMark {
    const path = `${this.path(id)}${inputSuffix}`;
    let underWay = 0;
    const end = (): void => {
      if (--underWay === 0) rmSync(path, { force: true });
    };
    return {
      begin: () => {
        if (underWay++ > 0) return true;
        writeFileSync(path, '');
        if (isNewest()) return true;
        end();
        return false;
      },
      end,
    };
  }

  private hasInputUnderWay(id: string): boolean {
    return existsSync(`${this.path(id)}${inputSuffix}`);
  }

  private path(id: string): string {
    return join(this.options.paths.readers, id);
  }

  private read(id: string): StoredClaim | undefined {
    try {
      return JSON.parse(readFileSync(this.path(id), 'utf8')) as StoredClaim;
    } catch {
      return undefined;
    }
  }

  private write(id: string, claim: StoredClaim): void {
    writeFileSync(`${this.path(id)}.new`, JSON.stringify(claim), { mode: 0o600 });
    renameSync(`${this.path(id)}.new`, this.path(id));
  }

  private forget(id: string): void {
    rmSync(this.path(id), { force: true });
    rmSync(`${this.path(id)}${inputSuffix}`, { force: true });
  }
}

/** How the names of all claims on a container's log begin: whoever removes it finds them without opening those of others. */
function namesakes(containerId: string): string {
  return containerId.slice(0, 16);
}
