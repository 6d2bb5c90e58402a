/**
 * What became of records that Redis had lost, noted beside their copy for operators and for the next start:
 *
 * ```
 * <data-root>/<service>/records.copy       the copy (recordCopy.ts)
 *                      /records.restored   JSON: when records were made again last, how many, and from what
 *                      /records.lost       since when records are missing that nothing tells: what no record knows is nobody's leftover then, and no copy is kept or believed.
 *                                          Deleting it says that what no record knows is a leftover: an operator does, once the data of Redis are put back or given up.
 * ```
 */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { compareRevisions } from './revision.ts';

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

/** @param at - now, in ms by Redis' clock: everything that is made from now on is newer. */
export function noteLost(directory: string, at: number): void {
  write(directory, lostPath(directory), `${new Date(at).toISOString()}\n`);
}

/** Whether a Redis whose newest revision is this one has what was lost, and not what was made since. */
export function isPutBack(directory: string, newest: string): boolean {
  if (newest === '0-0' || !areLost(directory)) return false;
  const since = Date.parse(readFileSync(lostPath(directory), 'utf8').trim());
  return compareRevisions(newest, `${since}-0`) < 0;
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
