/** Bytes of a file, or of all below a directory that is none, symbolic links among it: each inode once, as dockerd counts. */
import { type Dirent, lstatSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode } from '@flotilla/syscalls';
import { Turns } from './turns.ts';

/** What is taken away while it is counted counts as nothing: containers and builds change their files. */
export async function treeSize(root: string): Promise<number> {
  const top = lstatSync(root, { throwIfNoEntry: false });
  if (top?.isDirectory() !== true) return top?.size ?? 0;
  let size = 0;
  const turns = new Turns();
  const seen = new Set<number>();
  const pending = [root];
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    for (const entry of await entriesOf(directory)) {
      const path = join(directory, entry.name);
      if (entry.isDirectory()) {
        pending.push(path);
        continue;
      }
      await turns.pass();
      const stat = lstatSync(path, { throwIfNoEntry: false });
      if (stat === undefined || seen.has(stat.ino)) continue;
      if (stat.nlink > 1) seen.add(stat.ino);
      size += stat.size;
    }
  }
  return size;
}

async function entriesOf(directory: string): Promise<Dirent[]> {
  try {
    return await readdir(directory, { withFileTypes: true });
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return [];
    throw error;
  }
}
