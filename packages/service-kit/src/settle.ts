/** What starting took is given back: loading modules leaves garbage in V8's heap and free pages in every arena of malloc, and neither returns them by itself. */
import { flushCompileCache } from 'node:module';
import { releaseProgramPages, trimMemory } from '@flotilla/syscalls';
import type { Logger } from './logger.ts';

/** Some way after `ready`, so that the first requests do not wait for it. */
const afterMs = 3_000;
/** Free pages pile up in malloc's arenas after a load, too, and pages of the program that only the load needed stay mapped. */
const againEveryMs = 30_000;

export function settleAfterStart(logger: Pick<Logger, 'warn'>): void {
  const attempt = (work: () => void) => () => {
    try {
      work();
    } catch (error) {
      logger.warn({ error }, 'memory could not be given back');
    }
  };
  setTimeout(attempt(settle), afterMs).unref();
  setInterval(attempt(giveBack), againEveryMs).unref();
}

/**
 * Of `--expose-gc`, as V8's gc-extension.h has it. The collection of last resort is the one that V8 makes before it would run out of memory: several in a row, and
 * with them go code that nobody has run of late and what only weak references hold.
 */
const collectAll = globalThis.gc as
  | ((options: { readonly type: 'major'; readonly flavor: 'last-resort'; readonly execution: 'sync' }) => void)
  | undefined;

function settle(): void {
  // Node keeps compiled code at exit only, and a process that is killed never gets there.
  flushCompileCache();
  collectAll?.({ type: 'major', flavor: 'last-resort', execution: 'sync' });
  giveBack();
}

function giveBack(): void {
  trimMemory();
  releaseProgramPages();
}
