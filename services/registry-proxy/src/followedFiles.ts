/** Notices changes of files that an operator may replace while the proxy runs. */
import { existsSync, type FSWatcher, watch } from 'node:fs';
import { dirname } from 'node:path';

/** A change is often several: a temporary file, a rename, the second half of a pair. */
const settleMs = 150;

export class FollowedFiles {
  private readonly onChange: () => void;
  private folders: readonly string[] = [];
  private watched = '';
  private watchers: FSWatcher[] = [];
  private hasChanged = false;
  private timer: NodeJS.Timeout | undefined;

  constructor(onChange: () => void) {
    this.onChange = onChange;
  }

  /** From now on these. Their folders are watched, for a file that is replaced by a rename is another one. */
  follow(files: readonly string[]): void {
    this.folders = [...new Set(files.map((file) => dirname(file)))];
    this.watch();
  }

  private watch(): void {
    for (const watcher of this.watchers) watcher.close();
    this.watchers = [];
    // Of a folder that has gone, the nearest above it that is there tells when it is made again.
    const folders = [...new Set(this.folders.map(nearest))];
    this.watched = folders.join('\n');
    for (const folder of folders) {
      try {
        const watcher = watch(folder, { persistent: false }, () => this.soon(this.folders.includes(folder)));
        watcher.on('error', () => watcher.close());
        this.watchers.push(watcher);
      } catch {
        // Not to be watched, or gone in this moment: what was read before stays in force, and SIGHUP reads again.
      }
    }
  }

  private soon(isOurs: boolean): void {
    this.hasChanged ||= isOurs;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const before = this.watched;
      // A folder that was made again is another one.
      this.watch();
      if (!this.hasChanged && this.watched === before) return;
      this.hasChanged = false;
      this.onChange();
    }, settleMs).unref();
  }

  close(): void {
    clearTimeout(this.timer);
    for (const watcher of this.watchers) watcher.close();
    this.watchers = [];
  }
}

function nearest(folder: string): string {
  return existsSync(folder) || dirname(folder) === folder ? folder : nearest(dirname(folder));
}
