/**
 * Where logs are said to be. dockerd keeps its containers' directories in `<data-root>/containers`: what collects logs looks there, and often has that directory alone
 * mounted into a container of its own. So a link from there leads to ours, and paths of logs are told by way of it.
 */
import { mkdirSync, statSync, symlinkSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { hasCode } from '@flotilla/syscalls';
import type { Paths } from './paths.ts';

/** Makes the link; gives what is told of the path of a log. */
export function showLogs(paths: Pick<Paths, 'data' | 'containers'>): (logPath: string) => string {
  const link = join(dirname(paths.data), 'containers');
  mkdirSync(paths.containers, { recursive: true, mode: 0o710 });
  try {
    symlinkSync(relative(dirname(link), paths.containers), link);
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
  }
  // What somebody else has put there is left alone.
  const isOurs = statSync(link, { throwIfNoEntry: false })?.ino === statSync(paths.containers).ino;
  return (logPath) => (isOurs && logPath.startsWith(`${paths.containers}/`) ? link + logPath.slice(paths.containers.length) : logPath);
}
