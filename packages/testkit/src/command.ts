/** Running programs from tests: to the end with everything they said, or in the background with a handle. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';

export interface CommandOptions {
  /** Given to the program's stdin, which is then closed. */
  readonly input?: string | Buffer;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** After this the program is killed and the call throws. Default 60,000. */
  readonly timeoutMs?: number;
}

export interface CommandResult {
  /** Exit code, or 128 + signal number when a signal ended the program, as a shell says it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** stdout as it came, for binary output. */
  readonly stdoutBytes: Buffer;
}

const signalNumbers: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGPIPE: 13,
  SIGTERM: 15,
};

/** Starts a program and waits for its end. A non-zero exit is an answer, not an error; not being able to start it is. */
export async function runCommand(command: string, args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const child = spawn(command, [...args], { env: options.env ?? process.env, cwd: options.cwd, stdio: 'pipe' });
  return finish(child, [command, ...args].join(' '), options);
}

/** Waits for the end of a child made elsewhere; same rules as {@link runCommand}. */
export async function finish(child: ChildProcessWithoutNullStreams, title: string, options: CommandOptions = {}): Promise<CommandResult> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  // A program may end before it has read its input; that is its right.
  child.stdin.on('error', () => {});
  child.stdin.end(options.input ?? '');
  const timeoutMs = options.timeoutMs ?? 60_000;
  return new Promise((resolve, reject) => {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
      // A grandchild may hold the pipes open, and then 'close' never comes.
      child.stdout.destroy();
      child.stderr.destroy();
    }, timeoutMs);
    child.once('error', (error) => {
      clearTimeout(timer);
      reject(new Error(`cannot run ${title}: ${error.message}`, { cause: error }));
    });
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      const stdoutBytes = Buffer.concat(stdout);
      const text = { stdout: stdoutBytes.toString(), stderr: Buffer.concat(stderr).toString() };
      if (late) reject(new Error(`${title}: not finished after ${timeoutMs} ms\nstdout: ${text.stdout}\nstderr: ${text.stderr}`));
      else resolve({ code: code ?? 128 + (signalNumbers[signal ?? ''] ?? 0), ...text, stdoutBytes });
    });
  });
}

/** As {@link runCommand}, but a non-zero exit throws with what the program said. */
export async function mustRun(command: string, args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  return mustSucceed(await runCommand(command, args, options), [command, ...args].join(' '));
}

export function mustSucceed(result: CommandResult, title: string): CommandResult {
  if (result.code !== 0) throw new Error(`${title}: exit ${result.code}\n${result.stderr || result.stdout}`);
  return result;
}
