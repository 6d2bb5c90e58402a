/**
 * Clients that listen all the time: `logs -f`, `attach`, `events`. What they hear must be whole, from where they came in, and only the death of the gateway that holds
 * their own connection may end them; then another one takes over.
 */
import { type TestHost, waitFor } from '@flotilla/testkit';
import type { Journal } from './journal.ts';
import { holderOf } from './links.ts';

const boundMs = 45_000;

interface Session {
  readonly pid: number;
  readonly ended: Promise<void>;
  text: string;
  isOver: boolean;
  /** The gateway that holds its connection. */
  holder: number | undefined;
}

export class Follower {
  readonly line: string;
  private readonly host: TestHost;
  private readonly journal: Journal;
  private readonly sessions: Session[] = [];
  private stopping = false;

  constructor(host: TestHost, journal: Journal, line: string) {
    this.line = line;
    this.host = host;
    this.journal = journal;
  }

  /** Begins to listen, or goes on with a new session where the gateway of the last one has died. */
  async follow(): Promise<void> {
    const last = this.sessions.at(-1);
    if (last?.isOver === false || this.stopping) return;
    if (last !== undefined && !this.journal.killed.has(last.holder ?? 0)) {
      this.journal.violated(`docker ${this.line} has ended, and its gateway lives: ${last.text.slice(-200)}`);
    }
    const session = this.begin();
    this.sessions.push(session);
    await waitFor(() => session.text !== '' || session.isOver, { timeoutMs: boundMs, what: 'it to hear something' }).catch(() =>
      this.journal.violated(`docker ${this.line} hears nothing within ${boundMs} ms`),
    );
    const gateways = (await this.host.processes()).filter(({ service }) => service === 'gateway').map(({ pid }) => pid);
    session.holder = holderOf((await this.host.mustRun('ss', ['-xpH'])).stdout, session.pid, gateways);
  }

  private begin(): Session {
    const child = this.host.dockerSpawn(...this.line.split(' '));
    const { promise, resolve } = Promise.withResolvers<void>();
    const session: Session = { pid: child.pid ?? 0, ended: promise, text: '', isOver: false, holder: undefined };
    child.stdout?.on('data', (chunk: Buffer) => {
      session.text += chunk.toString();
    });
    child.once('close', () => {
      session.isOver = true;
      resolve();
    });
    return session;
  }

  /** Whether it has heard a line that holds the word. */
  hasHeard(word: string): boolean {
    return this.sessions.at(-1)?.text.includes(word) ?? false;
  }

  /** Ends it, if it does not end by itself. */
  async stop(signal: NodeJS.Signals | undefined): Promise<void> {
    this.stopping = true;
    const last = this.sessions.at(-1);
    if (last === undefined) return;
    if (signal !== undefined && !last.isOver) process.kill(last.pid, signal);
    await last.ended;
  }

  /**
   * Compares what each session has heard with all there was.
   *
   * @param toTheEnd - the last session must have heard the last line.
   */
  check(all: readonly string[], toTheEnd: boolean): void {
    for (const [index, { text }] of this.sessions.entries()) {
      const heard = text.split('\n').slice(0, -1);
      const from = heard[0] === undefined ? 0 : all.indexOf(heard[0]);
      const until = toTheEnd && index === this.sessions.length - 1 ? undefined : from + heard.length;
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
}
