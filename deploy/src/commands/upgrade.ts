/**
 * `flotilla upgrade --from DIR`: the stack goes on with the code of another checkout. Its supervisor leaves, DIR's takes over what runs and replaces one replica
 * after another, each new one before the old one goes. When that does not succeed, the code that ran before takes over in the same way.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync, realpathSync } from 'node:fs';
import { errorMessage, InvalidParameter, Unavailable } from '@flotilla/errors/classes';
import { askReport, callSupervisor } from '../stack/controlClient.ts';
import { type Roots, type StackPaths, stackPaths } from '../stack/paths.ts';
import { readStartCommand, type StartCommand } from '../stack/startCommand.ts';
import { endKeeper } from '../supervisor/keeper.ts';
import { startTimeOf, waitGone } from '../supervisor/process.ts';

const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

/** @throws InvalidParameter when nothing is changed; Unavailable when the new code did not come up, and the old runs on. */
export async function upgrade(roots: Roots, from: string): Promise<void> {
  const paths = stackPaths(roots);
  const code = requireCheckout(from);
  const before = await askReport(paths.control);
  const command = readStartCommand(paths);
  if (command.args.includes('--foreground')) {
    throw new InvalidParameter(
      'this stack runs in the foreground of another program (systemd): let that start the new code; containers go on',
    );
  }
  const versions = `${before.version} (${command.code}) to ${versionOf(code)} (${code})`;
  say(`upgrading from ${versions}`);
  await uninterrupted(async () => {
    try {
      await takeOver(paths, command, code);
    } catch (error) {
      say(`${errorMessage(error)}; going back to ${command.code}`);
      await takeOver(paths, command, command.code);
      throw new Unavailable(`not upgraded from ${versions}; what ran before runs on`);
    }
  });
  say(`upgraded to ${versionOf(code)}`);
}

/** Between two supervisors nobody minds the stack: neither a signal nor a terminal that is gone ends this before one is there. */
async function uninterrupted(work: () => Promise<void>): Promise<void> {
  const ignore = (): void => undefined;
  const signals = ['SIGINT', 'SIGHUP', 'SIGTERM'] as const;
  for (const signal of signals) process.on(signal, ignore);
  for (const stream of [process.stdout, process.stderr]) stream.on('error', ignore);
  try {
    await work();
  } finally {
    for (const signal of signals) process.off(signal, ignore);
  }
}

function requireCheckout(directory: string): string {
  try {
    const code = realpathSync(directory);
    accessSync(`${code}/deploy/src/main.ts`, constants.R_OK);
    if (!existsSync(`${code}/node_modules/node/bin/node`))
      throw new InvalidParameter(`the packages are not installed: run 'npm ci' in ${code}`);
    return code;
  } catch (error) {
    if (error instanceof InvalidParameter) throw error;
    throw new InvalidParameter(`--from ${directory} is no checkout of Flotilla: ${errorMessage(error)}`);
  }
}

function versionOf(code: string): string {
  return (JSON.parse(readFileSync(`${code}/package.json`, 'utf8')) as { version: string }).version;
}

/** Lets the supervisor go, if there is one, and another one of the code's take over. */
async function takeOver(paths: StackPaths, command: StartCommand, code: string): Promise<void> {
  const report = await askReport(paths.control).catch(() => undefined);
  if (report !== undefined) {
    const startTime = startTimeOf(report.pid);
    await callSupervisor(paths.control, { command: 'leave' });
    if (startTime !== undefined && !(await waitGone({ pid: report.pid, startTime }, 10_000)))
      throw new Unavailable('the supervisor does not leave');
  } else if (!(await endKeeper(paths))) throw new Unavailable('the supervisor does not leave');
  const child = spawn('sh', [`${code}/deploy/flotilla`, ...command.args], {
    cwd: command.cwd,
    // Where compiled code is kept is each checkout's own.
    env: { ...command.env, NODE_COMPILE_CACHE: `${code}/.cache/node/root` },
    // Signals of the terminal are not for it, and what it says goes by this process.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.stdout.on('data', (chunk: Buffer) => process.stdout.write(chunk));
  child.stderr.on('data', (chunk: Buffer) => process.stderr.write(chunk));
  const status = await new Promise<number | null>((resolve, reject) => child.once('close', resolve).once('error', reject));
  if (status !== 0) throw new Unavailable(`the code of ${code} did not come up`);
  const running = readStartCommand(paths).code;
  if (running !== code) throw new Unavailable(`the code of ${running} runs in place of that of ${code}`);
}
