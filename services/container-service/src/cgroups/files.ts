/** Reading and writing of control files. A group that is gone reads as nothing: containers end at any moment. */
import { existsSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { hasCode } from '@flotilla/syscalls';

/** A control file's text without its last newline, or undefined when it, or its group, is not there. */
export function readControl(directory: string | undefined, file: string): string | undefined {
  if (directory === undefined) return undefined;
  try {
    return readFileSync(join(directory, file), 'utf8').trimEnd();
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENODEV', 'EOPNOTSUPP')) return undefined;
    throw error;
  }
}

/** A control file's one number; `max` and what is absent are undefined. */
export function readNumber(directory: string | undefined, file: string): number | undefined {
  const text = readControl(directory, file);
  return text === undefined || !/^-?\d+$/.test(text) ? undefined : Number(text);
}

/** `name value` lines. */
export function readTable(directory: string | undefined, file: string): Record<string, number> | undefined {
  const text = readControl(directory, file);
  if (text === undefined) return undefined;
  const table: Record<string, number> = {};
  for (const line of text.split('\n')) {
    const space = line.indexOf(' ');
    if (space > 0) table[line.slice(0, space)] = Number(line.slice(space + 1));
  }
  return table;
}

/** @throws the kernel's error: EBUSY, EINVAL… */
export function writeControl(directory: string, file: string, value: string | number): void {
  writeFileSync(join(directory, file), String(value), { flag: 'r+' });
}

/** The pids in a group and in all groups below it. */
export function processesBelow(directory: string): number[] {
  const pids = (readControl(directory, 'cgroup.procs') ?? '')
    .split('\n')
    .filter((line) => line !== '')
    .map(Number);
  for (const child of childGroups(directory)) pids.push(...processesBelow(child));
  return pids;
}

/** Puts a process into a group, which is made where it is missing. Its first write may wait in the kernel for 10 ms: not on this thread. */
export async function joinGroup(directory: string, pid: number): Promise<void> {
  await mkdir(directory, { recursive: true });
  try {
    await enter(directory, pid);
  } catch (error) {
    // Another instance that stops removes it while nobody is in it.
    if (!hasCode(error, 'ENOENT', 'ENODEV')) throw error;
    await mkdir(directory, { recursive: true });
    await enter(directory, pid);
  }
}

async function enter(directory: string, pid: number): Promise<void> {
  // A v1 cpuset takes nobody before it has processors and memory.
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    if (readControl(directory, file) !== '' || readControl(directory, 'cgroup.controllers') !== undefined) continue;
    await writeFile(join(directory, file), await readFile(join(dirname(directory), file)));
  }
  await writeFile(join(directory, 'cgroup.procs'), String(pid));
}

/** Removes a group with all below it. @returns false while a process is still in it. */
export function removeGroup(directory: string): boolean {
  let removed = true;
  for (const child of childGroups(directory)) removed = removeGroup(child) && removed;
  try {
    if (existsSync(directory)) rmdirSync(directory);
    return removed;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return removed;
    if (hasCode(error, 'EBUSY', 'ENOTEMPTY')) return false;
    throw error;
  }
}

function childGroups(directory: string): string[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(directory, entry.name));
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENODEV')) return [];
    throw error;
  }
}
