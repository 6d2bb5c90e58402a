/** What starting took is given back: loading modules leaves garbage in V8's heap and free pages in every arena of malloc, and neither returns them by itself. */
import { flushCompileCache } from 'node:module';
import { releaseProgramPages, trimMemory } from '@flotilla/syscalls';
import type { Logger } from './logger.ts';

/** Some way after `ready`, so that the first requests do not wait for it. */
const afterMs = 3_000;
/** Free pages pile up in malloc's arenas after a load, too. */
const trimEveryMs = 30_000;

export function settleAfterStart(logger: Pick<Logger, 'warn'>): void {
  setTimeout(() => {
    try {
      giveBack();
    } catch (error) {
      logger.warn({ error }, 'the memory that starting took could not be given back');
    }
  }, afterMs).unref();
  setInterval(trimMemory, trimEveryMs).unref();
}

function giveBack(): void {
  // Node keeps compiled code at exit only, and a process that is killed never gets there.
  flushCompileCache();
  globalThis.gc?.();
  trimMemory();
  releaseProgramPages();
}
