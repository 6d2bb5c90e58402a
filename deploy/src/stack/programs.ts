/** The system's programs that a stack needs, found along PATH and where Debian puts what only root uses. */
import { accessSync, constants } from 'node:fs';
import { InvalidParameter } from '@flotilla/errors/classes';

const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** PATH for every process of the stack: the operator's, and the system's behind it. */
export function searchPath(env: NodeJS.ProcessEnv = process.env): string {
  return [...new Set([...(env.PATH ?? '').split(':'), ...systemPath.split(':')].filter((part) => part.startsWith('/')))].join(':');
}

export function findProgram(name: string): string | undefined {
  return searchPath()
    .split(':')
    .map((directory) => `${directory}/${name}`)
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** @throws InvalidParameter that says how to get it. */
export function requireProgram(name: string): string {
  const path = findProgram(name);
  if (path === undefined)
    throw new InvalidParameter(`${name} is not installed: run deploy/setup.sh (flotilla doctor shows what else is missing)`);
  return path;
}
