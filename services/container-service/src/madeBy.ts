/** Names of directories that say which process makes them, so that an instance that starts leaves alone those of others. */
import { randomBytes } from 'node:crypto';
import { isAlive, startTimeOf } from './processes.ts';

/** @param what - what it is of, in letters. */
export function newNameByMaker(what: string): string {
  return `${what}-${process.pid}-${startTimeOf(process.pid)}-${randomBytes(8).toString('hex')}`;
}

/** Whether it is such a name, of a process that lives. */
export function isMakerAlive(name: string): boolean {
  const [, pid, start = ''] = /^[a-z]+-(\d+)-(\d+)-/.exec(name) ?? [];
  return pid !== undefined && isAlive(Number(pid), start);
}
