/**
 * One process at a time acts on a container, whatever has become of its lease: the kernel, which checks no fencing token, is reached only under a lock on the
 * container's directory. It goes with its process, however that ends.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { Unavailable } from '@flotilla/errors';
import { hasCode, tryLockFile } from '@flotilla/syscalls';

const firstPauseMs = 2;
const longestPauseMs = 50;
const defaultPatienceMs = 60_000;

export class ContainerLocks {
  private readonly directoryOf: (id: string) => string;
  private readonly patienceMs: number;

  constructor(directoryOf: (id: string) => string, patienceMs: number = defaultPatienceMs) {
    this.directoryOf = directoryOf;
    this.patienceMs = patienceMs;
  }

  /** @throws Unavailable when another process keeps it for too long. */
  async withLock<T>(id: string, work: () => Promise<T>): Promise<T> {
    const fd = openIfThere(this.directoryOf(id));
    // Without a directory it is being made, or all of it is gone.
    if (fd === undefined) return await work();
    try {
      const end = Date.now() + this.patienceMs;
      for (let pauseMs = firstPauseMs; !tryLockFile(fd); pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
        if (Date.now() > end) throw new Unavailable(`container ${id} is being changed by another process`);
        await pause(pauseMs);
      }
      return await work();
    } finally {
      closeSync(fd);
    }
  }
}

function openIfThere(path: string): number | undefined {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}
