/** Users and groups of this host, read from /etc: no account of ours is made here (deploy/setup.sh does that). */
import { readFileSync } from 'node:fs';

export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

export const root: Account = { name: 'root', uid: 0, gid: 0 };

function entries(path: string): string[][] {
  try {
    return readFileSync(path, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.split(':'));
  } catch {
    return [];
  }
}

export function findAccount(name: string, path = '/etc/passwd'): Account | undefined {
  const found = entries(path).find((fields) => fields[0] === name);
  return found === undefined ? undefined : { name, uid: Number(found[2]), gid: Number(found[3]) };
}

/** The group's id, by name or number. */
export function findGroup(name: string, path = '/etc/group'): number | undefined {
  const found = entries(path).find((fields) => fields[0] === name);
  if (found !== undefined) return Number(found[2]);
  return /^\d+$/.test(name) ? Number(name) : undefined;
}
