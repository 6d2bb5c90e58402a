/** Options of a tmpfs: Docker's defaults, the user's over them, conflicts resolved in favour of the later. */
import { InvalidParameter } from '@flotilla/errors';

const defaults = ['noexec', 'nosuid', 'nodev'];

/** Words that contradict each other: the last one given stays. */
const opposites: readonly (readonly string[])[] = [
  ['ro', 'rw'],
  ['suid', 'nosuid'],
  ['dev', 'nodev'],
  ['exec', 'noexec'],
  ['sync', 'async'],
  ['dirsync'],
  ['mand', 'nomand'],
  ['atime', 'noatime', 'relatime', 'norelatime', 'strictatime', 'nostrictatime'],
  ['diratime', 'nodiratime'],
  ['bind', 'rbind'],
  ['private', 'rprivate', 'shared', 'rshared', 'slave', 'rslave', 'unbindable', 'runbindable'],
  ['remount'],
  ['defaults'],
];
const valued = ['size', 'mode', 'uid', 'gid', 'nr_inodes', 'nr_blocks', 'mpol', 'huge'];

/** @throws InvalidParameter for an option tmpfs does not have. */
export function mergeTmpfsOptions(options: readonly string[]): string[] {
  const merged = new Map<string, string>();
  for (const option of [...defaults, ...options]) {
    const equals = option.indexOf('=');
    const name = equals < 0 ? option : option.slice(0, equals);
    const group = equals < 0 ? opposites.find((words) => words.includes(name)) : undefined;
    if (group === undefined && !(equals > 0 && valued.includes(name))) {
      throw new InvalidParameter(`invalid tmpfs option [${JSON.stringify(name)} ${JSON.stringify(option)}]`);
    }
    const key = group?.[0] ?? name;
    merged.delete(key);
    merged.set(key, option);
  }
  return [...merged.values()].filter((option) => option !== 'defaults');
}
