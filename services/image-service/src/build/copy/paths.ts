/** Paths inside a root that hostile links may point out of. Nobody else changes the root meanwhile, so a resolved path stays what it was. */
import { lstatSync, readlinkSync, type Stats } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { InvalidParameter } from '@flotilla/errors';
import { Turns } from '../../turns.ts';
import { charactersOf, PathPattern } from '../pathPattern.ts';

const mostLinks = 255;
/** What it may take to compare names with a pattern: a million names take less. Two or three seconds at the worst, a few milliseconds at a time. */
const mostWork = 100_000_000;

export function statOf(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch {
    // A file where a directory was expected, a name that is too long: nothing can be there.
    return undefined;
  }
}

/**
 * Where `path` lies on this host, with links followed as a chroot into `root` would. What does not exist stays as it is written.
 *
 * @param followLast - whether a link at the very end is followed too.
 */
export function resolveInRoot(root: string, path: string, followLast = true): string {
  const pending = path.split('/').reverse();
  let resolved: string[] = [];
  let links = 0;
  for (let part = pending.pop(); part !== undefined; part = pending.pop()) {
    if (part === '' || part === '.') continue;
    if (part === '..') {
      resolved.pop();
      continue;
    }
    const here = join(root, ...resolved, part);
    const isLast = pending.every((rest) => rest === '' || rest === '.');
    if ((followLast || !isLast) && statOf(here)?.isSymbolicLink() === true) {
      if (++links > mostLinks) throw new InvalidParameter(`too many symbolic links in ${path}`);
      const target = readlinkSync(here);
      if (target.startsWith('/')) resolved = [];
      pending.push(...target.split('/').reverse());
      continue;
    }
    resolved.push(part);
  }
  return join(root, ...resolved);
}

/** Without `.`, `..` and doubled slashes; `..` does not lead above the start. */
export function cleanPath(path: string): string {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return parts.join('/');
}

/** Whether a relative path leads above its start. */
export function leadsOutside(path: string): boolean {
  let depth = 0;
  for (const part of path.split('/')) {
    if (part === '..') depth--;
    else if (part !== '' && part !== '.') depth++;
    if (depth < 0) return true;
  }
  return false;
}

export function hasWildcards(path: string): boolean {
  return /(^|[^\\])(\\\\)*[*?[]/.test(path);
}

/** The paths below `root` that a pattern of Go's filepath.Match means, in order. Links on the way are followed inside the root. @throws InvalidParameter */
export async function expandWildcards(root: string, pattern: string): Promise<string[]> {
  let found = [''];
  const work = { left: mostWork };
  const turns = new Turns();
  const parts = pattern.split('/').filter((part) => part !== '' && part !== '.');
  for (const part of parts) {
    const pattern = new PathPattern(part, 'go');
    const parents = found;
    found = [];
    for (const parent of parents) {
      const directory = resolveInRoot(root, parent);
      if (statOf(directory)?.isDirectory() !== true) continue;
      for (const name of await readdir(directory)) {
        await turns.pass();
        if (pattern.matches(charactersOf(name), 'whole', work)) found.push(parent === '' ? name : `${parent}/${name}`);
      }
    }
  }
  return found.sort();
}
