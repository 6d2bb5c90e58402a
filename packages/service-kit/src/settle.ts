/** What starting took is given back: loading modules leaves garbage in V8's heap and free pages in every arena of malloc, and neither returns them by itself. */
import { flushCompileCache } from 'node:module';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
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

function settle(): void {
  // Node keeps compiled code at exit only, and a process that is killed never gets there.
  flushCompileCache();
  collectAll();
  giveBack();
}

/**
 * The collection of last resort is the one that V8 makes before it would run out of memory: several in a row, and with them goes what only weak references hold, and the compiled form
 * of functions that have not run between two of them. Most of those ran once, to start; one that is called again is compiled again.
 *
 * V8 puts `gc` (gc-extension.h) among the globals of a context that is made while the flag is set; for why not on the command line see letHeapGrow().
 */
function collectAll(): void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as Collect;
  setFlagsFromString('--no-expose-gc');
  setFlagsFromString('--bytecode-old-age=1');
  collect({ type: 'major', flavor: 'last-resort', execution: 'sync' });
  setFlagsFromString(`--bytecode-old-age=${usualAge}`);
}

type Collect = (options: { readonly type: 'major'; readonly flavor: 'last-resort'; readonly execution: 'sync' }) => void;

/** Collections that a function's compiled form outlives without running; V8's default. */
const usualAge = 6;

/**
 * The heap is bounded on purpose, for V8 keeps what it once took. But in a small heap it collects all of it for every few megabytes of buffers that pass through, which took half of
 * the time: from here on it waits until twice the heap's size has come in.
 *
 * To be called once the process has loaded what it runs. Node's own modules come compiled for the flags that Node was built with: with this one or `--expose-gc` on the command line it
 * compiles them itself, which takes longer to start, and keeps what it compiled, a megabyte.
 */
export function letHeapGrow(): void {
  setFlagsFromString('--heap-growing-percent=200');
}

function giveBack(): void {
  trimMemory();
  releaseProgramPages();
}
