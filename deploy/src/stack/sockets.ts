/** The sockets at which the instances of a running stack's services answer operators' commands. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ServiceName } from './services.ts';

/** One for each instance, also for one that has died and left it; none when the stack is down. */
export function socketsOf(execRoot: string, service: ServiceName, kind: 'grpc' | 'http'): string[] {
  const folder = join(execRoot, 'sockets', service);
  try {
    return readdirSync(folder)
      .filter((name) => name.endsWith(`.${kind}.sock`))
      .map((name) => join(folder, name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
