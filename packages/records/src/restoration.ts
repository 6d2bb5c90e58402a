/**
 * What became of records that Redis had lost, noted beside their copy for operators and for the next start:
 *
 * ```
 * <data-root>/<service>/records.copy       the copy (recordCopy.ts)
 *                      /records.restored   JSON: when records were made again last, how many, and from what
 *                      /records.lost       there while records are missing and nothing tells them: what no record knows is nobody's leftover then. Deleting it says that it is.
 * ```
 */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Restoration {
  /** ISO 8601. */
  readonly at: string;
  readonly records: number;
  /** `memory`: of an instance that ran; `copy`: the file. */
  readonly from: 'memory' | 'copy';
}

export function copyPath(directory: string): string {
  return join(directory, 'records.copy');
}

export function lostPath(directory: string): string {
  return join(directory, 'records.lost');
}

function restoredPath(directory: string): string {
  return join(directory, 'records.restored');
}

export function noteRestored(directory: string, restoration: Restoration): void {
  write(directory, restoredPath(directory), `${JSON.stringify(restoration)}\n`);
}

export function noteLost(directory: string): void {
  write(directory, lostPath(directory), `${new Date().toISOString()}\n`);
}

function write(directory: string, path: string, text: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o711 });
  writeFileSync(`${path}.new`, text, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** Whether records are missing and nothing tells them. */
export function areLost(directory: string): boolean {
  return existsSync(lostPath(directory));
}

/** The last restoration, if there was one. */
export function lastRestoration(directory: string): Restoration | undefined {
  try {
    return JSON.parse(readFileSync(restoredPath(directory), 'utf8')) as Restoration;
  } catch {
    return undefined;
  }
}
