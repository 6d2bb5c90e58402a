/** Notices changes of files that an operator may replace while the proxy runs. */
import { type FSWatcher, watch } from 'node:fs';
import { dirname } from 'node:path';

/** A change is often several: a temporary file, a rename, the second half of a pair. */
const settleMs = 150;

export class FollowedFiles {
  private readonly onChange: () => void;
  private watchers: FSWatcher[] = [];
  private timer: NodeJS.Timeout | undefined;

  constructor(onChange: () => void) {
    this.onChange = onChange;
  }

  /** From now on these. Their folders are watched, for a file that is replaced by a rename is another one. */
  follow(files: readonly string[]): void {
    for (const watcher of this.watchers) watcher.close();
    this.watchers = [];
    for (const folder of new Set(files.map((file) => dirname(file)))) {
      try {
        const watcher = watch(folder, { persistent: false }, () => this.soon());
        // A folder that goes away is no reason to end; SIGHUP still reads again.
        watcher.on('error', () => watcher.close());
        this.watchers.push(watcher);
      } catch {
        // Not there any longer: what was read before stays in force.
      }
    }
  }

  private soon(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(this.onChange, settleMs).unref();
  }

  close(): void {
    clearTimeout(this.timer);
    for (const watcher of this.watchers) watcher.close();
    this.watchers = [];
  }
}
