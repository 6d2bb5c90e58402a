/** `--chown` and `--chmod`: names resolved in the image's own files, modes octal or as chmod(1) writes them. */
import { readFileSync } from 'node:fs';
import { InvalidParameter, System } from '@flotilla/errors';
import type { BuildManner } from '../options.ts';
import { resolveInRoot } from './paths.ts';

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

const largestId = 2 ** 32 - 2;

/** @param root - the image's file system. @throws in dockerd's words for a name that is not there. */
export function parseOwner(text: string, root: string, manner: BuildManner): Owner {
  const parts = text.split(':');
  if (parts.length > 2) throw new InvalidParameter(`invalid chown string format: ${text}`);
  const [user = '', group = user] = parts;
  const { uid, gid } = findOwner(text, root, manner);
  if (uid === undefined)
    throw new System(`unable to convert uid/gid chown string to host mapping: can't find uid for user ${user}: no such user: ${user}`);
  if (gid === undefined)
    throw new System(`unable to convert uid/gid chown string to host mapping: can't find gid for group ${group}: no such group: ${group}`);
  return { uid, gid };
}

/**
 * Numbers of a `user[:group]`; undefined for a name that is not there. Without a group a user's number is the group's too. For a user's name BuildKit takes the
 * group that the user is in, and the classic builder the group of that name.
 */
export function findOwner(
  text: string,
  root: string,
  manner: BuildManner,
): { readonly uid: number | undefined; readonly gid: number | undefined } {
  const [user = '', group] = text.split(':');
  const entry = number(user) === undefined ? find(root, '/etc/passwd', user) : undefined;
  const uid = number(user) ?? number(entry?.[2] ?? '');
  if (group === undefined && manner === 'buildkit') return { uid, gid: number(entry?.[3] ?? user) };
  const named = group ?? user;
  return { uid, gid: number(named) ?? number(find(root, '/etc/group', named)?.[2] ?? '') };
}

function number(text: string): number | undefined {
  if (!/^[0-9]+$/.test(text)) return undefined;
  const id = Number(text);
  return id <= largestId ? id : undefined;
}

/** The fields of a line that begins with a name. */
function find(root: string, file: string, name: string): string[] | undefined {
  let text: string;
  try {
    text = readFileSync(resolveInRoot(root, file), 'utf8');
  } catch {
    return undefined;
  }
  return text
    .split('\n')
    .map((line) => line.split(':'))
    .find(([entry]) => entry === name);
}

/** Gives a file's new mode from its old one. */
export type ModeChange = (mode: number, isDirectory: boolean) => number;

const octal = /^[0-7]{1,4}$/;
const clause = /^([ugoa]*)((?:[-+=][rwxXst]*)+)$/;

/** @throws InvalidParameter */
export function parseMode(text: string): ModeChange {
  if (octal.test(text)) {
    const mode = Number.parseInt(text, 8);
    return () => mode;
  }
  const clauses = text.split(',').map((part) => {
    const match = clause.exec(part);
    if (match === null) throw new InvalidParameter(`invalid chmod parameter: '${text}'. it should be octal string and between 0 and 07777`);
    const who = match[1] === '' || match[1] === undefined || match[1].includes('a') ? 'ugo' : match[1];
    return { who, acts: [...(match[2] ?? '').matchAll(/([-+=])([rwxXst]*)/g)] };
  });
  return (mode, isDirectory) => {
    let changed = mode;
    for (const { who, acts } of clauses) {
      for (const [, operator = '', letters = ''] of acts) changed = apply(changed, who, operator, letters, isDirectory);
    }
    return changed;
  };
}

const shifts: Readonly<Record<string, number>> = { u: 6, g: 3, o: 0 };

function apply(mode: number, who: string, operator: string, letters: string, isDirectory: boolean): number {
  let bits = 0;
  let mask = 0;
  for (const whose of who) {
    const shift = shifts[whose] ?? 0;
    mask |= 7 << shift;
    if (letters.includes('r')) bits |= 4 << shift;
    if (letters.includes('w')) bits |= 2 << shift;
    if (letters.includes('x') || (letters.includes('X') && (isDirectory || (mode & 0o111) !== 0))) bits |= 1 << shift;
    if (letters.includes('s') && whose === 'u') bits |= 0o4000;
    if (letters.includes('s') && whose === 'g') bits |= 0o2000;
  }
  if (letters.includes('t')) bits |= 0o1000;
  if (operator === '+') return mode | bits;
  if (operator === '-') return mode & ~bits;
  return (mode & ~mask) | bits;
}
