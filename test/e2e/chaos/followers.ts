/**
 * Clients that listen all the time: `logs -f`, `attach`, `events`. What they hear must be whole, from where they came in, and only the death of the gateway that holds
 * their own connection may end them, or leave them deaf where they wait at another one (docs/compat.md); then another one takes over.
 */
import { type TestHost, waitFor } from '@flotilla/testkit';
import type { Journal } from './journal.ts';
import { holdersOf } from './links.ts';

const boundMs = 45_000;
/** What they listen to is never silent so long. */
const deafMs = 5_000;
/** An event may come this much later than one of another service: while its own is stopped, or taken for dead, nobody passes it on. */
const lateMs = 15_000;
const steps: ReadonlySet<string> = new Set(['create', 'start', 'die', 'destroy']);
/** One line an event, without a space, and no two alike: the two ends of concurrent execs are told apart. */
export const eventFormat = '{{.TimeNano}}/{{.Actor.Attributes.execID}}{{.Actor.Attributes.container}}/{{.Type}}/{{.Action}}/{{.Actor.ID}}';

interface Session {
  readonly pid: number;
  /** Nothing when it has ended meanwhile. */
  readonly kill: () => void;
  readonly ended: Promise<void>;
  text: string;
  isOver: boolean;
  /** The gateways that hold its connections: what it listens to, what it waits for, one that it has asked before. */
  holders: readonly number[];
}

export class Follower {
  readonly line: string;
  private readonly host: TestHost;
  private readonly journal: Journal;
  private readonly deafMs: number;
  private readonly sessions: Session[] = [];
  private stopping = false;

  constructor(host: TestHost, journal: Journal, line: string, silentMs: number = deafMs) {
    this.deafMs = silentMs;
    this.line = line;
    this.host = host;
    this.journal = journal;
  }

  /** Begins to listen, or goes on with a new session where the gateway of the last one has died. */
  async follow(): Promise<void> {
    const last = this.sessions.at(-1);
    if (this.stopping) return;
    const lostHolder = last?.holders.some((pid) => this.journal.killed.has(pid)) === true;
    if (last?.isOver === false) {
      if (!lostHolder || (await this.hears(last))) return;
      last.kill();
      await last.ended;
    } else if (last !== undefined && !lostHolder) {
      this.journal.violated(`docker ${this.line} has ended, and its gateway lives: ${last.text.slice(-200)}`);
    }
    const session = this.begin();
    this.sessions.push(session);
    await waitFor(() => session.text !== '' || session.isOver, { timeoutMs: boundMs, what: 'it to hear something' }).catch(() =>
      this.journal.violated(`docker ${this.line} hears nothing within ${boundMs} ms`),
    );
    const gateways = (await this.host.processes()).filter(({ service }) => service === 'gateway').map(({ pid }) => pid);
    session.holders = holdersOf((await this.host.mustRun('ss', ['-xpH'])).stdout, session.pid, gateways);
  }

  /** Whether it hears anything more; one that ends has heard that much. */
  private async hears(session: Session): Promise<boolean> {
    const heard = session.text.length;
    const more = { timeoutMs: this.deafMs, what: 'it to hear more' };
    await waitFor(() => session.text.length > heard || session.isOver, more).catch(() => undefined);
    return session.text.length > heard && !session.isOver;
  }

  private begin(): Session {
    const child = this.host.dockerSpawn(...this.line.split(' '));
    const { promise, resolve } = Promise.withResolvers<void>();
    const kill = (): void => void child.kill('SIGKILL');
    const session: Session = { pid: child.pid ?? 0, kill, ended: promise, text: '', isOver: false, holders: [] };
    child.stdout?.on('data', (chunk: Buffer) => {
      session.text += chunk.toString();
    });
    child.once('close', () => {
      session.isOver = true;
      resolve();
    });
    return session;
  }

  /** Whether the last session has heard each of the lines. */
  hasHeard(lines: readonly string[]): boolean {
    const heard = new Set(this.sessions.at(-1)?.text.split('\n'));
    return lines.every((line) => heard.has(line));
  }

  /** Ends it, if it does not end by itself. */
  async stop(signal: NodeJS.Signals | undefined): Promise<void> {
    this.stopping = true;
    const last = this.sessions.at(-1);
    if (last === undefined) return;
    if (signal !== undefined && !last.isOver) process.kill(last.pid, signal);
    await last.ended;
  }

  /** Compares what each session has heard with all there was; the last one must have heard the last line. */
  check(all: readonly string[]): void {
    for (const [index, { text }] of this.sessions.entries()) {
      const heard = whole(text);
      const from = heard[0] === undefined ? 0 : all.indexOf(heard[0]);
      const until = index === this.sessions.length - 1 ? undefined : from + heard.length;
      const wanted = all.slice(from, until);
      const wrong = wanted.findIndex((line, at) => heard[at] !== line);
      if (wrong >= 0 || heard.length !== wanted.length) {
        const at = wrong < 0 ? Math.min(heard.length, wanted.length) : wrong;
        this.journal.violated(
          `docker ${this.line}, session ${index + 1}, line ${at + 1} of ${wanted.length}: ${JSON.stringify(heard[at])} instead of ${JSON.stringify(wanted[at])}`,
        );
      }
    }
  }

  /**
   * Compares the events that each session has heard with the history: each is heard exactly once, and what one thing lives through in its order. Events of
   * different services, and of work that is done at the same time, come in whichever order.
   *
   * @param history - what the last session must have heard, all of it.
   * @param later - the history again, after the last session has ended.
   */
  checkEvents(history: readonly string[], later: readonly string[]): void {
    const places = new Map(later.map((line, at) => [line, at]));
    for (const [index, { text }] of this.sessions.entries()) {
      const heard = whole(text);
      const violated = (what: string, line: string): void =>
        this.journal.violated(`docker ${this.line}, session ${index + 1} of ${this.sessions.length}: ${what}: ${line}`);
      const once = new Set<string>();
      const newest = new Map<string, number>();
      for (const line of heard) {
        const { subject, isStep } = parseEvent(line);
        const place = places.get(line);
        if (once.has(line)) violated('heard twice', line);
        else if (place === undefined) violated('heard, and not in the history', line);
        else if (isStep && place < (newest.get(subject) ?? 0)) violated('heard late', line);
        if (isStep && place !== undefined) newest.set(subject, place);
        once.add(line);
      }
      // Who was cut off has missed only what could still be under way.
      const cutMs = Math.max(0, ...heard.map((line) => parseEvent(line).timeMs)) - lateMs;
      const isLast = index === this.sessions.length - 1;
      for (const line of history) if (!once.has(line) && (isLast || parseEvent(line).timeMs < cutMs)) violated('not heard', line);
    }
  }
}

/** The lines that have come whole. */
function whole(text: string): string[] {
  return text.split('\n').slice(0, -1);
}

export interface ToldEvent {
  readonly timeMs: number;
  readonly type: string;
  readonly action: string;
  readonly id: string;
  /** What it is about, in one word. */
  readonly subject: string;
  /** Whether it is a step of a life, of which the order is certain. */
  readonly isStep: boolean;
}

/** Reads a line that `eventFormat` has made; an action may hold slashes. */
export function parseEvent(line: string): ToldEvent {
  const [, time = '0', type = '', action = '', id = ''] = /^(\d+)\/[^/]*\/([^/]+)\/([\w-]+)(?:: .*)?\/(.*)$/.exec(line) ?? [];
  return { timeMs: Number(time) / 1e6, type, action, id, subject: `${type}/${id}`, isStep: steps.has(action) && type !== 'image' };
}
