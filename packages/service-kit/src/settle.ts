/** What starting took is given back: loading modules leaves garbage in V8's heap and free pages in every arena of malloc, and neither returns them by itself. */
import { flushCompileCache } from 'node:module';
import { releaseProgramPages, trimMemory } from '@flotilla/syscalls';

/** Some way after `ready`, so that the first requests do not wait for it. */
const afterMs = 3_000;
/** Free pages pile up in malloc's arenas after a load, too. */
const trimEveryMs = 30_000;

export function settleAfterStart(): void {
  setTimeout(() => {
    // Node keeps compiled code at exit only, and a process that is killed never gets there.
    flushCompileCache();
    globalThis.gc?.();
    trimMemory();
    releaseProgramPages();
  }, afterMs).unref();
  setInterval(trimMemory, trimEveryMs).unref();
}
