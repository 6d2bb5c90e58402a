/** Takes note of the end of a process that was started without Node's spawn. */
import { waitpid } from '@flotilla/syscalls';

/** Resolves when it has ended; for one that is about to. */
export async function reap(pid: number): Promise<void> {
  for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, 100)) {
    try {
      if (waitpid(pid) !== undefined) return;
    } catch {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}
