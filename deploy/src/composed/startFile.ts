/**
 * What one process of a stack needs to know where each of them runs in a container of its own (docker-compose.yml): <exec-root>/<process>/start.json, written by
 * `flotilla prepare` and readable only for the user of that process, since its passwords are in it.
 */
import { readFileSync, rmSync } from 'node:fs';
import type { Account } from '../stack/accounts.ts';
import { writeOwnedFile } from '../stack/ownedFile.ts';
import type { ProcessPlan } from '../stack/plan.ts';

export type StartFile = Pick<ProcessPlan, 'command' | 'env' | 'probe'>;

/** Which instance a container is, for its health check; in the container's own /tmp. */
export const instanceFile = '/tmp/instance';

export function startFilePath(execRoot: string, process: string): string {
  return `${execRoot}/${process}/start.json`;
}

export function writeStartFile(path: string, { command, env, probe }: StartFile, reader: Account): void {
  writeOwnedFile(path, `${JSON.stringify({ command, env, probe })}\n`, reader);
}

/** Nobody starts by it until it is written again. */
export function withdrawStartFile(path: string): void {
  rmSync(path, { force: true });
}

/** @returns undefined while it is not there. */
export function readStartFile(path: string): StartFile | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as StartFile;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
