/**
 * A terminal for programs that need one (`docker run -it`): what the program writes, typing, and resizing.
 *
 * The pair comes from openpty(3); `setsid --ctty` of util-linux makes it the program's controlling terminal, so that SIGWINCH and ^C arrive
 * as they do for a person.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import { ReadStream } from 'node:tty';
import koffi from 'koffi';
import { waitFor } from './waitFor.ts';

const libc = koffi.load(null);
koffi.struct('testkit_winsize', { rows: 'uint16', columns: 'uint16', xpixel: 'uint16', ypixel: 'uint16' });
const openpty = libc.func('int openpty(_Out_ int *master, _Out_ int *slave, void *name, void *termios, testkit_winsize *size)');
const ioctl = libc.func('int ioctl(int fd, ulong request, testkit_winsize *size)');
const setWindowSize = 0x5414;

export class Terminal {
  private readonly child: ChildProcess;
  private readonly master: number;
  private readonly stream: ReadStream;
  private readonly ended: Promise<number>;
  private text = '';

  private constructor(child: ChildProcess, master: number) {
    this.child = child;
    this.master = master;
    this.stream = new ReadStream(master);
    this.stream.on('data', (chunk: Buffer | string) => {
      this.text += chunk.toString();
    });
    // EIO is how a terminal says that its last program is gone.
    this.stream.on('error', () => {});
    this.ended = new Promise((resolve) => child.once('exit', (code, signal) => resolve(code ?? (signal === 'SIGKILL' ? 137 : 128))));
  }

  /** Starts a program on a new terminal of the given size. */
  static open(
    command: string,
    args: readonly string[],
    options: { env?: NodeJS.ProcessEnv; rows?: number; columns?: number } = {},
  ): Terminal {
    const master: [number] = [-1];
    const slave: [number] = [-1];
    const size = { rows: options.rows ?? 24, columns: options.columns ?? 80, xpixel: 0, ypixel: 0 };
    if (openpty(master, slave, null, null, size) !== 0) throw new Error('openpty: no terminal to be had');
    const child = spawn('setsid', ['--ctty', '--wait', command, ...args], {
      env: options.env ?? process.env,
      stdio: [slave[0], slave[0], slave[0]],
    });
    closeSync(slave[0]);
    return new Terminal(child, master[0]);
  }

  /** All that the program has written so far, with the terminal's own line ends (CR LF). */
  get output(): string {
    return this.text;
  }

  type(text: string): void {
    (this.stream as unknown as NodeJS.WritableStream).write(text);
  }

  resize(rows: number, columns: number): void {
    if (ioctl(this.master, setWindowSize, { rows, columns, xpixel: 0, ypixel: 0 }) !== 0) throw new Error('TIOCSWINSZ failed');
  }

  /** Waits until the output after `from` matches; gives the match. */
  async expect(pattern: RegExp, options: { timeoutMs?: number; from?: number } = {}): Promise<RegExpExecArray> {
    try {
      return await waitFor(() => pattern.exec(this.text.slice(options.from ?? 0)), {
        timeoutMs: options.timeoutMs ?? 10_000,
        what: `${pattern} on the terminal`,
      });
    } catch (error) {
      throw new Error(`${(error as Error).message}; it shows ${JSON.stringify(this.text.slice(-2_000))}`, { cause: error });
    }
  }

  /** Waits for the program's end and gives its exit code. */
  async exit(timeoutMs = 15_000): Promise<number> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(`the program on the terminal has not ended; it shows ${JSON.stringify(this.text.slice(-2_000))}`)),
        timeoutMs,
      );
    });
    try {
      return await Promise.race([this.ended, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Closes the terminal; a program still on it gets SIGHUP, then SIGKILL. */
  close(): void {
    this.stream.destroy();
    if (this.child.exitCode === null) this.child.kill('SIGKILL');
  }
}
