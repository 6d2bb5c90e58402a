/** The `flotilla up` that a stack was started with, kept for whoever starts its next supervisor: 0600, for a URL may hold a password. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { codeRoot, type StackPaths } from './paths.ts';

/** Set by a supervisor that reads its settings again, with the roots of its stack. */
export const reloadingVariable = 'FLOTILLA_RELOADING';

/** Behind the plan's path: the supervisor was another one before, and has new settings. */
export const reloadedArgument = 'reloaded';

/** The stack whose settings are read again. */
export interface Reloading {
  readonly dataRoot: string;
  readonly execRoot: string;
}

/** What {@link reloadingVariable} says; nothing that is started from here shall see it. */
export function takeReloading(): Reloading | undefined {
  const text = process.env[reloadingVariable];
  delete process.env[reloadingVariable];
  return text === undefined ? undefined : (JSON.parse(text) as Reloading);
}

export interface StartCommand {
  /** The checkout whose code runs. */
  readonly code: string;
  /** What stood behind `flotilla`. */
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
}

export function writeStartCommand(paths: StackPaths): void {
  const env = Object.fromEntries(Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined));
  const command: StartCommand = { code: codeRoot, args: process.argv.slice(2), cwd: process.cwd(), env };
  writeFileSync(`${paths.command}.new`, `${JSON.stringify(command)}\n`, { mode: 0o600 });
  renameSync(`${paths.command}.new`, paths.command);
}

export function readStartCommand(paths: StackPaths): StartCommand {
  return JSON.parse(readFileSync(paths.command, 'utf8')) as StartCommand;
}
